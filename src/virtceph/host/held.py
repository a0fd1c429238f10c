"""A volume that is to be read as it is at one moment, whoever writes to it meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from virtceph.errors import VolumeChanged
from virtceph.host.datajobs import Recorded, leftover_in, part_name
from virtceph.host.job import Job
from virtceph.host.jobrecords import SNAPSHOT
from virtceph.host.names import SnapshotNames
from virtceph.host.onesnapshot import take_snapshot
from virtceph.host.storage import StorageDomain
from virtceph.log import facts

log = logging.getLogger(__name__)

Done = TypeVar("Done")


class Holder:
    """Makes what holds a volume still. `timeout_s` is when a snapshot request is given up."""

    def __init__(self, names: SnapshotNames, timeout_s: float) -> None:
        self._names, self._timeout_s = names, timeout_s

    def read(
        self,
        job: Job,
        recorded: Recorded,
        domain: StorageDomain,
        volume: str,
        still: bool,
        snapshot: str | None,
        transfer: Callable[[str | None], Done],
        forget: Callable[[], object],
    ) -> Done:
        """What `transfer` comes to, given the snapshot to read from: the one asked for, or None for a head
        that is `still`, or else one of the job's own. When a head did not stay as it was, `forget` drops what
        was made, and it is read again from a snapshot. Blocks as long as all that takes.

        Raises:
            LockOwnerStalled, CephUnavailable, JobNotRecorded, and what `transfer` raises
        """
        if snapshot is not None:
            return transfer(snapshot)
        if still:
            try:
                return transfer(None)
            except VolumeChanged:
                log.info("read again %s", facts(job=job.uuid, volume=volume))
                forget()
        return transfer(self._hold(job, recorded, domain, volume))

    def _hold(self, job: Job, recorded: Recorded, domain: StorageDomain, volume: str) -> str:
        name = part_name(job)
        ours = leftover_in(SNAPSHOT, domain, volume, snapshot=name)
        recorded.add(ours)
        job.step = "holding"
        take_snapshot(domain, self._names, volume, name, self._timeout_s)
        recorded.always = (*recorded.always, ours)
        return name
