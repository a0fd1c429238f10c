"""RBD images and their snapshots, read through librbd. Every function blocks.

What is handed to an image's lock owner is in `snapshots`, for worker processes only.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import rados
import rbd

from virtceph.ceph.classrbd import sizes_of
from virtceph.ceph.clones import Ancestry, Clone, ancestry, clones
from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import (
    FEATURES,
    ImageInfo,
    data_pool_of,
    read_info,
    used_bytes,
    watchers_of,
)
from virtceph.ceph.owner import require_answers
from virtceph.ceph.qos import Qos, pool_qos_of, qos_of
from virtceph.ceph.snapshotlist import Snapshot, number_of, snapshots_of, state_of
from virtceph.ceph.spec import PoolSpec
from virtceph.ceph.trashlist import TrashEntry, trash_entries
from virtceph.errors import (
    NoSuchPool,
    NoSuchSnapshot,
    NoSuchVolume,
    VirtcephError,
    VolumeExists,
)

# What a caller may choose for a new image; it agrees with the contract's ImageFeature.
CREATABLE_FEATURES = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")
# How an image is called that is not yet whole: no volume can have such a name.
PART = ".virtceph-"
# Opening images waits for the OSDs, not for the CPU.
_LIST_THREADS = 8


@dataclass(frozen=True)
class ImageDetails:
    """An image with what has to be looked for. `used_bytes` is what its present content takes of its own,
    as far as a valid object map tells it soon; `ancestry` is None for an image that is no clone, or whose
    parents may not be read."""

    info: ImageInfo
    clones: list[Clone]
    ancestry: Ancestry | None
    used_bytes: int | None


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

    @contextmanager
    def _read(self, name: str) -> Iterator[rbd.Image]:
        """An image open to be read from; it may be removed meanwhile. Raises NoSuchVolume."""
        missing = NoSuchVolume(name)
        with (
            self.opened(name) as image,
            ceph_faults("read the image", self._user, not_found=missing),
        ):
            yield image

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
    def info(self, name: str) -> ImageInfo:
        """An image's layout and users. Raises NoSuchVolume."""
        with self._read(name) as image:
            return read_info(self.cluster, self._ioctx, image, name)

    @_in_use
    def details(self, name: str, *, brief: bool = False) -> ImageDetails:
        """All about an image; `brief` leaves out what its use and its parents cost. Raises NoSuchVolume."""
        with self._read(name) as image:
            info = read_info(self.cluster, self._ioctx, image, name)
            return ImageDetails(
                info,
                clones(self.cluster, self.pool, image, info.snapshots),
                None if brief else ancestry(self.cluster, image),
                None if brief else used_bytes(image),
            )

    @_in_use
    def clones(self, name: str) -> list[Clone]:
        """The clones of an image's snapshots. Raises NoSuchVolume."""
        with self._read(name) as image:
            states = [state_of(self.cluster, image, snap) for snap in image.list_snaps()]
            return clones(self.cluster, self.pool, image, states)

    def _data_pool(self, image: rbd.Image, mask: int) -> str | None:
        return data_pool_of(self.cluster, image, mask)

    @_in_use
    def sizes(self, after: str, limit: int) -> list[tuple[str, int]]:
        """Names and sizes in the order of names; images that vanish meanwhile are left out, and parts."""
        with ceph_faults("list images", self._user):
            listed = {entry["name"]: entry["id"] for entry in rbd.RBD().list2(self._ioctx)}
        names = (name for name in sorted(listed) if name > after and not name.startswith(PART))
        wanted = list(itertools.islice(names, limit))
        told = sizes_of(self.cluster, self.pool, filter(None, (listed[name] for name in wanted)))
        # An image that vanished since, or one of the old format, which has no such header.
        odd = [name for name in wanted if listed[name] not in told]
        with ThreadPoolExecutor(_LIST_THREADS, "list-images") as threads:
            opened = dict(zip(odd, threads.map(self._size_or_gone, odd), strict=True))
        sizes = ((name, told.get(listed[name], opened.get(name))) for name in wanted)
        return [(name, size) for name, size in sizes if size is not None]

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
    def snapshot_id(self, name: str, snapshot: str) -> int:
        """The number of a snapshot (of no group). Raises NoSuchVolume, NoSuchSnapshot."""
        with self.opened(name) as image, ceph_faults("list snapshots", self._user):
            found = number_of(image, snapshot, None)
        if found is None:
            raise NoSuchSnapshot(name, snapshot)
        return found

    @_in_use
    def qos(self, name: str) -> tuple[Qos, Qos]:
        """The limits that an image says itself, and what its pool says beside. Raises NoSuchVolume."""
        with self.opened(name) as image, ceph_faults("read the limits", self._user):
            return qos_of(dict(image.metadata_list())), pool_qos_of(image)

    @_in_use
    def exists(self, name: str) -> bool:
        """Whether there is such an image: False only if Ceph said so."""
        try:
            with self.opened(name):
                return True
        except NoSuchVolume:
            return False

    @_in_use
    def name_of(self, image_id: str) -> str | None:
        """The name of the image with that id; None only if Ceph said that there is none. (In the trash it has
        none either.)"""
        with ceph_faults("list images", self._user):
            listed = rbd.RBD().list2(self._ioctx)
            return next((str(e["name"]) for e in listed if e["id"] == image_id), None)

    @_in_use
    def trash(self) -> list[TrashEntry]:
        """What is in the pool's trash, the oldest first."""
        return trash_entries(self.cluster, self.pool)

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
            require_answers(self.cluster, self.pool, image, name, self.dead)
