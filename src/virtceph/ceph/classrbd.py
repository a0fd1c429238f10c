"""What the OSDs know of images by themselves: calls of their class `rbd`, to one object each, many at once.

librbd makes the same calls, among many others, when it opens an image; for nothing but its size, or the
clones of its snapshots, all the rest is in vain. What a call takes and answers is settled between every
client and every OSD of a cluster, whatever their versions, so it does not change.
"""

from __future__ import annotations

import errno
import struct
import threading
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import rados

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults, errno_of
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import CephUnavailable

_HEAD = (1 << 64) - 2  # CEPH_NOSNAP: the image itself, none of its snapshots
# So many keep an OSD busy; each has a buffer for its answer.
_AT_ONCE = 256
_ANSWER_BYTES, _LONG_ANSWER_BYTES = 8 << 10, 16 << 20
# Of cls::rbd::TrashImageState.
_NORMAL, _MOVING = 0, 1
# Nothing found, and an answer that was longer than its buffer.
_ANSWERS = (-errno.ENOENT, -errno.ERANGE)
_DIRECTORY, _TRASH, _PAGE = "rbd_directory", "rbd_trash", 512
# Of each call's own time-out, before it is believed that librados never tells.
_PATIENCE = 3

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class CloneRef:
    """A clone, as the header of its parent names it."""

    pool_id: int
    namespace: str
    image_id: str


@dataclass(frozen=True)
class TrashSpec:
    """An entry of a pool's trash. `source` is a number of cls::rbd::TrashImageSource. `moving` is one that
    is on its way into the trash, or whose way was cut short."""

    id: str
    name: str
    source: int
    deleted_at_s: float
    kept_until_s: float
    moving: bool


def sizes_of(cluster: Cluster, pool: PoolSpec, image_ids: Iterable[str]) -> dict[str, int]:
    """The sizes of images by their ids; one without a header is left out. Blocks. Source: get_size.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    calls = {i: (_header(i), "get_size", struct.pack("<Q", _HEAD)) for i in image_ids}
    answers = _call_all(cluster, pool, "read the sizes", calls)
    # The order of the object size, then the size.
    return {image_id: struct.unpack("<BQ", answer)[1] for image_id, answer in answers.items()}


def ids_of_name(cluster: Cluster, pool: PoolSpec, name: str) -> tuple[str | None, str | None]:
    """The ids that a name leads to: by its own object, as librbd opens it, and by the pool's directory. One
    that is not there is None. Blocks. Source: get_id, dir_get_id.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    calls = {
        "own": (f"rbd_id.{name}", "get_id", b""),
        "entry": (_DIRECTORY, "dir_get_id", _text(name)),
    }
    found = {
        k: Reader(a).text() for k, a in _call_all(cluster, pool, "look up the name", calls).items()
    }
    return found.get("own"), found.get("entry")


