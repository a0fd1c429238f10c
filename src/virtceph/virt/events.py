"""What libvirt tells of domains without being asked: guests reset, agents gone, VMs ended or migrated,
devices gone."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from uuid import UUID

import libvirt

from virtceph.log import facts

log = logging.getLogger(__name__)


class Happened(Enum):
    """What may happen to a domain, as far as a frozen guest or a disk is concerned."""

    RESET = "the guest was reset"
    AGENT_LOST = "the guest agent was restarted or lost"
    AGENT_BACK = "the guest agent is there"
    RESUMED = "the VM runs again"
    STOPPED = "the VM ended"
    MIGRATING = "the VM began to migrate"
    LEFT = "the VM migrated to another host"
    ARRIVED = "the VM migrated to this host"
    DEVICE_REMOVED = "a device was unplugged"
    DEVICE_KEPT = "the guest refused to let go of a device"


@dataclass(frozen=True)
class DomainEvent:
    """What happened; `device` is the alias of the device that it happened to."""

    vm_id: UUID
    what: Happened
    device: str = ""


# The state of a domain that libvirt was told to forget.
UNDEFINED = "undefined"


@dataclass(frozen=True)
class StateEvent:
    """A domain came into another state: `status` in the words of the contract's VMStatus, or UNDEFINED.
    `how` it ended, where it did, and whether that was a failure."""

    vm_id: UUID
    status: str
    how: str | None = None
    failed: bool = False


Listener = Callable[[DomainEvent], None]
StateListener = Callable[[StateEvent], None]


class DomainEvents:
    """Registers with each new connection, and calls `listener`, and `on_state` with states, in a thread of
    its own: libvirt's event thread must not wait for anything."""

    def __init__(self, listener: Listener, on_state: StateListener = lambda _event: None) -> None:
        self._listener, self._on_state = listener, on_state
        self._queue: queue.SimpleQueue[DomainEvent | StateEvent] = queue.SimpleQueue()
        self._registered: tuple[libvirt.virConnect, list[int]] | None = None
        threading.Thread(target=self._tell, name="domain-events", daemon=True).start()

    def register(self, connection: libvirt.virConnect) -> None:
        """Have this connection's events. Blocks. Raises libvirt.libvirtError."""
        callbacks: list[tuple[int, Callable[..., None]]] = [
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._agent),
            (libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, self._migrating),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, self._removed),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, self._kept),
        ]
        ids = [
            connection.domainEventRegisterAny(None, kind, callback, None)
            for kind, callback in callbacks
        ]
        self._registered = connection, ids

    def unregister(self) -> None:
        """Let the connection go: a callback left behind would hold it open. Blocks."""
        if self._registered is None:
            return
        (connection, ids), self._registered = self._registered, None
        for ident in ids:
            # Of a connection that is lost only our end is left, and that is what is cleared here.
            with contextlib.suppress(libvirt.libvirtError):
                connection.domainEventDeregisterAny(ident)

    def _tell(self) -> None:
        while True:
            event = self._queue.get()
            try:
                if isinstance(event, StateEvent):
                    self._on_state(event)
                else:
                    self._listener(event)
            except Exception:
                log.exception("event not handled %s", facts(vm=event.vm_id, event=event))

    # --- in libvirt's event thread: these only post ---

    def _post(self, domain: libvirt.virDomain, what: Happened, device: str = "") -> None:
        self._queue.put(DomainEvent(UUID(domain.UUIDString()), what, device))

    def _lifecycle(
        self, _connection: object, domain: libvirt.virDomain, event: int, detail: int, _: object
    ) -> None:
        what = _happened(event, detail)
        if what is not None:
            self._post(domain, what)
        if event in _STATUS:
            self._queue.put(_state(UUID(domain.UUIDString()), event, detail))

    def _reboot(self, _connection: object, domain: libvirt.virDomain, _: object) -> None:
        self._post(domain, Happened.RESET)

    def _agent(
        self, _connection: object, domain: libvirt.virDomain, state: int, _reason: int, _: object
    ) -> None:
        is_back = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
        self._post(domain, Happened.AGENT_BACK if is_back else Happened.AGENT_LOST)

    def _migrating(
        self, _connection: object, domain: libvirt.virDomain, _iteration: int, _: object
    ) -> None:
        self._post(domain, Happened.MIGRATING)

    def _removed(
        self, _connection: object, domain: libvirt.virDomain, alias: str, _: object
    ) -> None:
        self._post(domain, Happened.DEVICE_REMOVED, alias)

    def _kept(self, _connection: object, domain: libvirt.virDomain, alias: str, _: object) -> None:
        self._post(domain, Happened.DEVICE_KEPT, alias)


_STATUS = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: "Up",
    libvirt.VIR_DOMAIN_EVENT_RESUMED: "Up",
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: "Paused",
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: "Paused",
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: "Powering down",
    libvirt.VIR_DOMAIN_EVENT_STOPPED: "Down",
    libvirt.VIR_DOMAIN_EVENT_CRASHED: "Down",
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: UNDEFINED,
}
_ENDINGS = {
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN: "it was shut down",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_DESTROYED: "it was destroyed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED: "it crashed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED: "it migrated to another host",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_SAVED: "it was saved",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED: "QEMU failed",
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT: "it was brought back to a snapshot",
}
_FAILURES = (
    libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED,
)


def _state(vm_id: UUID, event: int, detail: int) -> StateEvent:
    status = _STATUS[event]
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        return StateEvent(vm_id, status, _ENDINGS.get(detail), detail in _FAILURES)
    if event == libvirt.VIR_DOMAIN_EVENT_CRASHED:
        return StateEvent(vm_id, status, "the guest's system crashed", True)
    return StateEvent(vm_id, status)


def _happened(event: int, detail: int) -> Happened | None:
    if event == libvirt.VIR_DOMAIN_EVENT_RESUMED:
        arrived = detail == libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED
        return Happened.ARRIVED if arrived else Happened.RESUMED
    if event == libvirt.VIR_DOMAIN_EVENT_STOPPED:
        left = detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED
        return Happened.LEFT if left else Happened.STOPPED
    if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
        # Pre-copy ends with the source paused; the guest is as good as gone from here on.
        migrating = detail == libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED
        return Happened.MIGRATING if migrating else None
    return None
