"""The daemon's parts, made from its configuration and joined to each other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from virtceph import config
from virtceph.errors import VirtcephError
from virtceph.host import intents
from virtceph.host.cloning import Cloner
from virtceph.host.drives import Planner
from virtceph.host.host import Host
from virtceph.host.intents import Intents
from virtceph.host.jobs import Jobs
from virtceph.host.leases import Leases
from virtceph.host.leftovers import Leftovers
from virtceph.host.making import Maker
from virtceph.host.names import SnapshotNames
from virtceph.host.paths import Exchange
from virtceph.host.pauses import Pauses
from virtceph.host.records import EXPIRED, LEASES, PAUSES, ExpiredLeases, LeaseRecords
from virtceph.host.restoring import Restorer, RestoreResult
from virtceph.host.savedmemory import SavedMemory
from virtceph.host.secrets import Secrets
from virtceph.host.setnotes import SetNotes, SnapshotSet
from virtceph.host.sets import SnapshotSets
from virtceph.host.snapshots import SnapshotResult, Snapshots
from virtceph.host.storage import StorageDomains
from virtceph.host.strangers import Strangers
from virtceph.host.vms import VMs
from virtceph.host.volumes import Volumes
from virtceph.log import facts
from virtceph.rpc.access import UnixAccess
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.http import HttpServer
from virtceph.rpc.lanes import Lane
from virtceph.schema import Codec, Contract, FieldSpec, check_wire_classes, load_contract
from virtceph.schema.agree import check_errors
from virtceph.verbs import registry
from virtceph.virt.agent import Agent, DomainLocks
from virtceph.virt.connection import Connection, ConnectionPool, start_event_loop
from virtceph.virt.domains import Domains
from virtceph.virt.events import DomainEvent, DomainEvents, Happened
from virtceph.virt.node import Node
from virtceph.virt.secrets import SecretSession

log = logging.getLogger(__name__)

# libvirtd serves five requests of a client at a time: at most four may hang on one connection.
_CALLS_EACH = 4
_RESCUE_CONNECTIONS = 2
_THAW_AT_STOP_S = 10.0
_CLOSE_S = 5.0


class Assembly:
    """Everything that lives as long as the daemon. Blocks while libvirt is connected and our left-over
    secrets are cleared. Raises VirtcephError when libvirt cannot be reached."""

    def __init__(self, settings: config.Config) -> None:
        self._settings = settings
        contract = load_contract()
        functions = registry.load_verbs(contract)
        check_errors(contract)
        check_wire_classes(contract)
        start_event_loop()
        self._connection = Connection(
            settings.libvirt.uri,
            on_back=self._connected,
            on_lost=lambda reason: self.host.leases.libvirt_lost(reason),
            on_closing=lambda: self._events.unregister(),
        )
        self._events = DomainEvents(self._happened)
        self.secrets = Secrets(
            lambda: SecretSession(self._connection.get()),
            settings.secrets.usage_prefix,
            on_removed=lambda uuids: self.host.storage.drop_secrets(uuids),
        )
        self._pools = _agent_pools(settings)
        self.lanes = _lanes(settings.lanes)
        self.host = self._host(contract)
        self.host.verbs = sorted(functions)
        self.host.lanes = lambda: {name: lane.facts() for name, lane in self.lanes.items()}
        self.dispatcher = Dispatcher(
            contract, registry.bind(functions, self.host), self.lanes, self._cluster_key
        )
        self._connection.open(settings.libvirt.connect_timeout_s)
        try:
            # What a crashed predecessor left.
            self.secrets.clear()
            self.host.leases.adopt()
            self.pauses.adopt()
            self.strangers.look_at_all()
        except BaseException:
            self._connection.close()
            raise

    def _connected(self, connection: Any) -> None:
        self._events.register(connection)
        self.secrets.restore(SecretSession(connection))

    def _happened(self, event: DomainEvent) -> None:
        if event.what is Happened.ARRIVED:
            self.strangers.arrived(event.vm_id)
        self.host.leases.happened(event)

    def _host(self, contract: Contract) -> Host:
        settings = self._settings
        domains = Domains(self._connection)
        locks = DomainLocks()
        agent, rescuer = (Agent(pool, locks) for pool in self._pools)
        folder = Path(settings.daemon.runtime_dir)
        timeout_s = settings.ceph.snapshot_timeout_s
        names, planned = SnapshotNames(), Intents(folder / intents.FOLDER)
        storage = StorageDomains(
            self.secrets.key,
            op_timeout_s=settings.ceph.op_timeout_s,
            workers=settings.ceph.workers,
            on_connected=Leftovers(planned, names, timeout_s).remove,
        )
        leases = self._leases(domains, agent, rescuer)
        self.pauses = Pauses(domains, LeaseRecords(folder / PAUSES))
        self.strangers = Strangers(domains, rescuer, leases, settings.freeze.unknown)
        jobs = Jobs(_job_encoder(contract), lambda error: self.dispatcher.error_data(error))
        exchange = Exchange(settings.daemon.exchange_dirs)
        planner = Planner(storage, exchange)
        restorer = Restorer(SavedMemory(domains, leases, exchange), Cloner(planned))
        maker = Maker(domains, names, planned, timeout_s)
        parts = (domains, planner, leases, self.pauses, jobs, maker)
        return Host(
            node=Node(self._connection),
            vms=VMs(domains, storage),
            secrets=self.secrets,
            storage=storage,
            volumes=Volumes(storage, timeout_s, names),
            leases=leases,
            snapshots=Snapshots(*parts),
            sets=SnapshotSets(*parts, SetNotes(storage), restorer, timeout_s),
            jobs=jobs,
        )

    def _leases(self, domains: Domains, agent: Agent, rescuer: Agent) -> Leases:
        settings = self._settings
        folder = Path(settings.daemon.runtime_dir)
        return Leases(
            domains,
            agent,
            rescuer,
            settings.libvirt.agent_timeout_s,
            LeaseRecords(folder / LEASES),
            ExpiredLeases(folder / EXPIRED),
            settings.freeze.max_lease_s,
        )

    def _cluster_key(self, storage_domain_id: str) -> str:
        try:
            return self.host.storage.cluster_key(UUID(storage_domain_id))
        except ValueError:
            return storage_domain_id

    def http_server(self) -> HttpServer:
        """The HTTP server over this assembly."""
        http = self._settings.http
        return HttpServer(
            self.dispatcher,
            UnixAccess(http.socket_group),
            max_body_bytes=http.max_body_bytes,
            max_connections=http.max_connections,
        )

    async def drain(self, timeout_s: float) -> None:
        """Refuse what is new, and wait up to `timeout_s` for requests and jobs under way."""
        self.dispatcher.drain()
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s and (
            self.dispatcher.in_flight or self.host.jobs.running()
        ):
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """Thaw what is frozen, forget keys and connections. Blocks for some seconds at the most."""
        host = self.host
        steps: list[tuple[str, Callable[[], None]]] = [
            ("jobs", lambda: host.jobs.close(_CLOSE_S)),
            ("strangers", self.strangers.close),
            ("pauses", self.pauses.close),
            ("leases", lambda: host.leases.close(_THAW_AT_STOP_S)),
            ("storage", host.storage.close),
            # Last, when nobody can register another.
            ("secrets", self.secrets.clear),
            ("connection", self._connection.close),
        ]
        for what, close in steps:
            try:
                close()
            except VirtcephError as error:
                log.error("not closed in order %s", facts(what=what, reason=error))
        for lane in self.lanes.values():
            lane.close()
        log.info("stopped")


@contextlib.contextmanager
def secrets_only(settings: config.Config) -> Iterator[Secrets]:
    """Just the secrets, for clearing them from the unit's stop-post step. Raises LibvirtUnavailable."""
    connection = Connection(settings.libvirt.uri)
    start_event_loop()
    connection.open(settings.libvirt.connect_timeout_s)
    try:
        yield Secrets(lambda: SecretSession(connection.get()), settings.secrets.usage_prefix)
    finally:
        connection.close()


