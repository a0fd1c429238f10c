"""RBD images and their snapshots, read through librbd. Every function blocks.

What is handed to an image's lock owner is in `snapshots`, for worker processes only.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import rados
import rbd

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults, errno_of
from virtceph.ceph.owner import require_answers
from virtceph.ceph.snapshotlist import Snapshot, epoch_s, is_users, snapshots_of
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import (
    NoSuchPool,
    NoSuchSnapshot,
    NoSuchVolume,
    VirtcephError,
    VolumeExists,
    VolumeHasSnapshots,
    VolumeInUse,
)

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
# What a caller may choose for a new image; it agrees with the contract's ImageFeature.
CREATABLE_FEATURES = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")
# Opening images waits for the OSDs, not for the CPU: 8 at a time more than halve a long list.
_LIST_THREADS = 8


@dataclass(frozen=True)
class Watch:
    address: str
    client: int


@dataclass(frozen=True)
class ImageInfo:
    """What librbd tells of an image; `parent` is `pool/[namespace/]image@snapshot`."""

    name: str
    id: str
    size_bytes: int
    object_size_bytes: int
    features: list[str]
    data_pool: str | None
    created_at_s: float
    parent: str | None
    snapshots: list[str]
    watchers: list[Watch]
    lock_owner: str | None
    metadata: dict[str, str] = field(default_factory=dict)


Method = TypeVar("Method", bound=Callable[..., Any])


def _in_use(method: Method) -> Method:
    """The cluster's connection stays open while the method runs."""

    @functools.wraps(method)
    def using(self: Images, *arguments: Any, **named: Any) -> Any:
        with self.cluster.using():
            return method(self, *arguments, **named)

    return cast(Method, using)


