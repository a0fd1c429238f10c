"""Every error a caller can meet: one class for each thing the caller can act on.

    VirtcephError
    ├── CallerError     fix the request
    ├── StateError      bring it into the needed state first
    ├── Unavailable     libvirt, Ceph or the agent did not answer: ask again later
    ├── Failed          tried, and did not work
    └── InternalError   our bug

The fields of a class are its facts. `schema/errors.yml` says the same for callers, and the daemon
does not start when the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID


class VirtcephError(Exception):
    """The root. `code` goes on the wire, `title` begins the message, `detail` ends it."""

    code: ClassVar[int]
    kind: ClassVar[str]
    title: ClassVar[str]
    detail: ClassVar[str] = ""

    @property
    def message(self) -> str:
        """One sentence for people: the title, and what the facts add to it."""
        detail = self.detail.format_map(self.__dict__)
        return f"{self.title}: {detail}" if detail else self.title

    def __str__(self) -> str:
        return self.message


class CallerError(VirtcephError):
    kind = "caller"


class StateError(VirtcephError):
    kind = "state"


class Unavailable(VirtcephError):
    kind = "unavailable"


class Failed(VirtcephError):
    kind = "failed"


fact = dataclass(eq=False, repr=False)


# --- JSON-RPC itself ---------------------------------------------------------------------------


@fact
class ParseError(CallerError):
    code = -32700
    title = "Parse error"
    detail = "the body is not JSON"


@fact
class InvalidRequest(CallerError):
    code = -32600
    title = "Invalid request"
    detail = "expected {expected}"
    expected: str


@fact
class MethodNotFound(CallerError):
    code = -32601
    title = "The method does not exist or is not available"
    detail = "{method}"
    method: str


@fact
class InvalidParams(CallerError):
    code = -32602
    title = "Invalid parameters"
    detail = "{field}: expected {expected}"
    field: str
    expected: str


@fact
class InternalError(VirtcephError):
    code = -32603
    kind = "internal"
    title = "Internal error"
    detail = "see the daemon's log for request {request_id}"
    request_id: str


@fact
class AccessDenied(CallerError):
    code = 5000
    title = "Not allowed"
    detail = "{caller} may not call {verb}, which is for the level {level}"
    caller: str
    verb: str
    level: str


# --- Requests that cannot be served as they are --------------------------------------------------


@fact
class InvalidParameter(CallerError):
    code = 91
    title = "Invalid parameter"
    detail = "{field}: expected {expected}"
    field: str
    expected: str


@fact
class OperationNotSupported(CallerError):
    code = 75
    title = "Operation not supported"
    detail = "{what}; expected {expected}"
    what: str
    expected: str


@fact
class JobExists(CallerError):
    code = 100
    title = "A job with this id exists"
    detail = "{job_uuid}, with other arguments"
    job_uuid: UUID


@fact
class NoSuchJob(CallerError):
    code = 66
    title = "Job does not exist"
    detail = "{job_uuid}"
    job_uuid: UUID


@fact
class JobNotDone(StateError):
    code = 68
    title = "Job is not done"
    detail = "{job_uuid} is {status}"
    job_uuid: UUID
    status: str


@fact
class JobNotAbortable(StateError):
    code = 80
    title = "Job cannot be aborted"
    detail = "{job_uuid}: this kind of work ends by itself"
    job_uuid: UUID


@fact
class JobNotActive(StateError):
    code = 84
    title = "Job is not active"
    detail = "{job_uuid} is {status}"
    job_uuid: UUID
    status: str


@fact
class JobInterrupted(Failed):
    code = 5060
    title = "Job was interrupted"
    detail = "{description}: the daemon ended before it was done; what it left is removed"
    description: str


@fact
class JobNotRecorded(Failed):
    code = 5061
    title = "Job cannot be recorded"
    detail = "{path}: {reason}"
    path: str
    reason: str


@fact
class PathNotAllowed(CallerError):
    code = 5001
    title = "Path not allowed"
    detail = "{path}: {reason}"
    path: str
    reason: str


@fact
class PathExists(CallerError):
    code = 5002
    title = "Path exists"
    detail = "{path}"
    path: str


@fact
class NoSuchFile(CallerError):
    code = 5005
    title = "File does not exist"
    detail = "{path}"
    path: str


@fact
class BadImageFile(CallerError):
    code = 5006
    title = "File is not a usable image"
    detail = "{path}: {reason}"
    path: str
    reason: str


@fact
class FileFailed(Failed):
    code = 5007
    title = "File could not be read or written"
    detail = "{path}: {reason}"
    path: str
    reason: str


@fact
class ConversionFailed(Failed):
    code = 5008
    title = "Conversion failed"
    detail = "{path}: {reason}"
    path: str
    reason: str


# --- VMs and their guests ------------------------------------------------------------------------


@fact
class NoSuchVM(CallerError):
    code = 1
    title = "Virtual machine does not exist"
    # The form existing engines show to their users.
    detail = "{{'vmId': '{vm_id}'}}"
    vm_id: UUID


@fact
class VMDown(StateError):
    code = 6
    title = "Virtual machine is down"
    detail = "{vm_id}"
    vm_id: UUID


@fact
class VMRunning(StateError):
    code = 5003
    title = "Virtual machine is running"
    detail = "VM {vm_id} is {status}"
    vm_id: UUID
    status: str


@fact
class MemoryUnusable(StateError):
    code = 5004
    title = "Saved memory cannot be restored"
    detail = "{path}: {reason}"
    path: str
    reason: str


@fact
class NoSuchDrive(CallerError):
    code = 13
    title = "Drive image file could not be found"
    detail = "{field}: expected {expected}"
    vm_id: UUID
    field: str
    expected: str


@fact
class GuestAgentUnresponsive(Unavailable):
    code = 19
    title = "Guest agent non-responsive"
    detail = "VM {vm_id} gave no answer within {timeout_s:g} s"
    vm_id: UUID
    timeout_s: float


@fact
class MigrationInProgress(StateError):
    code = 51
    title = "Command not supported during migration"
    detail = "VM {vm_id}"
    vm_id: UUID


@fact
class SnapshotFailed(Failed):
    code = 48
    title = "Snapshot failed"
    detail = "{step}: {reason}"
    vm_id: UUID
    step: str
    reason: str


class FreezeError(VirtcephError):
    code = 76
    title = "Unable to freeze guest filesystems"


@fact
class FreezePaused(FreezeError, StateError):
    detail = "VM {vm_id} is paused"
    vm_id: UUID


@fact
class FreezeNoAgent(FreezeError, StateError):
    detail = "VM {vm_id} has no guest agent channel"
    vm_id: UUID


@fact
class AlreadyFrozen(FreezeError, StateError):
    detail = "VM {vm_id} is frozen already, and not by this daemon"
    vm_id: UUID


@fact
class NotFrozen(FreezeError, StateError):
    detail = "VM {vm_id} has no freeze that could be extended"
    vm_id: UUID


@fact
class FrozenByAnother(FreezeError, StateError):
    detail = "VM {vm_id} is frozen by {owner}"
    vm_id: UUID
    owner: str


@fact
class NothingFrozen(FreezeError, Failed):
    detail = "the agent of VM {vm_id} found no file system to freeze"
    vm_id: UUID


@fact
class FreezeFailed(FreezeError, Failed):
    detail = "VM {vm_id}: {reason}"
    vm_id: UUID
    reason: str


class ThawError(VirtcephError):
    code = 77
    title = "Unable to thaw guest filesystems"


@fact
class ThawPaused(ThawError, StateError):
    detail = "VM {vm_id} is paused; resume it, and it is thawed"
    vm_id: UUID


@fact
class ThawNoAgent(ThawError, StateError):
    detail = "VM {vm_id} has no guest agent channel"
    vm_id: UUID


@fact
class ThawNeedsForce(ThawError, StateError):
    detail = "VM {vm_id} was frozen by {owner}; say force=true to thaw it all the same"
    vm_id: UUID
    owner: str


@fact
class ThawFailed(ThawError, Failed):
    detail = "VM {vm_id}: {reason}"
    vm_id: UUID
    reason: str


# --- Secrets -------------------------------------------------------------------------------------


@fact
class BadSecretRequest(CallerError):
    code = 72
    title = "Bad secret request"
    detail = "{field}: expected {expected}"
    field: str
    expected: str


class RegisterError(VirtcephError):
    code = 73
    title = "Error registering Libvirt secret"


@fact
class SecretUsageTaken(RegisterError, StateError):
    detail = "{uuid}: the usage id {usage_id} is held by {holder}"
    uuid: UUID
    usage_id: str
    holder: UUID


@fact
class ForeignSecret(RegisterError, StateError):
    detail = "{uuid} belongs to a secret that is not this daemon's"
    uuid: UUID


@fact
class SecretRegistrationFailed(RegisterError, Failed):
    detail = "{uuid}: {reason}"
    uuid: UUID
    reason: str


class UnregisterError(VirtcephError):
    code = 74
    title = "Error unregistering Libvirt secret"


@fact
class ForeignSecretKept(UnregisterError, StateError):
    detail = "{uuid} is not this daemon's"
    uuid: UUID


@fact
class SecretUnregistrationFailed(UnregisterError, Failed):
    detail = "{uuid}: {reason}"
    uuid: UUID
    reason: str


# --- Storage domains and volumes -----------------------------------------------------------------


@fact
class NoSuchStorageDomain(CallerError):
    code = 5010
    title = "Storage domain is not connected"
    detail = "{storage_domain_id}"
    storage_domain_id: UUID


@fact
class StorageDomainExists(CallerError):
    code = 5011
    title = "Storage domain is connected otherwise"
    detail = "{storage_domain_id} differs in {field}"
    storage_domain_id: UUID
    field: str


@fact
class NoSuchSecret(CallerError):
    code = 5012
    title = "Secret is not registered"
    detail = "{secret_uuid}"
    secret_uuid: UUID


@fact
class NoSuchPool(CallerError):
    code = 5013
    title = "Pool does not exist"
    detail = "{pool}"
    pool: str


@fact
class KeyRejected(CallerError):
    code = 5014
    title = "The cluster rejects the key"
    detail = "client.{user}"
    user: str


@fact
class CephPermissionDenied(CallerError):
    code = 5015
    title = "The cephx user may not do that"
    detail = "client.{user}, {operation}: missing {missing}"
    user: str
    operation: str
    missing: str


@fact
class NoSuchNamespace(CallerError):
    code = 5016
    title = "Namespace does not exist"
    detail = "{pool}/{namespace}"
    pool: str
    namespace: str


@fact
class NoSuchVolume(CallerError):
    code = 5020
    title = "Volume does not exist"
    detail = "{volume_name}"
    volume_name: str


@fact
class VolumeExists(CallerError):
    code = 5021
    title = "Volume exists"
    detail = "{volume_name} is there already, and not what was asked for"
    volume_name: str


@fact
class NoSuchSnapshot(CallerError):
    code = 5022
    title = "Snapshot does not exist"
    detail = "{volume_name}@{snapshot_name}"
    volume_name: str
    snapshot_name: str


@fact
class SnapshotExists(CallerError):
    code = 5023
    title = "Snapshot exists"
    detail = "{volume_name}@{snapshot_name}"
    volume_name: str
    snapshot_name: str


@fact
class VolumeInUse(StateError):
    code = 5024
    title = "Volume is in use"
    detail = "{volume_name} is open at {watchers}"
    volume_name: str
    watchers: list[str]
    # Of Volume.delete: what would have to be done first, each with its command.
    steps: list[str] = field(default_factory=list)


@fact
class VolumeHasSnapshots(StateError):
    code = 5025
    title = "Volume has snapshots"
    detail = "{volume_name}: {snapshots}"
    volume_name: str
    snapshots: list[str]
    steps: list[str] = field(default_factory=list)


@fact
class SnapshotProtected(StateError):
    code = 5026
    title = "Snapshot is protected"
    detail = "{volume_name}@{snapshot_name}"
    volume_name: str
    snapshot_name: str


@fact
class PruneFailed(StateError):
    code = 5027
    title = "Not everything was pruned"
    detail = "{failed}: {reason}; deleted {deleted}"
    vm_id: UUID
    failed: list[str]
    reason: str
    deleted: list[str]


@fact
class WouldShrink(CallerError):
    code = 5041
    title = "The volume is larger"
    detail = "{volume_name} has {size_bytes} bytes, asked were {new_size_bytes}"
    volume_name: str
    size_bytes: int
    new_size_bytes: int


@fact
class BadDiff(CallerError):
    """`offset` is a place in the file at `path`: where reading found it wrong."""

    code = 5040
    title = "Not a diff that can be used"
    detail = "{path}, byte {offset}: {reason}"
    path: str
    offset: int
    reason: str


@fact
class PoolFull(StateError):
    code = 5030
    title = "Pool is full"
    detail = "{reason}; full: {pools}"
    pools: list[str]
    reason: str


@fact
class VolumeChanged(StateError):
    code = 5042
    title = "Volume changed meanwhile"
    detail = "{volume_name} was written to, or opened for it, while it was read"
    volume_name: str


@fact
class DiffMismatch(StateError):
    code = 5043
    title = "Diff does not fit"
    detail = "{path} on {volume_name}: {reason}"
    volume_name: str
    path: str
    reason: str


# --- Disks of a VM ------------------------------------------------------------------------------


class HotplugError(VirtcephError):
    code = 45
    title = "Failed to hotplug disk"


@fact
class HotplugFailed(HotplugError, Failed):
    detail = "{disk}: {reason}"
    vm_id: UUID
    disk: str
    reason: str


@fact
class PlugConflict(HotplugError, StateError):
    detail = "{disk}: {reason}"
    vm_id: UUID
    disk: str
    reason: str


class HotunplugError(VirtcephError):
    code = 46
    title = "Failed to hotunplug disk"


@fact
class HotunplugFailed(HotunplugError, Failed):
    detail = "{disk}: {reason}"
    vm_id: UUID
    disk: str
    reason: str


@fact
class DiskNotPlugged(HotunplugError, CallerError):
    detail = "Disk not found: {disk}"
    vm_id: UUID
    disk: str


@fact
class DiskNotReleased(HotunplugError, Unavailable):
    detail = "{disk} is still there after {timeout_s:g} s: {reason}"
    vm_id: UUID
    disk: str
    timeout_s: float
    reason: str


@fact
class ResizeFailed(Failed):
    code = 56
    title = "Failed to update device"
    detail = "{disk}: {reason}"
    vm_id: UUID
    disk: str
    reason: str


@fact
class BadDiskSize(CallerError):
    code = 58
    title = "Wrong resize disk parameter"
    detail = "{field}: expected {expected}"
    field: str
    expected: str


@fact
class DisksBusy(StateError):
    code = 5050
    title = "The disks are in use by something else"
    detail = "{what}: {reason}"
    what: str
    reason: str


@fact
class DiskChangeStalled(Unavailable):
    code = 5051
    title = "QEMU or libvirt does not answer"
    detail = "{what}, given up after {timeout_s:g} s"
    what: str
    timeout_s: float


@fact
class VolumeNotDeletable(StateError):
    code = 5031
    title = "Volume cannot be deleted"
    detail = "{volume_name}: {reason}"
    volume_name: str
    reason: str
    steps: list[str] = field(default_factory=list)


@fact
class NotInTrash(CallerError):
    code = 5032
    title = "Not in the trash"
    detail = "{entry}"
    entry: str


@fact
class TrashDeferred(StateError):
    code = 5033
    title = "Kept in the trash for now"
    detail = "{volume_name} ({id}) may be purged from {until} on"
    volume_name: str
    id: str
    until: str


@fact
class EvictionNotConfirmed(StateError):
    code = 5034
    title = "Cutting a client off needs confirm=true"
    detail = "client {client} at {address}, {who}"
    volume_name: str
    client: int
    address: str
    who: str


@fact
class VolumeNotPrimary(StateError):
    code = 5035
    title = "Volume is a mirror's secondary"
    detail = "{volume_name} is written by its primary only"
    volume_name: str


# --- Not answered, or not possible ---------------------------------------------------------------


@fact
class LaneBusy(Unavailable):
    code = 1100
    title = "Not enough resources"
    detail = "the lane {lane} is full"
    lane: str


@fact
class LibvirtUnavailable(Unavailable):
    code = 5100
    title = "libvirt is unavailable"
    detail = "{reason}"
    reason: str


@fact
class CephUnavailable(Unavailable):
    code = 5101
    title = "Ceph is unavailable"
    detail = "{reason}"
    reason: str


@fact
class LockOwnerStalled(Unavailable):
    code = 5102
    title = "The image's owner does not answer"
    detail = "{volume_name}, given up after {timeout_s:g} s"
    volume_name: str
    timeout_s: float


@fact
class DeadlineExceeded(Unavailable):
    code = 5103
    title = "No answer by the deadline"
    detail = "{verb} after {deadline_s:g} s; it may still end"
    verb: str
    deadline_s: float


@fact
class ShuttingDown(Unavailable):
    code = 5104
    title = "The daemon is stopping"


@fact
class CephFailed(Failed):
    code = 5200
    title = "Ceph refused"
    detail = "{operation}: {reason} (errno {errno})"
    operation: str
    errno: int
    reason: str


@fact
class LibvirtFailed(Failed):
    code = 5201
    title = "libvirt refused"
    detail = "{operation}: {reason} (libvirt code {libvirt_code})"
    operation: str
    libvirt_code: int
    reason: str


def _leaves(cls: type[VirtcephError]) -> list[type[VirtcephError]]:
    below = cls.__subclasses__()
    return [leaf for sub in below for leaf in _leaves(sub)] or [cls]


def all_errors() -> dict[str, type[VirtcephError]]:
    """Every concrete error class by its name."""
    return {cls.__name__: cls for cls in _leaves(VirtcephError)}


def facts_of(error: VirtcephError) -> dict[str, Any]:
    """The facts of an error by their Python names."""
    return {name: getattr(error, name) for name in type(error).__dataclass_fields__}  # type: ignore[attr-defined]
