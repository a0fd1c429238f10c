"""Everything the daemon tells without being asked: one class for each event.

The fields of a class are the event's parameters. `schema/events.yml` says the same for those who hear it,
and the daemon does not start when the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID


class Event:
    """The root. `name` goes on the wire."""

    name: ClassVar[str]


# --- VMs ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VMStatus(Event):
    name = "vm_status"
    vm_id: UUID
    status: str
    exit_code: int | None = None
    exit_message: str | None = None


@dataclass(frozen=True)
class VMFrozen(Event):
    name = "vm_frozen"
    vm_id: UUID
    window_id: UUID
    owner: str
    filesystems: int
    expires_in_s: float
    adopted: bool


@dataclass(frozen=True)
class VMThawed(Event):
    name = "vm_thawed"
    vm_id: UUID
    window_id: UUID
    owner: str
    cause: str
    caller: str | None
    filesystems: int
    frozen_for_s: float
    intact: bool
    reason: str


@dataclass(frozen=True)
class VMNotThawed(Event):
    name = "vm_not_thawed"
    vm_id: UUID
    window_id: UUID
    owner: str
    tries: int
    reason: str


@dataclass(frozen=True)
class VMFoundFrozen(Event):
    name = "vm_found_frozen"
    vm_id: UUID
    thawed: bool


@dataclass(frozen=True)
class LeaseExpired(Event):
    name = "lease_expired"
    vm_id: UUID
    window_id: UUID
    owner: str


@dataclass(frozen=True)
class DiskPlugged(Event):
    name = "disk_plugged"
    vm_id: UUID
    disk: str
    storage_domain_id: UUID
    volume_name: str


@dataclass(frozen=True)
class DiskUnplugged(Event):
    name = "disk_unplugged"
    vm_id: UUID
    disk: str


@dataclass(frozen=True)
class DiskExtended(Event):
    name = "disk_extended"
    vm_id: UUID
    disk: str
    storage_domain_id: UUID
    volume_name: str
    size_bytes: int


# --- snapshots of VMs --------------------------------------------------------------------------


@dataclass(frozen=True)
class SnapshotDone(Event):
    name = "snapshot_done"
    vm_id: UUID
    job_id: UUID
    snapshot_name: str | None
    consistency: str
    reason: str
    frozen_for_s: float | None
    disks: list[str]


@dataclass(frozen=True)
class SnapshotInconsistent(SnapshotDone):
    name = "snapshot_inconsistent"


@dataclass(frozen=True)
class SnapshotFailed(Event):
    name = "snapshot_failed"
    vm_id: UUID
    job_id: UUID
    snapshot_name: str | None
    reason: str


@dataclass(frozen=True)
class SnapshotSetDeleted(Event):
    name = "snapshot_set_deleted"
    vm_id: UUID
    set_id: UUID
    snapshot_name: str
    pruned: bool


@dataclass(frozen=True)
class SnapshotSetRestored(Event):
    name = "snapshot_set_restored"
    vm_id: UUID
    set_id: UUID
    snapshot_name: str
    into: str
    volumes: list[str]


# --- jobs --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class JobStatus(Event):
    """`error` is a JobError of the contract."""

    name = "job_status"
    id: UUID
    status: str
    description: str
    job_type: str
    progress: int | None
    error: Any


@dataclass(frozen=True)
class JobProgress(Event):
    name = "job_progress"
    id: UUID
    description: str
    progress: int | None
    step: str | None
    done_bytes: int
    total_bytes: int


# --- keys --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SecretsRegistered(Event):
    name = "secrets_registered"
    uuids: list[UUID]


@dataclass(frozen=True)
class SecretsUnregistered(Event):
    name = "secrets_unregistered"
    uuids: list[UUID]


@dataclass(frozen=True)
class SecretsLost(Event):
    name = "secrets_lost"
    uuids: list[UUID]


@dataclass(frozen=True)
class SecretsRestored(Event):
    name = "secrets_restored"
    uuids: list[UUID]
    failed: list[UUID]


# --- storage domains and their pools -----------------------------------------------------------


@dataclass(frozen=True)
class StorageDomainConnected(Event):
    name = "storage_domain_connected"
    storage_domain_id: UUID
    domain_name: str
    pool: str
    namespace: str
    fsid: UUID


@dataclass(frozen=True)
class StorageDomainDisconnected(Event):
    name = "storage_domain_disconnected"
    storage_domain_id: UUID
    cause: str


@dataclass(frozen=True)
class StorageDomainUnreachable(Event):
    name = "storage_domain_unreachable"
    storage_domain_id: UUID
    reason: str


@dataclass(frozen=True)
class StorageDomainReachable(Event):
    name = "storage_domain_reachable"
    storage_domain_id: UUID
    down_for_s: float


@dataclass(frozen=True)
class PoolNearlyFull(Event):
    name = "pool_nearly_full"
    storage_domain_id: UUID
    pool: str
    used_bytes: int
    capacity_bytes: int


@dataclass(frozen=True)
class PoolFull(PoolNearlyFull):
    name = "pool_full"


@dataclass(frozen=True)
class PoolHasRoom(PoolNearlyFull):
    name = "pool_has_room"


# --- volumes -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class VolumeChanged(Event):
    name = "volume_changed"
    storage_domain_id: UUID
    volume_name: str
    action: str
    snapshot_name: str | None = None
    from_volume: str | None = None
    from_storage_domain_id: UUID | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class ClientEvicted(Event):
    name = "client_evicted"
    storage_domain_id: UUID
    volume_name: str
    client: int
    address: str


# --- the daemon --------------------------------------------------------------------------------


@dataclass(frozen=True)
class DaemonStarted(Event):
    name = "daemon_started"
    version: str


@dataclass(frozen=True)
class DaemonStopping(Event):
    name = "daemon_stopping"


@dataclass(frozen=True)
class LibvirtLost(Event):
    name = "libvirt_lost"
    reason: str


@dataclass(frozen=True)
class LibvirtBack(Event):
    name = "libvirt_back"
    down_for_s: float


@dataclass(frozen=True)
class EventsLost(Event):
    name = "events_lost"
    cause: str
    count: int | None = None


def all_events() -> dict[str, type[Event]]:
    """Every class by the name of its event."""
    found: dict[str, type[Event]] = {}
    waiting = Event.__subclasses__()
    while waiting:
        cls = waiting.pop()
        found[cls.name] = cls
        waiting += cls.__subclasses__()
    return found


def facts_of(event: Event) -> dict[str, Any]:
    """The parameters of an event by their Python names."""
    return dict(vars(event))