def _job_encoder(contract: Contract) -> Callable[[Any], Any]:
    """A function from the result of any job to JSON values."""
    codec = Codec(contract)
    encoders = {
        cls: codec.encoder(FieldSpec("result", cls.__name__))
        for cls in (SnapshotResult, SnapshotSet, RestoreResult)
    }
    return lambda result: encoders[type(result)](result)


def _agent_pools(settings: config.Config) -> tuple[ConnectionPool, ConnectionPool]:
    uri, calls = settings.libvirt.uri, settings.lanes.agent
    # Rounded up: a host whose limit is 6 has two connections.
    connections = -(-calls // _CALLS_EACH)
    each = min(calls, _CALLS_EACH)
    return (
        ConnectionPool(uri, connections=connections, calls_each=each, lane="agent"),
        ConnectionPool(uri, connections=_RESCUE_CONNECTIONS, calls_each=_CALLS_EACH, lane="rescue"),
    )


def _lanes(sizes: config.Lanes) -> dict[str, Lane]:
    queue = sizes.queue
    return {
        "libvirt": Lane("libvirt", sizes.libvirt, queue),
        "agent": Lane("agent", sizes.agent, queue, per_key=1),
        "ceph": Lane("ceph", sizes.ceph, queue, per_key=sizes.ceph_per_cluster),
        "rescue": Lane("rescue", sizes.rescue, queue, per_key=2),
    }
