"""What librbd tells of an open image: its layout, its users, and what hangs on it. Every function blocks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import rados
import rbd

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.snapshotlist import SnapshotState, epoch_s, state_of
from virtceph.errors import VirtcephError, VolumeNotPrimary

FEATURES = {
    "layering": rbd.RBD_FEATURE_LAYERING,
    "striping": rbd.RBD_FEATURE_STRIPINGV2,
    "exclusive-lock": rbd.RBD_FEATURE_EXCLUSIVE_LOCK,
    "object-map": rbd.RBD_FEATURE_OBJECT_MAP,
    "fast-diff": rbd.RBD_FEATURE_FAST_DIFF,
    "deep-flatten": rbd.RBD_FEATURE_DEEP_FLATTEN,
    "journaling": rbd.RBD_FEATURE_JOURNALING,
    "data-pool": rbd.RBD_FEATURE_DATA_POOL,
    "operations": rbd.RBD_FEATURE_OPERATIONS,
    "migrating": rbd.RBD_FEATURE_MIGRATING,
}
_FLAGS = {
    "object-map-invalid": rbd.RBD_FLAG_OBJECT_MAP_INVALID,
    "fast-diff-invalid": rbd.RBD_FLAG_FAST_DIFF_INVALID,
}
# Some six million objects of a map are looked at in a second; after so long a figure is not worth more time.
_COUNTED_OBJECTS, _COUNTING_S = 8_000_000, 2.0
# How often it is looked who uses an image whose lock changes hands.
_LOOKS = 5


@dataclass(frozen=True)
class Watch:
    """A client that has the image open for writing."""

    address: str
    client: int


@dataclass(frozen=True)
class Lock:
    """A client's exclusive lock. `cookie` tells it from other locks of that client."""

    address: str
    client: int
    cookie: str


@dataclass(frozen=True)
class ParentSpec:
    """The snapshot that an image is a clone of, as librbd names it."""

    pool: str
    namespace: str
    image: str
    image_id: str
    snapshot: str

    def __str__(self) -> str:
        namespace = f"{self.namespace}/" if self.namespace else ""
        return f"{self.pool}/{namespace}{self.image}@{self.snapshot}"


@dataclass(frozen=True)
class ImageInfo:
    """What librbd tells of an image. `snapshots` are those of every kind, oldest first; `group` lies in
    `group_pool`; `mirroring` is `primary` or `secondary`."""

    name: str
    id: str
    size_bytes: int
    object_size_bytes: int
    features: list[str]
    data_pool: str | None
    created_at_s: float
    parent: ParentSpec | None
    snapshots: list[SnapshotState]
    watchers: list[Watch]
    lock: Lock | None
    metadata: dict[str, str] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    group: str | None = None
    group_pool: str | None = None
    mirroring: str | None = None


def read_info(cluster: Cluster, ioctx: rados.Ioctx, image: rbd.Image, name: str) -> ImageInfo:
    """All of it but what takes time."""
    stat, mask, flags, group = image.stat(), image.features(), image.flags(), image.group()
    watchers, lock = users_of(ioctx, image)
    return ImageInfo(
        name=name,
        id=image.id(),
        size_bytes=stat["size"],
        object_size_bytes=stat["obj_size"],
        features=[f for f, bit in FEATURES.items() if mask & bit],
        data_pool=data_pool_of(cluster, image, mask),
        created_at_s=epoch_s(image.create_timestamp()),
        parent=parent_of(image),
        snapshots=[
            state_of(cluster, image, s) for s in sorted(image.list_snaps(), key=lambda s: s["id"])
        ],
        watchers=watchers,
        lock=lock,
        metadata=dict(image.metadata_list()),
        flags=[f for f, bit in _FLAGS.items() if flags & bit],
        group=group["name"] or None,
        group_pool=cluster.pool_name(group["pool"]) if group["name"] else None,
        mirroring=mirroring_of(image),
    )


def data_pool_of(cluster: Cluster, image: rbd.Image, mask: int) -> str | None:
    """The pool of its data, if that is another than its own."""
    if not mask & rbd.RBD_FEATURE_DATA_POOL:
        return None
    return cluster.pool_name(image.data_pool_id())


