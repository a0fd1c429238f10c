"""The daemon's parts, made from its configuration and joined to each other."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from virtceph import config
from virtceph.datawork import data_work
from virtceph.errors import VirtcephError
from virtceph.host import intents
from virtceph.host.clones import Clones
from virtceph.host.cloning import Cloner
from virtceph.host.deletion import Deletions
from virtceph.host.diskchanges import DiskChanges
from virtceph.host.drives import Planner
from virtceph.host.eviction import Evictions
from virtceph.host.extending import Extending
from virtceph.host.host import Host
from virtceph.host.intents import Intents
from virtceph.host.jobs import Jobs
from virtceph.host.leases import Leases
from virtceph.host.leftovers import Leftovers
from virtceph.host.making import Maker
from virtceph.host.names import SnapshotNames
from virtceph.host.paths import Exchange
from virtceph.host.pauses import Pauses
from virtceph.host.plugging import Disks
from virtceph.host.records import EXPIRED, LEASES, PAUSES, ExpiredLeases, LeaseRecords
from virtceph.host.releases import Releases
from virtceph.host.restoring import Restorer
from virtceph.host.savedmemory import SavedMemory
from virtceph.host.secrets import Secrets
from virtceph.host.setnotes import SetNotes
from virtceph.host.sets import SnapshotSets
from virtceph.host.snapshots import Snapshots
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.host.strangers import Strangers
from virtceph.host.trash import Trash
from virtceph.host.users import ImageUsers
from virtceph.host.vms import VMs
from virtceph.host.volumeinfo import VolumeInfos
from virtceph.host.volumes import Volumes
from virtceph.host.volumesnapshots import VolumeSnapshots
from virtceph.jobresults import result_encoder
from virtceph.log import facts
from virtceph.pools import agent_pools, disk_pool, lanes_of
from virtceph.rpc.access import Access
from virtceph.rpc.audit import Asked, AuditTrail
from virtceph.rpc.dispatch import Dispatcher
from virtceph.schema import Contract, check_wire_classes, load_contract
from virtceph.schema.agree import check_errors, check_events
from virtceph.servers import Servers
from virtceph.sockets import Sockets, Tls
from virtceph.standing import Standing
from virtceph.telling import Telling
from virtceph.verbs import registry
from virtceph.virt.agent import Agent, DomainLocks
from virtceph.virt.connection import Connection, start_event_loop
from virtceph.virt.disks import DiskCalls
from virtceph.virt.domains import Domains
from virtceph.virt.events import DomainEvent, DomainEvents, Happened
from virtceph.virt.keeper import SecretKeeper
from virtceph.virt.node import Node

log = logging.getLogger(__name__)

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
        check_events(contract)
        check_wire_classes(contract)
        self.telling = Telling(settings, contract)
        start_event_loop()
        self._standing = Standing(settings, contract)
        self._connection = Connection(
            settings.libvirt.uri,
            on_back=self._connected,
            on_lost=self._libvirt_lost,
            on_returned=self.telling.libvirt_back,
            on_closing=lambda: self._events.unregister(),
        )
        self._events = DomainEvents(self._happened, self.telling.vm_state)
        self.secrets = Secrets(
            lambda: self._keeper.session(),
            settings.secrets.usage_prefix,
            on_removed=lambda uuids: self.host.storage.drop_secrets(uuids),
            tell=self.telling.tell,
        )
        self._keeper = SecretKeeper(
            self._connection, settings.libvirt.secret_uri, self.secrets.restore
        )
        self._pools = agent_pools(settings)
        self._disk_calls = DiskCalls(disk_pool(settings))
        self._releases = Releases()
        self.lanes = lanes_of(settings.lanes)
        self.host = self._host(contract)
        self.host.verbs = sorted(functions)
        self.host.lanes = lambda: {name: lane.facts() for name, lane in self.lanes.items()}
        self._access, self._gone = Access(settings.access), False
        self._audit = AuditTrail(settings.audit.file, settings.audit.level)
        parts = self.host, self._connection, self.lanes, self._audit, self._standing
        self.telling.join(*parts)
        self.dispatcher = Dispatcher(
            contract,
            registry.bind(functions, self.host),
            self.lanes,
            self.host.storage.cluster_key,
            self._asked,
        )
        self._connection.open(settings.libvirt.connect_timeout_s)
        try:
            self._keeper.open(settings.libvirt.connect_timeout_s)
            # What a crashed predecessor left.
            self.secrets.clear()
            self._standing.register(self.secrets)
            self.data.leftovers.adopt(self.host.jobs)
            self.host.leases.adopt()
            self.pauses.adopt()
            self.strangers.look_at_all()
            self._standing.begin(self.host.storage, self._connection)
        except BaseException:
            self._keeper.close()
            self._connection.close()
            raise

    def _asked(self, asked: Asked) -> None:
        self.telling.asked(asked)
        if self._audit.wants(asked.level) or asked.outcome == "AccessDenied":
            self._audit.tell(asked)

    def _libvirt_lost(self, reason: str) -> None:
        self.telling.libvirt_lost(reason)
        self.host.leases.libvirt_lost(reason)

    def _connected(self, connection: Any) -> None:
        self._events.register(connection)
        self._keeper.main_is_back(connection)

    def _happened(self, event: DomainEvent) -> None:
        self._releases.happened(event)
        if event.what is Happened.DEVICE_KEPT:
            return
        if event.what is Happened.ARRIVED:
            self.strangers.arrived(event.vm_id)
        self.host.leases.happened(event)

    def _host(self, contract: Contract) -> Host:
        settings, tell = self._settings, self.telling.tell
        domains = Domains(self._connection)
        locks, silent = DomainLocks(), self.telling.metrics.agent_silent
        agent, rescuer = (Agent(pool, locks, silent) for pool in self._pools)
        folder = Path(settings.daemon.runtime_dir)
        timeout_s = settings.ceph.snapshot_timeout_s
        # What was being made in a cluster outlives a reboot, unlike a frozen guest.
        state = Path(settings.daemon.state_dir)
        names, planned = SnapshotNames(), Intents(state / intents.FOLDER)
        storage = StorageDomains(
            self.secrets.key,
            op_timeout_s=settings.ceph.op_timeout_s,
            workers=settings.ceph.workers,
            on_connected=self._storage_connected,
            tell=tell,
        )
        self._watch = self.telling.watch(storage)
        self._leftovers = Leftovers(planned, names, timeout_s)
        leases = self._leases(domains, agent, rescuer)
        self.pauses = Pauses(domains, LeaseRecords(folder / PAUSES))
        self.strangers = Strangers(domains, rescuer, leases, settings.freeze.unknown, tell)
        jobs = Jobs(
            result_encoder(contract),
            lambda error: self.dispatcher.error_data(error),
            on_change=self.telling.job_changed,
            on_progress=self.telling.job_moved,
        )
        exchange = Exchange(settings.daemon.exchange_dirs)
        volumes = Volumes(storage, timeout_s)
        self.users = ImageUsers(domains)
        deletions = Deletions(storage, self.users)
        self.data = data_work(settings, storage, jobs, exchange, names, volumes, deletions)
        planner = Planner(storage, exchange)
        restorer = Restorer(SavedMemory(domains, leases, exchange), Cloner(planned))
        changes = DiskChanges()
        maker = Maker(domains, names, planned, changes, timeout_s)
        parts = (domains, planner, leases, self.pauses, jobs, maker)
        disks = (domains, self._disk_calls, storage)
        seen = self.telling.metrics.snapshots.made
        return Host(
            node=Node(self._connection),
            vms=VMs(domains, storage),
            secrets=self.secrets,
            storage=storage,
            volumes=volumes,
            volume_infos=VolumeInfos(storage, self.users),
            volume_snapshots=VolumeSnapshots(storage, timeout_s, names),
            clones=Clones(storage, planned),
            deletions=deletions,
            trash=Trash(storage, deletions, timeout_s),
            evictions=Evictions(storage, self.users, timeout_s, tell),
            leases=leases,
            snapshots=Snapshots(*parts, tell),
            sets=SnapshotSets(*parts, SetNotes(storage), restorer, timeout_s, tell, seen),
            jobs=jobs,
            copies=self.data.copies,
            exports=self.data.exports,
            flattens=self.data.flattens,
            diffs=self.data.diffs,
            disks=Disks(*disks, leases, changes, self._releases, tell=tell),
            extending=Extending(*disks, changes, timeout_s, tell),
        )

    def _storage_connected(self, domain: StorageDomain) -> None:
        self._leftovers.remove(domain)
        self.data.leftovers.connected(domain)
        self.data.movers.prepare()
        self._watch.watch(domain)

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
            self.telling.tell,
        )

    def servers(self, sockets: Sockets, tls: Tls) -> Servers:
        """The servers over this assembly."""
        return Servers(self._settings, self.dispatcher, self._access, self.telling, sockets, tls)

    async def drain(self, timeout_s: float) -> None:
        """Refuse what is new, and wait up to `timeout_s` for requests and jobs under way."""
        self.telling.stop()
        self.dispatcher.drain()
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s and (
            self.dispatcher.in_flight or self.host.jobs.running()
        ):
            await asyncio.sleep(0.02)

    def let_go(self) -> None:
        """Thaw what is frozen, and end jobs; once. Blocks for some seconds at the most."""
        if self._gone:
            return
        self._gone, host = True, self.host
        _close_all(
            ("standing", self._standing.close),
            ("jobs", lambda: host.jobs.close(_CLOSE_S)),
            ("movers", self.data.movers.close),
            ("users", self.users.close),
            ("strangers", self.strangers.close),
            ("pauses", self.pauses.close),
            ("leases", lambda: host.leases.close(_THAW_AT_STOP_S)),
        )

    def close(self) -> None:
        """Let go, forget keys and connections. Blocks for some seconds at the most."""
        self.let_go()
        _close_all(
            ("watch", self._watch.close),
            ("storage", self.host.storage.close),
            # Last, when nobody can register another.
            ("secrets", self.secrets.clear),
            ("disks", self._disk_calls.close),
            ("keeper", self._keeper.close),
            ("connection", self._connection.close),
        )
        for lane in self.lanes.values():
            lane.close()
        log.info("stopped")


def _close_all(*steps: tuple[str, Callable[[], None]]) -> None:
    for what, close in steps:
        try:
            close()
        except VirtcephError as error:
            log.error("not closed in order %s", facts(what=what, reason=error))