class Images:
    """The images of one pool and namespace, as one user."""

    def __init__(self, cluster: Cluster, pool: PoolSpec) -> None:
        self.cluster, self.pool, self._user = cluster, pool, cluster.spec.user
        # Clients of ours that were killed (see `owner`).
        self.dead: Set[int] = frozenset()

    @property
    def _ioctx(self) -> rados.Ioctx:
        return self.cluster.ioctx(self.pool)

    @contextmanager
    def opened(
        self, name: str, snapshot: str | None = None, *, read_only: bool = True
    ) -> Iterator[rbd.Image]:
        """An open image. Read-only ones are no watchers. Raises NoSuchVolume, NoSuchSnapshot."""
        missing: VirtcephError = (
            NoSuchSnapshot(name, snapshot) if snapshot is not None else NoSuchVolume(name)
        )
        with ceph_faults("open the image", self._user, not_found=missing):
            image = rbd.Image(self._ioctx, name, snapshot=snapshot, read_only=read_only)
        try:
            yield image
        finally:
            image.close()

    @_in_use
    def create(
        self,
        name: str,
        size_bytes: int,
        object_size_bytes: int,
        features: list[str],
        data_pool: str | None,
    ) -> None:
        """Create an image. Raises VolumeExists, NoSuchPool (the data pool), CephPermissionDenied."""
        mask = sum(FEATURES[f] for f in features)
        missing = NoSuchPool(data_pool) if data_pool else None
        with ceph_faults(
            "create the image", self._user, exists=VolumeExists(name), not_found=missing
        ):
            rbd.RBD().create(
                self._ioctx,
                name,
                size_bytes,
                order=object_size_bytes.bit_length() - 1,
                old_format=False,
                features=mask,
                data_pool=data_pool,
            )

    @_in_use
    def remove(self, name: str) -> None:
        """Remove an image without snapshots that nobody has open. Worker only: its length has no bound.

        Raises:
            NoSuchVolume, VolumeInUse, VolumeHasSnapshots
        """
        with ceph_faults("remove the image", self._user, not_found=NoSuchVolume(name)):
            try:
                rbd.RBD().remove(self._ioctx, name)
            except (rbd.ImageBusy, rbd.ImageHasSnapshots) as error:
                if errno_of(error) == errno.EBUSY:
                    raise VolumeInUse(name, self.watcher_addresses(name)) from error
                names = [s.name for s in self.snapshots(name, of_groups=True)]
                raise VolumeHasSnapshots(name, names) from error

    @_in_use
    def info(self, name: str) -> ImageInfo:
        """All about an image. Raises NoSuchVolume."""
        with self.opened(name) as image, ceph_faults("read the image", self._user):
            stat = image.stat()
            mask = image.features()
            return ImageInfo(
                name=name,
                id=image.id(),
                size_bytes=stat["size"],
                object_size_bytes=stat["obj_size"],
                features=[f for f, bit in FEATURES.items() if mask & bit],
                data_pool=self._data_pool(image, mask),
                created_at_s=epoch_s(image.create_timestamp()),
                parent=_parent(image),
                snapshots=[s["name"] for s in image.list_snaps() if is_users(s)],
                watchers=watchers_of(image),
                lock_owner=_lock_owner(image),
                metadata=dict(image.metadata_list()),
            )

    def _data_pool(self, image: rbd.Image, mask: int) -> str | None:
        if not mask & rbd.RBD_FEATURE_DATA_POOL:
            return None
        return self.cluster.pool_name(image.data_pool_id())

    @_in_use
    def sizes(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Names and sizes in the order of names; images that vanish meanwhile are left out."""
        with ceph_faults("list images", self._user):
            names = sorted(rbd.RBD().list(self._ioctx))
        wanted = [name for name in names if name > after][:limit]
        with ThreadPoolExecutor(_LIST_THREADS, "list-images") as threads:
            sizes = list(threads.map(self._size_or_gone, wanted))
        return [(name, size) for name, size in zip(wanted, sizes, strict=True) if size is not None]

    def _size_or_gone(self, name: str) -> int | None:
        try:
            with self.opened(name) as image, ceph_faults("read the image", self._user):
                return int(image.size())
        except NoSuchVolume:
            return None

    @_in_use
    def watcher_addresses(self, name: str) -> list[str]:
        """Who has the image open. Raises NoSuchVolume."""
        with self.opened(name) as image, ceph_faults("list watchers", self._user):
            return [watch.address for watch in watchers_of(image)]

    @_in_use
    def snapshots(self, name: str, *, of_groups: bool = False) -> list[Snapshot]:
        """The image's snapshots, oldest first; those of groups only if asked for. Raises NoSuchVolume."""
        with self.opened(name) as image, ceph_faults("list snapshots", self._user):
            return snapshots_of(image, of_groups=of_groups)

    @_in_use
    def exists(self, name: str) -> bool:
        """Whether there is such an image: False only if Ceph said so."""
        try:
            with self.opened(name):
                return True
        except NoSuchVolume:
            return False

    @_in_use
    def has_group(self, group: str) -> bool:
        """Whether the pool has a group of this name: False only if Ceph said so. Source: rbd_group_list."""
        with ceph_faults("list groups", self._user):
            return group in rbd.RBD().group_list(self._ioctx)

    @_in_use
    def has_snapshot(self, name: str, snapshot: str) -> bool:
        """Whether the image has it: False only if Ceph said so. Raises NoSuchVolume."""
        return any(snap.name == snapshot for snap in self.snapshots(name))

    @_in_use
    def is_protected(self, name: str, snapshot: str) -> bool:
        """Whether a snapshot may not be removed. Raises NoSuchVolume, NoSuchSnapshot."""
        with self.opened(name, snapshot) as image, ceph_faults("read it", self._user):
            return bool(image.is_protected_snap(snapshot))

    @_in_use
    def require_answers(self, name: str) -> None:
        """Return if every client that has the image open answers. Blocks up to about 2 s.

        Raises:
            NoSuchVolume, LockOwnerStalled, CephUnavailable
        """
        with self.opened(name) as image:
            require_answers(self._ioctx, image, name, self._user, self.dead)


def _parent(image: rbd.Image) -> str | None:
    try:
        parent = image.get_parent_image_spec()
    except rbd.ImageNotFound:
        return None
    namespace = f"{parent['pool_namespace']}/" if parent["pool_namespace"] else ""
    return f"{parent['pool_name']}/{namespace}{parent['image_name']}@{parent['snap_name']}"


def watchers_of(image: rbd.Image) -> list[Watch]:
    return [Watch(watch["addr"], watch["id"]) for watch in image.watchers_list()]


def _lock_owner(image: rbd.Image) -> str | None:
    # `lock_get_owners` refuses a read-only handle; the automatic lock is listed like any other.
    lockers = image.list_lockers()
    if not lockers or not lockers.get("lockers"):
        return None
    return str(lockers["lockers"][0][2])
