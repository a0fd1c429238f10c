"""One VM on fakes, and the real parts that make snapshots of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import FakeDomains, rbd_disk
from tests.fakes.fake_events import Heard
from tests.fakes.fake_storage import FakeStorageDomains
from tests.fakes.waiting import until
from virtceph import errors, request
from virtceph.ceph.workers import Call, Outcome
from virtceph.host.cloning import Cloner
from virtceph.host.diskchanges import DiskChanges
from virtceph.host.drives import Planner
from virtceph.host.intents import FOLDER, Intents
from virtceph.host.jobs import JobInfo, Jobs
from virtceph.host.jobtold import JobTold
from virtceph.host.leases import Leases
from virtceph.host.making import Maker
from virtceph.host.names import SnapshotNames
from virtceph.host.paths import Exchange
from virtceph.host.pauses import Pauses
from virtceph.host.records import EXPIRED, LEASES, PAUSES, ExpiredLeases, LeaseRecords
from virtceph.host.restoring import Restorer
from virtceph.host.savedmemory import SavedMemory
from virtceph.host.setnotes import SetNotes
from virtceph.host.sets import SnapshotSets
from virtceph.host.snapshots import Snapshots
from virtceph.virt.xml import Disk

FILE_DISK = Disk("vdc", "file", path="/images/c", format="qcow2")
# What keeps a VM from being snapshotted at all, and how that is told.
UNFIT: list[tuple[dict[str, Any], type[errors.VirtcephError]]] = [
    ({"state": "Down"}, errors.VMDown),
    ({"state": "gone"}, errors.NoSuchVM),
    ({"migrating": True}, errors.MigrationInProgress),
]


class SnapshotHost:
    """A VM with two RBD disks and a file disk, and everything a snapshot of it needs. `folder` is the
    exchange directory."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder, self.runtime = folder, runtime
        disks = [rbd_disk("vda", "web-root"), rbd_disk("vdb", "web-data"), FILE_DISK]
        self.domains, self.heard = FakeDomains(disks), Heard()
        self.agent, self.storage = FakeAgent(), FakeStorageDomains()
        self.images = self.storage.one.images.by_name
        self.worker = self.storage.one.worker
        self.names = SnapshotNames()
        domains: Any = self.domains
        agent: Any = self.agent
        storage: Any = self.storage
        self.leases = Leases(
            domains,
            agent,
            agent,
            0.1,
            LeaseRecords(runtime / LEASES),
            ExpiredLeases(runtime / EXPIRED),
            tell=self.heard,
        )
        self.pauses = Pauses(domains, LeaseRecords(runtime / PAUSES))
        told = JobTold(self.heard)
        # As in the daemon, but for results and errors: these stay what they are.
        self.jobs = Jobs(lambda result: result, lambda error: None, on_change=told.changed)
        exchange = Exchange([str(folder)])
        self.planner = Planner(storage, exchange)
        self.intents = Intents(runtime / FOLDER)
        memory = SavedMemory(domains, self.leases, exchange)
        restorer = Restorer(memory, Cloner(self.intents))
        self.changes = DiskChanges()
        self.maker = Maker(domains, self.names, self.intents, self.changes, 1.0)
        parts = (domains, self.planner, self.leases, self.pauses, self.jobs, self.maker)
        self.seen: list[tuple[UUID, str, float]] = []
        seen: Any = lambda *what: self.seen.append(what)  # noqa: E731
        notes = SetNotes(storage)
        self.sets = SnapshotSets(*parts, notes, restorer, 1.0, self.heard, seen)
        self.snapshots = Snapshots(*parts, self.heard)

    @classmethod
    @contextlib.contextmanager
    def of_alice(cls, tmp_path: Path) -> Iterator[Self]:
        """A host whose caller is alice, with its folders under `tmp_path`."""
        folder, runtime = tmp_path / "exchange", tmp_path / "run"
        folder.mkdir(mode=0o700)
        runtime.mkdir()
        request.enter(request.Request("1", "alice", float("inf")))
        made = cls(folder, runtime)
        try:
            yield made
        finally:
            made.close()

    def run(self, start: Callable[[UUID], object], job_id: UUID | None = None) -> JobInfo:
        """Start a job, wait for its end and return it."""
        ident = job_id or uuid4()
        start(ident)
        until(lambda: not self.jobs.running())
        return self.job(ident)

    def before(self, operation: str, act: Callable[[float], object]) -> None:
        """Have `act` called, with the seconds that are left for it, before the worker does an operation."""
        run = self.worker.run

        def acting(calls: list[Call], deadline_s: float) -> list[Outcome]:
            if calls[0].operation == operation:
                act(deadline_s - time.monotonic())
            return run(calls, deadline_s)

        self.worker.run = acting  # type: ignore[method-assign,assignment]

    def job(self, ident: UUID) -> JobInfo:
        return self.jobs.describe(None, [ident])[str(ident)]

    def intents_on_disk(self) -> list[Path]:
        return list((self.runtime / FOLDER).glob("*.json"))

    def close(self) -> None:
        self.jobs.close(1)
        self.leases.close(1)
        self.pauses.close()
