"""What the daemon tells: events, metrics and health, put together from its other parts."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

from virtceph import __version__, config
from virtceph.errors import NoSuchVM, VirtcephError
from virtceph.events import DaemonStarted, DaemonStopping, LibvirtBack, LibvirtLost, VMStatus
from virtceph.host import health
from virtceph.host.events import Events
from virtceph.host.host import Host
from virtceph.host.job import Job
from virtceph.host.jobtold import JobTold
from virtceph.host.metrics import CONTENT_TYPE, Metrics
from virtceph.host.metricsources import Sources
from virtceph.host.storage import StorageDomains
from virtceph.host.storagewatch import StorageWatch
from virtceph.log import facts
from virtceph.rpc.audit import Asked, AuditTrail, TurnedAway
from virtceph.rpc.feed import Feed
from virtceph.rpc.httppages import Pages
from virtceph.rpc.lanes import Lane
from virtceph.rpc.streams import Streams
from virtceph.schema import Contract
from virtceph.schema.openrpc import openrpc_document
from virtceph.standing import Standing
from virtceph.virt.connection import Connection
from virtceph.virt.domains import Domains
from virtceph.virt.events import UNDEFINED, StateEvent

log = logging.getLogger(__name__)


@dataclass
class _Parts:
    """What is looked at for metrics and health, once all of it is there."""

    host: Host
    connection: Connection
    domains: Domains
    lanes: dict[str, Lane]
    audit: AuditTrail
    standing: Standing


class Telling:
    """The daemon's events, and what is counted and looked up of it."""

    def __init__(self, settings: config.Config, contract: Contract) -> None:
        self._settings, self._contract = settings, contract
        self._parts: _Parts | None = None
        self._libvirt_lost_s: float | None = None
        # What was told of each VM that is not off.
        self._states: dict[UUID, str] = {}
        self.stopping = False
        self.events = Events(contract, settings.events.kept, settings.events.kept_bytes)
        self.tell = self.events.tell
        self.feed = Feed(self.events)
        self.streams = Streams(self.feed, settings.events, contract.events)
        self._jobs = JobTold(self.tell)
        # Set by the servers, which are made later.
        self.connections: Callable[[], dict[str, int]] = dict
        codes = {name: error.code for name, error in contract.errors.items()}
        self.metrics = Metrics(self._sources(), codes)
        self.events.listen(self.metrics.heard)
        self.tell(DaemonStarted(__version__))

    def join(
        self,
        host: Host,
        connection: Connection,
        lanes: dict[str, Lane],
        audit: AuditTrail,
        standing: Standing,
    ) -> None:
        """Know the parts that are looked at."""
        domains = Domains(connection)
        self._parts = _Parts(host, connection, domains, lanes, audit, standing)

    def stop(self) -> None:
        """Tell that the daemon stops."""
        self.stopping = True
        self.tell(DaemonStopping())

    def watch(self, storage: StorageDomains) -> StorageWatch:
        """What watches the storage domains."""
        ceph = self._settings.ceph
        nearly_full = ceph.nearly_full_percent / 100
        self._watch = StorageWatch(storage, ceph.probe_interval_s, nearly_full, self.tell)
        return self._watch

    def pages(self) -> Pages:
        """What the HTTP server shows."""
        openrpc = orjson.dumps(openrpc_document(self._contract, __version__))
        parts = health.Parts(
            stopping=lambda: self.stopping,
            libvirt_away_s=self._libvirt_away_s,
            storage=self._watch.found,
            lanes=self._lanes,
            frozen=self._known.host.leases.by_state,
            unconnected=self._known.standing.missing,
        )
        return Pages(self.metrics.text, CONTENT_TYPE, lambda: health.report(parts), lambda: openrpc)

    # --- what happens ---

    def asked(self, asked: Asked) -> None:
        """A verb was served, or refused."""
        self.metrics.asked(asked.verb, asked.outcome, asked.elapsed_s)

    def turned_away(self, who: TurnedAway) -> None:
        """Somebody connected who gets nothing. Blocks on the disk, where the audit trail is a file."""
        self._known.audit.tell(who)

    def job_changed(self, job: Job) -> None:
        """A job came into another state."""
        self._jobs.changed(job)
        self.metrics.job_changed(job)

    def job_moved(self, job: Job) -> None:
        """A job is further than it was."""
        self._jobs.moved(job)

    def libvirt_lost(self, reason: str) -> None:
        """The connection to libvirt is gone."""
        self._libvirt_lost_s = time.monotonic()
        self.tell(LibvirtLost(reason))

    def libvirt_back(self, away_s: float) -> None:
        """It is there again."""
        self._libvirt_lost_s = None
        self.tell(LibvirtBack(away_s))

    def vm_state(self, event: StateEvent) -> None:
        """libvirt tells of a VM's state. May block on libvirt."""
        if event.status in ("Down", UNDEFINED) and self.metrics.snapshots.knows(event.vm_id):
            try:
                self._known.domains.status(event.vm_id)
            except NoSuchVM:
                self.metrics.snapshots.forget(event.vm_id)
            except VirtcephError as error:
                log.debug("not known whether a VM is gone %s", facts(reason=error))
        if event.status in (UNDEFINED, self._states.get(event.vm_id)):
            return
        # A start is told by libvirt twice: as that, and as the first time that it runs.
        self._states.pop(event.vm_id, None)
        if event.status != "Down":
            self._states[event.vm_id] = event.status
        code = int(event.failed) if event.status == "Down" else None
        self.tell(VMStatus(event.vm_id, event.status, code, event.how))

    # --- what is looked up ---

    @property
    def _known(self) -> _Parts:
        assert self._parts is not None
        return self._parts

    def _sources(self) -> Sources:
        return Sources(
            version=__version__,
            events=self.events,
            lanes=self._lanes,
            connections=lambda: self.connections(),
            streams=lambda: self.streams.open,
            frozen=lambda: self._known.host.leases.by_state(),
            secrets=lambda: len(self._known.host.secrets.registered()),
            libvirt_up=lambda: self._libvirt_away_s() is None,
            storage=lambda: self._watch.found(),
            jobs=lambda: self._known.host.jobs.by_status(),
            audit_failures=lambda: self._known.audit.failures,
        )

    def _lanes(self) -> dict[str, Any]:
        return {name: lane.facts() for name, lane in self._known.lanes.items()}

    def _libvirt_away_s(self) -> float | None:
        lost_s = self._libvirt_lost_s
        if self._known.connection.is_there:
            return None
        return 0.0 if lost_s is None else time.monotonic() - lost_s
