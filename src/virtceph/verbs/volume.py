"""Volume.*: RBD images and their snapshots."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.host import Host
from virtceph.host.volumes import SnapshotInfo, VolumeInfo, VolumeSummary
from virtceph.verbs.registry import verb


@verb("Volume.create")
def create(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    size_bytes: int,
    object_size_bytes: int,
    features: list[str],
    data_pool: str | None,
) -> None:
    """Create an image. Blocks. Source: rbd_create4.

    Raises:
        NoSuchStorageDomain, NoSuchPool, VolumeExists, CephPermissionDenied, InvalidParameter
    """
    host.volumes.create(
        storage_domain_id, volume_name, size_bytes, object_size_bytes, features, data_pool
    )


@verb("Volume.delete")
def delete(host: Host, storage_domain_id: UUID, volume_name: str) -> None:
    """Delete an image that nobody has open and that has no snapshots. Blocks. Source: rbd_remove.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, VolumeInUse, VolumeHasSnapshots, CephPermissionDenied
    """
    host.volumes.delete(storage_domain_id, volume_name)


@verb("Volume.getInfo")
def get_info(host: Host, storage_domain_id: UUID, volume_name: str) -> VolumeInfo:
    """Size, layout, parent, users and metadata. Blocks. Source: rbd_stat, rbd_watchers_list.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied
    """
    return host.volumes.info(storage_domain_id, volume_name)


@verb("Volume.list")
def list_volumes(
    host: Host, storage_domain_id: UUID, limit: int, after: str
) -> list[VolumeSummary]:
    """Images and their sizes in the order of names. Blocks. Source: rbd_list2.

    Raises:
        NoSuchStorageDomain, CephPermissionDenied
    """
    return host.volumes.page(storage_domain_id, limit, after)


@verb("Volume.createSnapshot")
def create_snapshot(
    host: Host, storage_domain_id: UUID, volume_name: str, snapshot_name: str
) -> None:
    """Snapshot one image. Blocks. Source: rbd_snap_create2, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, SnapshotExists, CephPermissionDenied
        LockOwnerStalled: given up before Ceph would cut the image's user off.
    """
    host.volumes.create_snapshot(storage_domain_id, volume_name, snapshot_name)


@verb("Volume.deleteSnapshot")
def delete_snapshot(
    host: Host, storage_domain_id: UUID, volume_name: str, snapshot_name: str
) -> None:
    """Delete one snapshot. Blocks. Source: rbd_snap_remove, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, SnapshotProtected, CephPermissionDenied
        LockOwnerStalled: given up before Ceph would cut the image's user off.
    """
    host.volumes.delete_snapshot(storage_domain_id, volume_name, snapshot_name)


@verb("Volume.listSnapshots")
def list_snapshots(host: Host, storage_domain_id: UUID, volume_name: str) -> list[SnapshotInfo]:
    """The snapshots of an image, oldest first. Blocks. Source: rbd_snap_list.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied
    """
    return host.volumes.snapshots(storage_domain_id, volume_name)