def has_parent(image: rbd.Image) -> bool:
    """Whether an image lies on another's snapshot. Blocks. Raises rbd.Error."""
    try:
        image.get_parent_image_spec()
    except rbd.ImageNotFound:
        return False
    return True


def parent_of(image: rbd.Image) -> ParentSpec | None:
    """What it is a clone of."""
    try:
        found = image.get_parent_image_spec()
        image_id = image.parent_id()
    except rbd.ImageNotFound:
        return None
    return ParentSpec(
        found["pool_name"],
        found["pool_namespace"],
        found["image_name"],
        image_id,
        found["snap_name"],
    )


def watchers_of(image: rbd.Image) -> list[Watch]:
    """Who has it open for writing."""
    return [Watch(watch["addr"], watch["id"]) for watch in image.watchers_list()]


def locks_of(image: rbd.Image) -> list[Lock]:
    """Who may write to it, as it was when the image was opened: a handle for reading does not hear of what
    changes (see `reopened`). One or none, but for locks that people took by hand. (`lock_get_owners` refuses
    such a handle; the automatic lock is listed as any other is.) Source: rbd_list_lockers."""
    lockers = image.list_lockers()
    if not lockers:
        return []
    # `client.4119`: the number is the one by which the cluster knows the watcher.
    return [
        Lock(str(address), int(client.rpartition(".")[2]), str(cookie))
        for client, cookie, address in lockers["lockers"]
    ]


def lock_of(image: rbd.Image) -> Lock | None:
    """The first of them."""
    return next(iter(locks_of(image)), None)


@contextmanager
def reopened(ioctx: rados.Ioctx, image: rbd.Image) -> Iterator[rbd.Image]:
    """An open image as it is now, for reading."""
    with closing(rbd.Image(ioctx, image_id=image.id(), read_only=True)) as now:
        yield now


def users_of(ioctx: rados.Ioctx, image: rbd.Image) -> tuple[list[Watch], Lock | None]:
    """Who has it open for writing, and who may write. These are two questions, between which people come and
    go: an owner is told as one that does not watch only if it held the lock before and after the watchers
    were listed. A lock that goes from hand to hand all the while is told as nobody's."""
    lock = lock_of(image)
    for _ in range(_LOOKS):
        watchers, before = watchers_of(image), lock
        if before is None or before.client in {watch.client for watch in watchers}:
            return watchers, before
        with reopened(ioctx, image) as now:
            lock = lock_of(now)
        if lock == before:
            return watchers, before
    return watchers, None


def mirroring_of(image: rbd.Image) -> str | None:
    """`primary` or `secondary`, where it is mirrored."""
    mirror = image.mirror_image_get_info()
    if mirror["state"] == rbd.RBD_MIRROR_IMAGE_DISABLED:
        return None
    return "primary" if mirror["primary"] else "secondary"


def not_primary(image: rbd.Image, name: str) -> VirtcephError | None:
    """VolumeNotPrimary, if that is why an image cannot be written to: librbd calls it read-only."""
    return VolumeNotPrimary(name) if mirroring_of(image) == "secondary" else None


class _TooLong(Exception):
    """Counting is given up."""


def used_bytes(image: rbd.Image) -> int | None:
    """What the image's present content takes of its own: whole objects, without its snapshots and its parent.
    None where no valid object map tells that, or not soon. Source: rbd_diff_iterate2, whole objects."""
    mask, flags, stat = image.features(), image.flags(), image.stat()
    if not mask & rbd.RBD_FEATURE_FAST_DIFF or any(flags & bit for bit in _FLAGS.values()):
        return None
    if stat["num_objs"] > _COUNTED_OBJECTS:
        return None
    end_s, used = time.monotonic() + _COUNTING_S, 0

    def count(_offset: int, length: int, exists: bool) -> None:
        nonlocal used
        used += length if exists else 0
        if time.monotonic() > end_s:
            raise _TooLong

    try:
        image.diff_iterate(0, stat["size"], None, count, include_parent=False, whole_object=True)
    except _TooLong:
        return None
    return used
