"""VM.*: what is done to a guest."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.drives import SnapDrive
from virtceph.host.host import Host
from virtceph.host.leases import FreezeResult, FreezeStatus, LeaseExtended, ThawResult
from virtceph.host.restoring import RestoreRequest
from virtceph.host.retention import Keep, Pruned
from virtceph.host.setnotes import SnapshotSet
from virtceph.host.sets import DeleteRequest, SetRequest
from virtceph.host.snapshots import SnapshotRequest
from virtceph.host.vms import VMInfo
from virtceph.verbs.registry import verb


@verb("VM.getInfo")
def get_info(host: Host, vm_id: UUID) -> VMInfo:
    """A VM, its agent's channel and its disks. Blocks. Source: virDomainGetXMLDesc.

    Raises:
        NoSuchVM: no domain has this UUID.
    """
    return host.vms.info(vm_id)


@verb("VM.freeze")
def freeze(host: Host, vm_id: UUID, timeout_s: float) -> FreezeResult:
    """Freeze the mounted file systems of a running VM, for at most `timeout_s`.

    Blocks up to half of that. Source: virDomainFSFreeze; QGA guest-fsfreeze-freeze.

    Raises:
        NoSuchVM, VMDown, FreezePaused, FreezeNoAgent, AlreadyFrozen, FrozenByAnother: as they say.
        NothingFrozen, FreezeFailed: the guest is not frozen.
        GuestAgentUnresponsive: no answer in time; the daemon goes on thawing until the guest says
            that it is thawed.
    """
    return host.leases.freeze(vm_id, timeout_s)


@verb("VM.extendFreeze")
def extend_freeze(host: Host, vm_id: UUID, timeout_s: float) -> LeaseExtended:
    """Let a freeze last until `timeout_s` from now. Blocks on the disk only.

    Raises:
        NotFrozen, FrozenByAnother: as they say.
        FreezeFailed: the longer lease could not be recorded; the old one holds.
    """
    return host.leases.extend(vm_id, timeout_s)


@verb("VM.thaw")
def thaw(host: Host, vm_id: UUID, force: bool) -> ThawResult:
    """Thaw the file systems of a VM; whether the freeze held. Blocks. Source: virDomainFSThaw.

    Raises:
        NoSuchVM, VMDown, ThawNoAgent, ThawNeedsForce: as they say.
        ThawPaused, ThawFailed, GuestAgentUnresponsive: a freeze of ours is tried again until it is
            thawed.
    """
    return host.leases.thaw(vm_id, force)


@verb("VM.getFreezeStatus")
def get_freeze_status(host: Host, vm_id: UUID) -> FreezeStatus:
    """What the guest says, and the open lease. Blocks. Source: QGA guest-fsfreeze-status.

    Raises:
        NoSuchVM, VMDown: as they say.
    """
    return host.leases.status(vm_id)


@verb("VM.snapshot")
def snapshot(
    host: Host,
    vm_id: UUID,
    snap_drives: list[SnapDrive],
    snap_memory: str | None,
    frozen: bool,
    job_uuid: UUID | None,
    timeout_s: float,
    freeze_timeout_s: float,
) -> None:
    """Start a snapshot job. Blocks on libvirt while the request is checked.

    Source: rbd_snap_create2, virDomainSnapshotCreateXML.

    Raises:
        NoSuchVM, VMDown, MigrationInProgress, NoSuchDrive, InvalidParameter, OperationNotSupported,
        JobExists, PathNotAllowed, PathExists: nothing was started.
        SnapshotFailed: `frozen`, and the lease of that freeze has run out.
    """
    asked = SnapshotRequest(
        vm_id, tuple(snap_drives), snap_memory, frozen, timeout_s, freeze_timeout_s
    )
    host.snapshots.start(asked, job_uuid)


@verb("VM.createConsistentSnapshot")
def create_consistent_snapshot(
    host: Host,
    vm_id: UUID,
    snapshot_name: str,
    disks: list[str] | None,
    freeze: str,
    method: str,
    max_frozen_s: float,
    memory_path: str | None,
    description: str | None,
    job_uuid: UUID | None,
) -> None:
    """Start a job that snapshots disks together. Blocks on libvirt while the request is checked.

    Source: virDomainFSFreeze, rbd_snap_create2, rbd_group_snap_create, virDomainSnapshotCreateXML.

    Raises:
        NoSuchVM, VMDown, MigrationInProgress, NoSuchDrive, InvalidParameter, JobExists, PathNotAllowed,
        PathExists: nothing was started.
    """
    targets = None if disks is None else tuple(disks)
    asked = SetRequest(
        vm_id, snapshot_name, targets, freeze, max_frozen_s, memory_path, description, method
    )
    host.sets.create(asked, job_uuid)


@verb("VM.listConsistentSnapshots")
def list_consistent_snapshots(host: Host, vm_id: UUID) -> list[SnapshotSet]:
    """The sets of a VM, oldest first. Blocks. Source: rbd_metadata_list.

    Raises:
        NoSuchVM, LibvirtUnavailable, CephPermissionDenied
    """
    return host.sets.listed(vm_id)


@verb("VM.deleteConsistentSnapshot")
def delete_consistent_snapshot(
    host: Host, vm_id: UUID, snapshot_name: str, job_uuid: UUID | None
) -> None:
    """Start a job that deletes a set. Blocks on libvirt. Source: rbd_snap_remove, in worker processes.

    Raises:
        NoSuchVM, JobExists: nothing was started.
    """
    host.sets.delete(DeleteRequest(vm_id, snapshot_name), job_uuid)


@verb("VM.pruneConsistentSnapshots")
def prune_consistent_snapshots(
    host: Host,
    vm_id: UUID,
    keep_last: int | None,
    keep_daily: int | None,
    keep_weekly: int | None,
    keep_monthly: int | None,
    name_prefix: str | None,
    label: str | None,
    dry_run: bool,
) -> Pruned:
    """Delete the sets that are not to be kept. Blocks. Source: rbd_snap_remove, in worker processes.

    Raises:
        NoSuchVM, InvalidParameter, LibvirtUnavailable, CephPermissionDenied: nothing was deleted.
        PruneFailed: some could not be deleted; the others are.
    """
    keep = Keep(keep_last, keep_daily, keep_weekly, keep_monthly)
    return host.sets.prune(vm_id, keep, name_prefix or "", label, dry_run=dry_run)


@verb("VM.restoreConsistentSnapshot")
def restore_consistent_snapshot(
    host: Host,
    vm_id: UUID,
    snapshot_name: str,
    into: str,
    clone_prefix: str | None,
    with_memory: bool | None,
    job_uuid: UUID | None,
) -> None:
    """Start a job that restores a set. Blocks on libvirt. Source: rbd_snap_rollback, rbd_clone3, in worker
    processes; virDomainRestoreFlags.

    Raises:
        NoSuchVM, VMRunning, InvalidParameter, JobExists: nothing was started.
    """
    asked = RestoreRequest(vm_id, snapshot_name, into, clone_prefix, with_memory)
    host.sets.restore(asked, job_uuid)
