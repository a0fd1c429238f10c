"""Volume.*Snapshot and Volume.rollback: the snapshots of one image."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.host import Host
from virtceph.host.volumeinfo import SnapshotInfo
from virtceph.verbs.registry import verb


@verb("Volume.createSnapshot")
def create_snapshot(
    host: Host, storage_domain_id: UUID, volume_name: str, snapshot_name: str
) -> None:
    """Snapshot one image. Blocks. Source: rbd_snap_create2, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, SnapshotExists, VolumeNotPrimary, CephPermissionDenied
        LockOwnerStalled: given up before Ceph would cut the image's user off.
    """
    host.volume_snapshots.create(storage_domain_id, volume_name, snapshot_name)


@verb("Volume.deleteSnapshot")
def delete_snapshot(
    host: Host, storage_domain_id: UUID, volume_name: str, snapshot_name: str
) -> None:
    """Delete one snapshot. Blocks. Source: rbd_snap_remove, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, SnapshotProtected, VolumeNotPrimary,
        CephPermissionDenied
        LockOwnerStalled: given up before Ceph would cut the image's user off.
    """
    host.volume_snapshots.delete(storage_domain_id, volume_name, snapshot_name)


@verb("Volume.listSnapshots")
def list_snapshots(host: Host, storage_domain_id: UUID, volume_name: str) -> list[SnapshotInfo]:
    """The snapshots of an image, oldest first, with their clones. Blocks. Source: rbd_snap_list.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied
    """
    return host.volume_infos.snapshots(storage_domain_id, volume_name)


@verb("Volume.rollback")
def rollback(host: Host, storage_domain_id: UUID, volume_name: str, snapshot_name: str) -> None:
    """Bring an image back to a snapshot. Blocks until it is done. Source: rbd_snap_rollback, in a worker.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, VolumeInUse, VolumeNotPrimary, CephPermissionDenied
        LockOwnerStalled: a client that does not answer holds its lock.
    """
    host.volume_snapshots.roll_back(storage_domain_id, volume_name, snapshot_name)
