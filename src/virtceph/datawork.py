"""The parts of the daemon that move data, put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from virtceph import config
from virtceph.ceph.movers import Movers
from virtceph.host import jobrecords
from virtceph.host.copies import Copies
from virtceph.host.datajobs import DataJobs
from virtceph.host.deletion import Deletions
from virtceph.host.diffjobs import DiffJobs
from virtceph.host.exchangefiles import DataFiles
from virtceph.host.exports import Exports
from virtceph.host.flattens import Flattens
from virtceph.host.held import Holder
from virtceph.host.jobleftovers import JobLeftovers
from virtceph.host.jobrecords import JobRecords
from virtceph.host.jobs import Jobs
from virtceph.host.names import SnapshotNames
from virtceph.host.paths import Exchange
from virtceph.host.storage import StorageDomains
from virtceph.host.volumes import Volumes


@dataclass
class DataWork:
    """What moves data, and what finds again what a crash left of it."""

    movers: Movers
    leftovers: JobLeftovers
    copies: Copies
    exports: Exports
    flattens: Flattens
    diffs: DiffJobs


def data_work(
    settings: config.Config,
    storage: StorageDomains,
    jobs: Jobs,
    exchange: Exchange,
    names: SnapshotNames,
    volumes: Volumes,
    deletions: Deletions,
) -> DataWork:
    """Put them together. Blocks on reading the records of the last run."""
    stall_s = settings.ceph.stall_timeout_s
    records = JobRecords(Path(settings.daemon.state_dir) / jobrecords.FOLDER)
    files = DataFiles(exchange, settings.daemon.block_devices)
    leftovers = JobLeftovers(records, storage, files)
    movers = Movers(stall_s)
    data = DataJobs(jobs, records, leftovers, movers, stall_s)
    holder = Holder(names, settings.ceph.snapshot_timeout_s)
    return DataWork(
        movers=movers,
        leftovers=leftovers,
        copies=Copies(storage, data, holder, volumes, deletions),
        exports=Exports(storage, data, holder, files),
        flattens=Flattens(storage, data),
        diffs=DiffJobs(storage, data, files),
    )
