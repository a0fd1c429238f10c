"""One VM on fakes, and the real parts that make snapshots of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import FakeDomains, rbd_disk
from tests.fakes.fake_storage import FakeStorageDomains
from virtceph.host.drives import Planner
from virtceph.host.intents import FOLDER, Intents
from virtceph.host.jobs import JobInfo, Jobs
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


class SnapshotHost:
    """A VM with two RBD disks and a file disk, and everything a snapshot of it needs. `folder` is the
    exchange directory."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.folder, self.runtime = folder, runtime
        disks = [rbd_disk("vda", "web-root"), rbd_disk("vdb", "web-data"), FILE_DISK]
        self.domains = FakeDomains(disks)
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
        )
        self.pauses = Pauses(domains, LeaseRecords(runtime / PAUSES))
        self.jobs = Jobs(lambda result: result, lambda error: error)
        exchange = Exchange([str(folder)])
        self.planner = Planner(storage, exchange)
        restorer = Restorer(SavedMemory(domains, self.leases, exchange))
        self.intents = Intents(runtime / FOLDER)
        self.maker = Maker(domains, self.names, self.intents, 1.0)
        parts = (domains, self.planner, self.leases, self.pauses, self.jobs, self.maker)
        self.sets = SnapshotSets(*parts, SetNotes(storage), restorer, 1.0)
        self.snapshots = Snapshots(*parts)

    def run(self, start: Callable[[UUID], object], job_id: UUID | None = None) -> JobInfo:
        """Start a job, wait for its end and return it."""
        ident = job_id or uuid4()
        start(ident)
        until(lambda: not self.jobs.running())
        return self.job(ident)

    def job(self, ident: UUID) -> JobInfo:
        return self.jobs.describe(None, [ident])[str(ident)]

    def intents_on_disk(self) -> list[Path]:
        return list((self.runtime / FOLDER).glob("*.json"))

    def close(self) -> None:
        self.jobs.close(1)
        self.leases.close(1)
        self.pauses.close()


def until(condition: Callable[[], Any]) -> None:
    """Wait up to 3 s. Raises AssertionError."""
    end_s = time.monotonic() + 3
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.002)
