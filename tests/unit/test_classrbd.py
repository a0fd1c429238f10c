"""What is asked of the OSDs at once: answers read as Ceph writes them, and nothing waited for in vain."""

from __future__ import annotations

import contextlib
import errno
import struct
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import rados

from virtceph import errors
from virtceph.ceph.classrbd import (
    CloneRef,
    TrashSpec,
    clones_of,
    end_moving,
    ids_of_name,
    sizes_of,
    trash_entry,
    trash_of,
)
from virtceph.ceph.images import Images
from virtceph.ceph.spec import PoolSpec

POOL = PoolSpec("vms")
Answer = Callable[[str, bytes], tuple[int, bytes]]


class FakeIoctx:
    """As rados.Ioctx: `answers` by method. Each call is answered from another thread, as librados does."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.silent = False
        self.in_flight, self.most_in_flight = 0, 0
        self._lock = threading.Lock()

    def aio_execute(
        self, name: str, cls: str, method: str, data: bytes, length: int, complete: Any
    ) -> None:
        assert cls == "rbd"
        with self._lock:
            self.asked.append(name)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        code, answer = self.answers[method](name, data)
        if len(answer) > length:
            code, answer = -errno.ERANGE, b""

        def end() -> None:
            with self._lock:
                self.in_flight -= 1
            complete(SimpleNamespace(get_return_value=lambda: code), answer or None)

        if not self.silent:
            threading.Thread(target=end).start()

    def execute(
        self, name: str, _cls: str, method: str, data: bytes, _length: int = 8192
    ) -> tuple[int, bytes]:
        code, answer = self.answers[method](name, data)
        if code < 0:
            raise rados.OSError(method, errno=-code)
        return code, answer


@pytest.fixture
def ioctx() -> FakeIoctx:
    return FakeIoctx()


@pytest.fixture
def cluster(ioctx: FakeIoctx) -> Any:
    spec = SimpleNamespace(user="virtceph", op_timeout_s=0.1)
    using = contextlib.nullcontext
    return SimpleNamespace(ioctx=lambda _pool: ioctx, spec=spec, using=using)


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def versioned(body: bytes) -> bytes:
    # Two versions, the length, and something that a later version added.
    return struct.pack("<BBI", 3, 1, len(body) + 4) + body + b"more"


def size(size_bytes: int) -> tuple[int, bytes]:
    return 0, struct.pack("<BQ", 22, size_bytes)


def test_sizes_are_those_of_the_images_and_not_of_their_snapshots(
    cluster: Any, ioctx: FakeIoctx
) -> None:
    def answer(name: str, data: bytes) -> tuple[int, bytes]:
        assert struct.unpack("<Q", data) == ((1 << 64) - 2,)
        return size({"rbd_header.1a": 512, "rbd_header.2b": 1 << 40}[name])

    ioctx.answers["get_size"] = answer
    assert sizes_of(cluster, POOL, ["1a", "2b"]) == {"1a": 512, "2b": 1 << 40}


def test_an_image_that_vanished_is_left_out(cluster: Any, ioctx: FakeIoctx) -> None:
    ioctx.answers["get_size"] = lambda name, _data: (
        (-errno.ENOENT, b"") if name.endswith("gone") else size(512)
    )
    assert sizes_of(cluster, POOL, ["gone", "1a"]) == {"1a": 512}


def test_many_are_asked_at_once_and_not_all(cluster: Any, ioctx: FakeIoctx) -> None:
    ioctx.answers["get_size"] = lambda _name, _data: size(512)
    assert len(sizes_of(cluster, POOL, map(str, range(2000)))) == 2000
    assert ioctx.most_in_flight <= 256


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (errno.EPERM, errors.CephPermissionDenied),
        (errno.ETIMEDOUT, errors.CephUnavailable),
        (errno.EIO, errors.CephFailed),
    ],
)
def test_an_error_is_told_and_the_rest_is_not_asked_for(
    cluster: Any, ioctx: FakeIoctx, code: int, error: type[errors.VirtcephError]
) -> None:
    ioctx.answers["get_size"] = lambda _name, _data: (-code, b"")
    with pytest.raises(error):
        sizes_of(cluster, POOL, map(str, range(5000)))
    assert len(ioctx.asked) < 1000


def test_an_osd_that_is_never_heard_of_again_is_not_waited_for(
    cluster: Any, ioctx: FakeIoctx
) -> None:
    ioctx.answers["get_size"], ioctx.silent = lambda _name, _data: size(512), True
    with pytest.raises(errors.CephUnavailable, match="in time"):
        sizes_of(cluster, POOL, ["1a"])


def test_a_name_leads_to_what_its_object_and_the_directory_say(
    cluster: Any, ioctx: FakeIoctx
) -> None:
    nothing = -errno.ENOENT, b""
    own, entry = {"rbd_id.web": "1a", "rbd_id.half": "2b"}, {"web": "1a", "left": "3c"}

    def of_object(name: str, _data: bytes) -> tuple[int, bytes]:
        return (0, text(own[name])) if name in own else nothing

    def of_directory(name: str, data: bytes) -> tuple[int, bytes]:
        assert name == "rbd_directory"
        return next(((0, text(i)) for known, i in entry.items() if data == text(known)), nothing)

    ioctx.answers.update(get_id=of_object, dir_get_id=of_directory)
    found = {name: ids_of_name(cluster, POOL, name) for name in ("web", "half", "left", "none")}
    assert found == {
        "web": ("1a", "1a"),
        "half": ("2b", None),
        "left": (None, "3c"),
        "none": (None, None),
    }


def clone(image_id: str, pool_id: int = 2, namespace: str = "") -> bytes:
    return versioned(struct.pack("<q", pool_id) + text(image_id) + text(namespace))


def test_clones_are_told_by_their_snapshots(cluster: Any, ioctx: FakeIoctx) -> None:
    clones = {7: [clone("k1"), clone("k2", 5, "tenant")], 9: []}

    def answer(name: str, data: bytes) -> tuple[int, bytes]:
        assert name == "rbd_header.1a"
        (snap_id,) = struct.unpack("<Q", data)
        if snap_id not in clones:
            return -errno.ENOENT, b""
        return 0, struct.pack("<I", len(clones[snap_id])) + b"".join(clones[snap_id])

    ioctx.answers["children_list"] = answer
    told = clones_of(cluster, POOL, "1a", [7, 8, 9])
    assert told == {7: [CloneRef(2, "", "k1"), CloneRef(5, "tenant", "k2")], 9: []}


def test_more_clones_than_fit_into_a_usual_answer_are_all_told(
    cluster: Any, ioctx: FakeIoctx
) -> None:
    many = [clone(f"kid{number}") for number in range(1000)]
    ioctx.answers["children_list"] = lambda _name, _data: (
        0,
        struct.pack("<I", len(many)) + b"".join(many),
    )
    assert len(clones_of(cluster, POOL, "1a", [7])[7]) == 1000


def listed_entry(name: str, source: int, state: int) -> bytes:
    moments = struct.pack("<IIII", 100, 500_000_000, 160, 0)
    return versioned(bytes([source]) + text(name) + moments + bytes([state]))


def test_the_trash_is_read_page_by_page(cluster: Any, ioctx: FakeIoctx) -> None:
    def listed(image_id: str, source: int, state: int) -> bytes:
        return text(image_id) + listed_entry(f"of-{image_id}", source, state)

    pages = {"": [listed("1a", 0, 0), listed("2b", 2, 1)], "2b": [listed("3c", 9, 2)], "3c": []}

    def answer(name: str, data: bytes) -> tuple[int, bytes]:
        assert name == "rbd_trash"
        after = data[4:-8].decode()
        return 0, struct.pack("<I", len(pages[after])) + b"".join(pages[after])

    ioctx.answers["trash_list"] = answer
    assert trash_of(cluster, POOL) == [
        TrashSpec("1a", "of-1a", 0, 100.5, 160.0, moving=False),
        TrashSpec("2b", "of-2b", 2, 100.5, 160.0, moving=True),
        TrashSpec("3c", "of-3c", 9, 100.5, 160.0, moving=False),
    ]


def test_one_entry_of_the_trash_is_read_by_its_id(cluster: Any, ioctx: FakeIoctx) -> None:
    ioctx.answers["trash_get"] = lambda _name, data: (
        (0, listed_entry("web", 3, 1)) if data == text("1a") else (-errno.ENOENT, b"")
    )
    assert trash_entry(cluster, POOL, "1a") == TrashSpec("1a", "web", 3, 100.5, 160.0, moving=True)
    assert trash_entry(cluster, POOL, "2b") is None


@pytest.mark.parametrize("code", [0, -errno.ENOENT, -errno.ESTALE])
def test_a_move_is_ended_by_the_id_also_beside_somebody_else(
    cluster: Any, ioctx: FakeIoctx, code: int
) -> None:
    asked = []

    def answer(name: str, data: bytes) -> tuple[int, bytes]:
        asked.append((name, data))
        return code, b""

    ioctx.answers["dir_remove_image"] = ioctx.answers["trash_state_set"] = answer
    end_moving(cluster, POOL, TrashSpec("1a", "web", 0, 1.0, 1.0, moving=True))
    assert asked == [
        ("rbd_directory", text("web") + text("1a")),
        ("rbd_trash", text("1a") + b"\x00\x01"),
    ]


def test_a_move_that_cannot_be_ended_is_not_marked_as_whole(cluster: Any, ioctx: FakeIoctx) -> None:
    ioctx.answers["dir_remove_image"] = lambda _name, _data: (-errno.EACCES, b"")
    with pytest.raises(errors.CephPermissionDenied):
        end_moving(cluster, POOL, TrashSpec("1a", "web", 0, 1.0, 1.0, moving=True))


def test_a_pool_that_never_had_a_trash_has_nothing_in_it(cluster: Any, ioctx: FakeIoctx) -> None:
    ioctx.answers["trash_list"] = lambda _name, _data: (-errno.ENOENT, b"")
    assert trash_of(cluster, POOL) == []


# --- the list of images ---


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """What the pool's directory has."""
    found: list[dict[str, str]] = []
    fake = SimpleNamespace(list2=lambda _ioctx: list(found))
    monkeypatch.setattr("virtceph.ceph.images.rbd.RBD", lambda: fake)
    return found


def test_a_list_opens_only_what_has_no_header(
    cluster: Any,
    ioctx: FakeIoctx,
    listed: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = {"b": "2b", "a": "1a", "of-the-old-format": "", "vanished": "3c", ".virtceph-x": "9"}
    listed += [{"name": name, "id": ident} for name, ident in ids.items()]
    ioctx.answers["get_size"] = lambda name, _data: (
        (-errno.ENOENT, b"") if name.endswith("3c") else size(512)
    )
    opened = {"of-the-old-format": 1024, "vanished": None}
    images = Images(cluster, POOL)
    monkeypatch.setattr(images, "_size_or_gone", opened.pop)
    assert images.sizes("", 10) == [("a", 512), ("b", 512), ("of-the-old-format", 1024)]
    assert opened == {}
    assert images.sizes("a", 1) == [("b", 512)]
