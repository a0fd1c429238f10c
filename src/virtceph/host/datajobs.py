"""The frame of every job that moves data: recorded first, run by a mover, undone unless it ends well."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.ceph.layout import layout_of
from virtceph.ceph.movers import Movers, MoverStopped, Task
from virtceph.ceph.parts import PART_PREFIX
from virtceph.ceph.spec import ClusterSpec
from virtceph.ceph.workers import Call, NoReply
from virtceph.host.job import Aborted, Job
from virtceph.host.jobleftovers import JobLeftovers
from virtceph.host.jobrecords import IMAGE, JobRecord, JobRecords, Leftover, record_of
from virtceph.host.jobs import Jobs
from virtceph.host.oneimage import full_told
from virtceph.host.storage import StorageDomain
from virtceph.schema import wire

# A request to the monitors or OSDs that no owner has to answer.
SHORT_S = 30.0
# One whose length grows with an image.
NO_END_S = float("inf")
STORAGE = "storage"


@wire("TransferResult")
@dataclass(frozen=True)
class TransferResult:
    """What a job that moved data made."""

    size_bytes: int
    transferred_bytes: int
    elapsed_s: float
    storage_domain_id: UUID | None = None
    volume_name: str | None = None
    path: str | None = None
    sha256: str | None = None
    snapshots: int | None = None


Work = Callable[[Job], Any]


class DataJobs:
    """Starts and runs such jobs. `stall_s` bounds how long one may do nothing."""

    def __init__(
        self,
        jobs: Jobs,
        records: JobRecords,
        leftovers: JobLeftovers,
        movers: Movers,
        stall_s: float,
    ) -> None:
        self._jobs, self._records, self._leftovers = jobs, records, leftovers
        self._movers, self._stall_s = movers, stall_s

    def start(
        self,
        job_uuid: UUID | None,
        asked: object,
        description: str,
        prepare: Callable[[UUID], Work],
        *,
        abortable: bool = True,
    ) -> UUID:
        """Start a job, or find it started with the same arguments. `prepare` checks what can be checked at
        once, and may raise. Blocks as long as it does.

        Raises:
            JobExists, LaneBusy, ShuttingDown
        """
        job_id = job_uuid or uuid4()
        if self._jobs.is_same(job_id, asked):
            return job_id
        work = prepare(job_id)
        job = Job(job_id, asked, description, STORAGE, abortable=abortable)
        self._jobs.start(job, work)
        return job_id

    @contextmanager
    def recorded(
        self, job: Job, leftovers: tuple[Leftover, ...] = (), files: tuple[str, ...] = ()
    ) -> Iterator[Recorded]:
        """What the job makes is undone, unless the block comes to its end. Blocks on the disk.

        Raises:
            JobNotRecorded: nothing was begun.
        """
        recorded = Recorded(self._records, record_of(job, leftovers, files))
        recorded.write()
        try:
            yield recorded
        except BaseException:
            job.step = "undoing"
            if self._jobs.ends_with_daemon(job):
                self._leftovers.undo(recorded.record, told=False)
                raise errors.JobInterrupted(job.description) from None
            self._leftovers.undo(recorded.record)
            raise
        self._leftovers.undo(replace(recorded.record, leftovers=recorded.always))

    def move(
        self, job: Job, task: Task, step: str, into: StorageDomain | None = None
    ) -> dict[str, Any]:
        """Have a mover do a task for a job, that writes into a storage domain; its result. Blocks until it
        is done.

        Raises:
            Aborted, PoolFull, CephUnavailable, CephFailed, and the task's own errors
        """
        job.step = step
        told = contextlib.nullcontext() if into is None else full_told(into)
        try:
            with told:
                return self._movers.run(task, job.progress.tell, job.stop)
        except MoverStopped:
            raise Aborted from None

    def spec(self, domain: StorageDomain) -> ClusterSpec:
        """The data connection to a domain's cluster: not a slow answer is bounded, but none at all."""
        return replace(domain.cluster.spec, op_timeout_s=self._stall_s)


class Recorded:
    """The record of one job under way. `always` are leftovers that are undone also at a good end."""

    def __init__(self, records: JobRecords, record: JobRecord) -> None:
        self._records, self.record = records, record
        self.always: tuple[Leftover, ...] = ()

    def add(self, leftover: Leftover) -> None:
        """Have one more thing to undo on the disk before it is made. Blocks. Raises JobNotRecorded."""
        self.record = replace(self.record, leftovers=(*self.record.leftovers, leftover))
        self.write()

    def replace(self, leftovers: tuple[Leftover, ...]) -> None:
        """Have other things to undo on the disk. Blocks. Raises JobNotRecorded."""
        self.record = replace(self.record, leftovers=leftovers)
        self.write()

    def write(self) -> None:
        try:
            self._records.put(self.record)
        except OSError as error:
            where = str(error.filename or "")
            raise errors.JobNotRecorded(where, error.strerror or "?") from error


def part_name(job: Job) -> str:
    """The name of the image that a job makes, as long as it is not whole."""
    return f"{PART_PREFIX}{job.uuid}"


def leftover_in(kind: str, domain: StorageDomain, image: str, **more: Any) -> Leftover:
    """What is to be undone in the pool of a domain."""
    pool = domain.pool
    return Leftover(kind, domain.cluster.fsid, pool.pool, pool.namespace, image, **more)


def part_left(job: Job, domain: StorageDomain, name: str) -> Leftover:
    """The part of a job, to be undone until it has its name."""
    return leftover_in(IMAGE, domain, part_name(job), name=name)


def name_part(job: Job, domain: StorageDomain, name: str) -> None:
    """Give the part of a job, whole by now, its name. Blocks. Raises VolumeExists, CephUnavailable,
    CephPermissionDenied, CephFailed."""
    job.step = "finishing"
    in_worker(domain, "finish_part", SHORT_S, part=part_name(job), name=name)


def is_made(domain: StorageDomain, name: str, job_id: UUID) -> bool:
    """Whether this very job made the volume before, and its reply or the daemon was lost. Blocks. Raises
    VolumeExists when something else did."""
    try:
        made_by = layout_of(domain.images, name).made_by
    except errors.NoSuchVolume:
        return False
    if made_by != str(job_id):
        raise errors.VolumeExists(name)
    return True


def made_before(domain: StorageDomain, name: str) -> TransferResult:
    """The result of a job that came to its end before the daemon was restarted. Blocks."""
    size_bytes = layout_of(domain.images, name).size_bytes
    ident = domain.settings.storage_domain_id
    return TransferResult(size_bytes, 0, 0.0, storage_domain_id=ident, volume_name=name)


def in_worker(domain: StorageDomain, operation: str, timeout_s: float, **arguments: Any) -> Any:
    """One request in a worker of the domain; its result. Blocks up to `timeout_s`.

    Raises:
        CephUnavailable: no answer; it may still be carried out. And the operation's own errors.
    """
    (outcome,) = domain.workers.run([Call(operation, domain.pool, arguments)], timeout_s)
    if isinstance(outcome, NoReply):
        raise errors.CephUnavailable(f"{operation}: no answer within {timeout_s:g} s")
    if isinstance(outcome, errors.VirtcephError):
        raise outcome
    return outcome


class Watch:
    """How long something took."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def elapsed_s(self) -> float:
        return time.monotonic() - self._began_s