def clones_of(
    cluster: Cluster, pool: PoolSpec, image_id: str, snap_ids: Iterable[int]
) -> dict[int, list[CloneRef]]:
    """The clones (of format 2) of an image's snapshots; a snapshot without clones is left out. Blocks.
    Source: children_list.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    calls = {n: (_header(image_id), "children_list", struct.pack("<Q", n)) for n in snap_ids}
    answers = _call_all(cluster, pool, "list the clones", calls)
    return {number: _clones(Reader(answer)) for number, answer in answers.items()}


def trash_of(cluster: Cluster, pool: PoolSpec) -> list[TrashSpec]:
    """Everything in the trash, by id. Blocks. Source: trash_list. (`rbd.RBD.trash_list` of 16.2 fails with
    IndexError as soon as a migration's source is in it.)

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    found: list[TrashSpec] = []
    while True:
        asked = _text(found[-1].id if found else "") + struct.pack("<Q", _PAGE)
        calls = {"": (_TRASH, "trash_list", asked)}
        answer = _call_all(cluster, pool, "list the trash", calls).get("")
        page = [] if answer is None else _trash(Reader(answer))
        found += page
        if not page:
            return found


def trash_entry(cluster: Cluster, pool: PoolSpec, image_id: str) -> TrashSpec | None:
    """One entry of the trash. Blocks. Source: trash_get.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    calls = {"": (_TRASH, "trash_get", _text(image_id))}
    answer = _call_all(cluster, pool, "read the trash", calls).get("")
    return None if answer is None else _trash_entry(image_id, Reader(answer).versioned())


def end_moving(cluster: Cluster, pool: PoolSpec, entry: TrashSpec) -> None:
    """Take an image's name out of the directory, and mark its entry as one that is wholly in the trash;
    nothing is changed where somebody else was quicker. Blocks. Source: dir_remove_image, trash_state_set.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    unnamed = _text(entry.name) + _text(entry.id)
    marked = _text(entry.id) + struct.pack("<BB", _NORMAL, _MOVING)
    ioctx = cluster.ioctx(pool)
    with ceph_faults("end the move to the trash", cluster.spec.user):
        for name, method, asked in (
            (_DIRECTORY, "dir_remove_image", unnamed),
            (_TRASH, "trash_state_set", marked),
        ):
            try:
                ioctx.execute(name, "rbd", method, asked)
            except rados.Error as error:
                # ESTALE: the name is another image's by now, or the state another one.
                if errno_of(error) not in (errno.ENOENT, errno.ESTALE):
                    raise


def _text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<I", len(encoded)) + encoded


def _header(image_id: str) -> str:
    return f"rbd_header.{image_id}"


def _clones(answer: Reader) -> list[CloneRef]:
    return [_clone(answer) for _ in range(answer.number("I"))]


def _clone(answer: Reader) -> CloneRef:
    inner = answer.versioned()
    pool_id, image_id, namespace = inner.number("q"), inner.text(), inner.text()
    return CloneRef(pool_id, namespace, image_id)


def _trash(answer: Reader) -> list[TrashSpec]:
    return [_trash_entry(answer.text(), answer.versioned()) for _ in range(answer.number("I"))]


def _trash_entry(image_id: str, inner: Reader) -> TrashSpec:
    source, name = inner.number("B"), inner.text()
    deleted_at_s, kept_until_s = inner.moment_s(), inner.moment_s()
    return TrashSpec(
        image_id, name, source, deleted_at_s, kept_until_s, inner.number("B") == _MOVING
    )


class Reader:
    """Reads what Ceph's `encode` wrote: little-endian numbers, and texts after their lengths."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at = content, 0

    def number(self, form: str) -> int:
        """A number, `form` as `struct` has it."""
        (value,) = struct.unpack(f"<{form}", self._take(struct.calcsize(form)))
        return int(value)

    def text(self) -> str:
        return self._take(self.number("I")).decode()

    def moment_s(self) -> float:
        """A utime_t: seconds and nanoseconds."""
        return self.number("I") + self.number("I") / 1e9

    def versioned(self) -> Reader:
        """A structure with its version: what later versions add to its end is skipped."""
        self._take(2)  # its version, and the oldest that can read it
        return Reader(self._take(self.number("I")))

    def _take(self, length: int) -> bytes:
        taken = self._content[self._at : self._at + length]
        self._at += length
        return taken


_Calls = Mapping[Key, tuple[str, str, bytes]]


def _call_all(cluster: Cluster, pool: PoolSpec, what: str, calls: _Calls[Key]) -> dict[Key, bytes]:
    """The answers to calls (object, method, argument); one that finds nothing is left out."""
    ioctx = cluster.ioctx(pool)
    answers: dict[Key, bytes] = {}
    with ceph_faults(what, cluster.spec.user):
        for key, (code, answer) in _complete(ioctx, calls, cluster.spec.op_timeout_s).items():
            if code == -errno.ERANGE:
                name, method, asked = calls[key]
                answer = ioctx.execute(name, "rbd", method, asked, _LONG_ANSWER_BYTES)[1]
            elif code == -errno.ENOENT:
                continue
            elif code < 0:
                raise rados.OSError(what, errno=-code)
            answers[key] = answer
    return answers


def _complete(
    ioctx: rados.Ioctx, calls: _Calls[Key], timeout_s: float
) -> dict[Key, tuple[int, bytes]]:
    outcomes: dict[Key, tuple[int, bytes]] = {}
    room, done = threading.Semaphore(_AT_ONCE), threading.Semaphore(0)
    broken = threading.Event()

    def ask(key: Key, name: str, method: str, asked: bytes) -> None:
        def complete(completion: Any, answer: bytes | None) -> None:
            outcomes[key] = code, _ = completion.get_return_value(), answer or b""
            if code < 0 and code not in _ANSWERS:
                broken.set()
            room.release()
            done.release()

        ioctx.aio_execute(name, "rbd", method, asked, _ANSWER_BYTES, complete)

    begun = 0
    for key, (name, method, asked) in calls.items():
        _wait(room, timeout_s)
        if broken.is_set():  # the others would only wait as long for the same
            break
        ask(key, name, method, asked)
        begun += 1
    for _ in range(begun):
        _wait(done, timeout_s)
    return outcomes


def _wait(semaphore: threading.Semaphore, timeout_s: float) -> None:
    if not semaphore.acquire(timeout=timeout_s * _PATIENCE):
        raise CephUnavailable("the OSDs did not answer in time")
