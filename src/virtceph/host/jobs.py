"""Jobs: work that outlasts its verb. The caller chooses the id and asks with it how it went."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

from virtceph import request
from virtceph.errors import (
    InternalError,
    JobExists,
    JobNotAbortable,
    JobNotActive,
    JobNotDone,
    LaneBusy,
    NoSuchJob,
    ShuttingDown,
    VirtcephError,
)
from virtceph.host.job import ENDED, Aborted, Job, JobError, JobInfo, digest
from virtceph.host.windows import JOB_OWNER
from virtceph.log import facts
from virtceph.units import HOUR_S

log = logging.getLogger(__name__)

_KEPT_S = HOUR_S
_THREADS = 16
# Running and waiting for a thread.
_UNDER_WAY = 64

Listener = Callable[[Job], None]


class Jobs:
    """The jobs of this daemon's life, and those that a daemon before it did not finish. An ended one is kept
    for an hour.

    `encode_result` and `encode_error` turn results and errors into JSON values by the contract; `on_change`
    hears of each change of a job's status, `on_progress` whenever a job is further. Both must not block.
    """

    def __init__(
        self,
        encode_result: Callable[[Any], Any],
        encode_error: Callable[[VirtcephError], Any],
        clock: Callable[[], float] = time.monotonic,
        on_change: Listener = lambda _job: None,
        on_progress: Listener = lambda _job: None,
    ) -> None:
        self._encode_result, self._encode_error, self._clock = encode_result, encode_error, clock
        self._on_change, self._on_progress = on_change, on_progress
        self._jobs: dict[UUID, Job] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "job")
        self._closing = False

    def start(self, job: Job, work: Callable[[Job], Any]) -> Job:
        """Run `work(job)` in a thread; what it returns is the job's result. Does not block.

        A job of the same id and arguments is returned as it stands. Raises JobExists, LaneBusy, ShuttingDown.
        """
        with self._lock:
            self._forget_old()
            known = self._jobs.get(job.uuid)
            if known is not None:
                if known.arguments != job.arguments:
                    raise JobExists(job.uuid)
                return known
            if sum(known.status not in ENDED for known in self._jobs.values()) >= _UNDER_WAY:
                raise LaneBusy("jobs")
            job.progress.on_told = lambda: self._on_progress(job)
            try:
                future = self._threads.submit(self._run, job, work)
            except RuntimeError:  # closed
                raise ShuttingDown from None
            self._jobs[job.uuid] = job
        future.add_done_callback(lambda f: self._end(job, "aborted") if f.cancelled() else None)
        return job

    def adopt(self, job: Job, error: VirtcephError) -> None:
        """Know a job that a daemon before this one left unfinished, as failed. Does not block."""
        with self._lock:
            self._jobs[job.uuid] = job

        def fail() -> None:
            caller = f"{JOB_OWNER}{job.uuid}"
            request.enter(request.Request(caller, caller, float("inf")))
            self._fail(job, error)

        contextvars.copy_context().run(fail)

    def is_same(self, uuid: UUID, arguments: object) -> bool:
        """Whether a job of this id and these arguments is known. Raises JobExists for other ones."""
        with self._lock:
            known = self._jobs.get(uuid)
        if known is not None and known.arguments != digest(arguments):
            raise JobExists(uuid)
        return known is not None

    def abort(self, uuid: UUID) -> None:
        """Tell a job to stop. Does not wait: it is `aborted` when nothing is under way any more, or ends
        as it would have when it was too late.

        Raises:
            NoSuchJob, JobNotActive: it has ended.
            JobNotAbortable: its kind of work cannot be stopped.
        """
        job = self._known(uuid)
        if job.status in ENDED:
            raise JobNotActive(uuid, job.status)
        if not job.abortable:
            raise JobNotAbortable(uuid)
        log.info("abort job %s", facts(job=uuid, caller=request.current().caller))
        with self._lock:
            first = not job.stop.is_set() and job.status not in ENDED
            if first:
                job.stop.set()
                job.status = "aborting"
        if first:
            self._on_change(job)

    def delete(self, uuid: UUID) -> None:
        """Forget a job that has ended. Does not block. Raises NoSuchJob, JobNotDone."""
        job = self._known(uuid)
        if job.status not in ENDED:
            raise JobNotDone(uuid, job.status)
        with self._lock:
            self._jobs.pop(uuid, None)

    def describe(self, job_type: str | None, ids: list[UUID]) -> dict[str, JobInfo]:
        """The jobs of a type and of these ids, as far as any are named."""
        with self._lock:
            self._forget_old()
            jobs = list(self._jobs.values())
        return {
            str(job.uuid): self.info(job)
            for job in jobs
            if (job_type is None or job.job_type == job_type) and (not ids or job.uuid in ids)
        }

    def info(self, job: Job) -> JobInfo:
        """A job as callers see it."""
        return job.describe(None if job.result is None else self._encode_result(job.result))

    def by_status(self) -> Counter[str]:
        """How many are in each state."""
        with self._lock:
            return Counter(job.status for job in self._jobs.values())

    def running(self) -> int:
        """How many have not ended."""
        with self._lock:
            return sum(job.status not in ENDED for job in self._jobs.values())

    def ends_with_daemon(self, job: Job) -> bool:
        """Whether a job that does not come to its end stops for the daemon's sake, and by nobody's wish."""
        return self._closing and job.status != "aborting"

    def close(self, timeout_s: float) -> None:
        """Take no more, stop those that can be stopped, and wait up to `timeout_s` for all. Blocks."""
        self._closing = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            going = [job for job in self._jobs.values() if job.status not in ENDED]
        for job in going:
            if job.abortable:
                job.stop.set()
        deadline_s = time.monotonic() + timeout_s
        while self.running() and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def _known(self, uuid: UUID) -> Job:
        with self._lock:
            self._forget_old()
            job = self._jobs.get(uuid)
        if job is None:
            raise NoSuchJob(uuid)
        return job

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        caller = f"{JOB_OWNER}{job.uuid}"
        request.enter(request.Request(caller, caller, float("inf")))
        job.began_at_s = time.time()
        log.info("START job %s", facts(job=job.uuid, what=job.description))
        try:
            with self._lock:
                job.require_going()
                job.status = "running"
            self._on_change(job)
            result = work(job)
            # Work that set it itself has the last word; it may be refining it this very moment.
            if job.result is None:
                job.result = result
            self._end(job, "done")
        except Aborted:
            self._end(job, "aborted")
        except VirtcephError as error:
            self._fail(job, error)
        except Exception:
            log.exception("job broke %s", facts(job=job.uuid))
            self._fail(job, InternalError(caller))

    def _fail(self, job: Job, error: VirtcephError) -> None:
        # Told here and not when somebody asks: the request id in it is the job's.
        try:
            data = self._encode_error(error)
        except Exception:
            log.exception("the error's facts are wrong %s", facts(job=job.uuid))
            data = None
        job.error = JobError(error.code, error.message, data)
        self._end(job, "failed")

    def _end(self, job: Job, status: str) -> None:
        # Not between the two halves of an abort, which would have the last word.
        with self._lock:
            job.ended_s, job.ended_at_s = self._clock(), time.time()
            job.status = status
        log.info(
            "FINISH job %s",
            facts(job=job.uuid, status=status, error=job.error.message if job.error else "-"),
        )
        self._on_change(job)

    def _forget_old(self) -> None:
        horizon_s = self._clock() - _KEPT_S
        for uuid, job in list(self._jobs.items()):
            if job.ended_s is not None and job.ended_s < horizon_s:
                del self._jobs[uuid]
