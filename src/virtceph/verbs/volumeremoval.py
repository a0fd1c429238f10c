"""Volume.delete and the trash, and what may have to be done before."""

from __future__ import annotations

from uuid import UUID

from virtceph.ceph.trashlist import TrashEntry
from virtceph.host.deletion import DeletionPlan
from virtceph.host.eviction import EvictedClient
from virtceph.host.host import Host
from virtceph.host.trash import PurgeResult
from virtceph.verbs.registry import verb


@verb("Volume.delete")
def delete(host: Host, storage_domain_id: UUID, volume_name: str, force: bool) -> None:
    """Delete an image that nothing stands in the way of. Blocks. Source: rbd_remove, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, VolumeInUse, VolumeHasSnapshots, VolumeNotDeletable,
        CephPermissionDenied
    """
    host.deletions.delete(storage_domain_id, volume_name, force)


@verb("Volume.explainDelete")
def explain_delete(host: Host, storage_domain_id: UUID, volume_name: str) -> DeletionPlan:
    """What has to be done before an image can be deleted, step by step. Blocks; changes nothing.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied
    """
    return host.deletions.explain(storage_domain_id, volume_name)


@verb("Volume.trash")
def trash(host: Host, storage_domain_id: UUID, volume_name: str, delay_s: int) -> None:
    """Put an image that nobody has open into the trash. Blocks. Source: rbd_trash_move, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, VolumeInUse, VolumeNotDeletable, CephPermissionDenied
    """
    host.trash.put(storage_domain_id, volume_name, delay_s)


@verb("Volume.restore")
def restore(
    host: Host,
    storage_domain_id: UUID,
    id: str | None,
    volume_name: str | None,
    new_name: str | None,
) -> None:
    """Give an image in the trash a name again. Blocks. Source: rbd_trash_restore, in a worker process.

    Raises:
        NoSuchStorageDomain, NotInTrash, VolumeExists, CephPermissionDenied
        OperationNotSupported: a migration or rbd-mirror put it there.
    """
    host.trash.take(storage_domain_id, id, volume_name, new_name)


@verb("Volume.listTrash")
def list_trash(host: Host, storage_domain_id: UUID) -> list[TrashEntry]:
    """What is in the trash, the oldest first. Blocks. Source: cls_rbd trash_list.

    Raises:
        NoSuchStorageDomain, CephPermissionDenied
    """
    return host.trash.entries(storage_domain_id)


@verb("Volume.purge")
def purge(host: Host, storage_domain_id: UUID, id: str | None, force: bool) -> PurgeResult:
    """Remove one entry of the trash, or all that are due. Blocks. Source: rbd_trash_remove, in a worker.

    Raises:
        NoSuchStorageDomain, CephPermissionDenied
        NotInTrash, TrashDeferred, VolumeInUse, LockOwnerStalled, VolumeNotDeletable: only with an id.
    """
    return host.trash.purge(storage_domain_id, id, force)


@verb("Volume.evict")
def evict(
    host: Host, storage_domain_id: UUID, volume_name: str, client: int, confirm: bool
) -> EvictedClient:
    """Break the lock of a dead client, and cut it off. Blocks. Source: rbd_break_lock, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied, LibvirtUnavailable
        VolumeInUse, VMRunning: it lives.
        EvictionNotConfirmed: `confirm` is missing.
    """
    return host.evictions.evict(storage_domain_id, volume_name, client, confirm)
