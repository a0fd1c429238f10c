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

from dataclasses import dataclass
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


@fact
class VolumeHasSnapshots(StateError):
    code = 5025
    title = "Volume has snapshots"
    detail = "{volume_name}: {snapshots}"
    volume_name: str
    snapshots: list[str]


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
