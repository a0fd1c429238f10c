"""What is told of volumes: of one, of its snapshots, and of all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from virtceph import errors
from virtceph.ceph.clones import Ancestry, Clone
from virtceph.ceph.imageinfo import ImageInfo
from virtceph.ceph.images import ImageDetails
from virtceph.ceph.qos import Qos, qos_of
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.host.users import ImageUsers, VolumeLock, VolumeVM, Watcher, active, lock, watchers
from virtceph.schema import wire

wire("Qos")(Qos)

# More would make an answer that nobody reads; they are counted all the same.
_TOLD_CLONES = 1000


@wire("VolumeParent")
@dataclass(frozen=True)
class VolumeParent:
    pool: str
    namespace: str
    volume_name: str
    snapshot_name: str
    deleted: bool


@wire("VolumeClone")
@dataclass(frozen=True)
class VolumeClone:
    snapshot_name: str
    pool: str
    namespace: str
    volume_name: str | None
    id: str
    in_trash: bool


@wire("VolumeInfo")
@dataclass(frozen=True)
class VolumeInfo:
    volume_name: str
    id: str
    size_bytes: int
    used_bytes: int | None
    object_size_bytes: int
    features: list[str]
    flags: list[str]
    data_pool: str | None
    created_at_s: float
    parent: str | None
    parent_volume: VolumeParent | None
    depth: int | None
    snapshots: int
    deleted_snapshots: int
    group_snapshots: int
    clones: list[VolumeClone]
    clone_count: int
    watchers: list[Watcher]
    vms: list[VolumeVM] | None
    lock_owner: str | None
    lock: VolumeLock | None
    group: str | None
    mirroring: str | None
    qos: Qos
    metadata: dict[str, str]


@wire("VolumeSummary")
@dataclass(frozen=True)
class VolumeSummary:
    volume_name: str
    size_bytes: int


@wire("SnapshotInfo")
@dataclass(frozen=True)
class SnapshotInfo:
    snapshot_name: str
    id: int
    size_bytes: int
    created_at_s: float
    consistency: str | None
    protected: bool
    clones: list[VolumeClone]


class VolumeInfos:
    """Looks at volumes. Every method blocks, and raises NoSuchStorageDomain, CephUnavailable, CephFailed and
    CephPermissionDenied beside what it names."""

    def __init__(self, storage: StorageDomains, users: ImageUsers) -> None:
        self._storage, self._users = storage, users

    def info(self, storage_domain_id: UUID, name: str) -> VolumeInfo:
        """All about an image. Raises NoSuchVolume."""
        domain = self._storage.get(storage_domain_id)
        found = domain.images.details(name)
        return _told(domain, found, self._vms(domain, name))

    def page(self, storage_domain_id: UUID, limit: int, after: str) -> list[VolumeSummary]:
        """Images and their sizes in the order of names, at most `limit`, those after `after`."""
        images = self._storage.get(storage_domain_id).images
        return [VolumeSummary(name, size) for name, size in images.sizes(after, limit)]

    def snapshots(self, storage_domain_id: UUID, name: str) -> list[SnapshotInfo]:
        """The snapshots of an image, oldest first, with their clones. Raises NoSuchVolume."""
        images = self._storage.get(storage_domain_id).images
        snapshots, clones = images.snapshots(name), images.clones(name)
        return [
            SnapshotInfo(
                snap.name,
                snap.id,
                snap.size_bytes,
                snap.created_at_s,
                snap.consistency,
                snap.protected,
                told_clones((c for c in clones if c.snap_id == snap.id), {snap.id: snap.name}),
            )
            for snap in snapshots
        ]

    def _vms(self, domain: StorageDomain, name: str) -> list[VolumeVM] | None:
        try:
            return active(self._users.vms_of(domain, name))
        except errors.LibvirtUnavailable:
            return None


def told_clones(clones: Iterable[Clone], names: dict[int, str]) -> list[VolumeClone]:
    """Clones with the names of their snapshots."""
    return [
        VolumeClone(names[c.snap_id], c.pool, c.namespace, c.image, c.image_id, c.in_trash)
        for c in clones
    ]


def _told(domain: StorageDomain, found: ImageDetails, vms: list[VolumeVM] | None) -> VolumeInfo:
    info = found.info
    kinds = [snap.kind for snap in info.snapshots]
    names = {snap.id: snap.name for snap in info.snapshots}
    return VolumeInfo(
        volume_name=info.name,
        id=info.id,
        size_bytes=info.size_bytes,
        used_bytes=found.used_bytes,
        object_size_bytes=info.object_size_bytes,
        features=info.features,
        flags=info.flags,
        data_pool=info.data_pool,
        created_at_s=info.created_at_s,
        parent=None if info.parent is None else str(info.parent),
        parent_volume=_parent(info, found.ancestry),
        depth=_depth(info, found.ancestry),
        snapshots=kinds.count("user"),
        deleted_snapshots=kinds.count("deleted"),
        group_snapshots=kinds.count("group"),
        clones=told_clones(found.clones[:_TOLD_CLONES], names),
        clone_count=len(found.clones),
        watchers=watchers(domain, info.watchers, vms),
        vms=vms,
        lock_owner=None if info.lock is None else info.lock.address,
        lock=lock(domain, info.lock, info.watchers, vms),
        group=info.group,
        mirroring=info.mirroring,
        qos=qos_of(info.metadata),
        metadata=info.metadata,
    )


def _parent(info: ImageInfo, ancestry: Ancestry | None) -> VolumeParent | None:
    spec = info.parent
    if spec is None:
        return None
    snapshot = spec.snapshot if ancestry is None else ancestry.snapshot
    deleted = ancestry is not None and ancestry.deleted
    return VolumeParent(spec.pool, spec.namespace, spec.image, snapshot, deleted)


def _depth(info: ImageInfo, ancestry: Ancestry | None) -> int | None:
    if info.parent is None:
        return 0
    return None if ancestry is None else ancestry.depth
