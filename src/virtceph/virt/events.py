"""What libvirt tells of domains without being asked: guests reset, agents gone, VMs ended or migrated."""

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
    """What may happen to a domain, as far as a frozen guest is concerned."""

    RESET = "the guest was reset"
    AGENT_LOST = "the guest agent was restarted or lost"
    AGENT_BACK = "the guest agent is there"
    RESUMED = "the VM runs again"
    STOPPED = "the VM ended"
    MIGRATING = "the VM began to migrate"
    LEFT = "the VM migrated to another host"
    ARRIVED = "the VM migrated to this host"


@dataclass(frozen=True)
class DomainEvent:
    vm_id: UUID
    what: Happened


Listener = Callable[[DomainEvent], None]


class DomainEvents:
    """Registers with each new connection, and calls `listener` in a thread of its own: libvirt's event
    thread must not wait for anything."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._queue: queue.SimpleQueue[DomainEvent] = queue.SimpleQueue()
        self._registered: tuple[libvirt.virConnect, list[int]] | None = None
        threading.Thread(target=self._tell, name="domain-events", daemon=True).start()

    def register(self, connection: libvirt.virConnect) -> None:
        """Have this connection's events. Blocks. Raises libvirt.libvirtError."""
        callbacks: list[tuple[int, Callable[..., None]]] = [
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._agent),
            (libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, self._migrating),
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
                self._listener(event)
            except Exception:
                log.exception("event not handled %s", facts(vm=event.vm_id, what=event.what.value))

    # --- in libvirt's event thread: these only post ---

    def _post(self, domain: libvirt.virDomain, what: Happened) -> None:
        self._queue.put(DomainEvent(UUID(domain.UUIDString()), what))

    def _lifecycle(
        self, _connection: object, domain: libvirt.virDomain, event: int, detail: int, _: object
    ) -> None:
        what = _happened(event, detail)
        if what is not None:
            self._post(domain, what)

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
