"""VM.*: what is done to a guest."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.drives import SnapDrive
from virtceph.host.host import Host
from virtceph.host.leases import FreezeResult, FreezeStatus, LeaseExtended, ThawResult
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
    """
    asked = SnapshotRequest(
        vm_id, tuple(snap_drives), snap_memory, frozen, timeout_s, freeze_timeout_s
    )
    host.snapshots.start(asked, job_uuid)
