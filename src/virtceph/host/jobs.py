"""Jobs: work that outlasts its verb. The caller chooses the id and asks with it how it went."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from virtceph import request
from virtceph.errors import InternalError, JobExists, LaneBusy, ShuttingDown, VirtcephError
from virtceph.host.windows import JOB_OWNER
from virtceph.log import facts
from virtceph.schema import wire
from virtceph.units import HOUR_S

log = logging.getLogger(__name__)

_KEPT_S = HOUR_S
_THREADS = 16
# Running and waiting for a thread.
_UNDER_WAY = 64
_ENDED = ("done", "aborted", "failed")


@wire("JobError")
@dataclass(frozen=True)
class JobError:
    code: int
    message: str
    data: Any = None


@wire("JobInfo")
@dataclass(frozen=True)
class JobInfo:
    """A job as it is told to callers."""

    id: UUID
    status: str
    description: str
    job_type: str
    progress: int | None
    error: JobError | None
    result: Any


class Job:
    """One job. `result` may still be refined after its end (a snapshot's consistency is)."""

    def __init__(self, uuid: UUID, arguments: object, description: str, job_type: str) -> None:
        self.uuid, self.arguments = uuid, arguments
        self.description, self.job_type = description, job_type
        self.status = "pending"
        self.result: Any = None
        self.error: JobError | None = None
        self.ended_at_s: float | None = None


class Jobs:
    """The jobs of this daemon's life. A finished one is kept for an hour.

    `encode_result` and `encode_error` turn results and errors into JSON values by the contract.
    """

    def __init__(
        self,
        encode_result: Callable[[Any], Any],
        encode_error: Callable[[VirtcephError], Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._encode_result, self._encode_error, self._clock = encode_result, encode_error, clock
        self._jobs: dict[UUID, Job] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, "job")

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
            if sum(known.status not in _ENDED for known in self._jobs.values()) >= _UNDER_WAY:
                raise LaneBusy("jobs")
            try:
                future = self._threads.submit(self._run, job, work)
            except RuntimeError:  # closed
                raise ShuttingDown from None
            self._jobs[job.uuid] = job
        future.add_done_callback(lambda f: self._end(job, "aborted") if f.cancelled() else None)
        return job

    def is_same(self, uuid: UUID, arguments: object) -> bool:
        """Whether a job of this id and these arguments is known. Raises JobExists for other ones."""
        with self._lock:
            known = self._jobs.get(uuid)
        if known is not None and known.arguments != arguments:
            raise JobExists(uuid)
        return known is not None

    def describe(self, job_type: str | None, ids: list[UUID]) -> dict[str, JobInfo]:
        """The jobs of a type and of these ids, as far as any are named."""
        with self._lock:
            self._forget_old()
            jobs = list(self._jobs.values())
        return {
            str(job.uuid): self._info(job)
            for job in jobs
            if (job_type is None or job.job_type == job_type) and (not ids or job.uuid in ids)
        }

    def running(self) -> int:
        """How many have not ended."""
        with self._lock:
            return sum(job.status not in _ENDED for job in self._jobs.values())

    def close(self, timeout_s: float) -> None:
        """Take no more, and wait up to `timeout_s` for those under way. Blocks."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        deadline_s = time.monotonic() + timeout_s
        while self.running() and time.monotonic() < deadline_s:
            time.sleep(0.05)

    def _run(self, job: Job, work: Callable[[Job], Any]) -> None:
        caller = f"{JOB_OWNER}{job.uuid}"
        request.enter(request.Request(caller, caller, float("inf")))
        job.status = "running"
        log.info("START job %s", facts(job=job.uuid, what=job.description))
        try:
            result = work(job)
            # Work that set it itself has the last word; it may be refining it this very moment.
            if job.result is None:
                job.result = result
            self._end(job, "done")
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
        job.ended_at_s = self._clock()
        job.status = status
        log.info(
            "FINISH job %s",
            facts(job=job.uuid, status=status, error=job.error.message if job.error else "-"),
        )

    def _forget_old(self) -> None:
        horizon_s = self._clock() - _KEPT_S
        for uuid, job in list(self._jobs.items()):
            if job.ended_at_s is not None and job.ended_at_s < horizon_s:
                del self._jobs[uuid]

    def _info(self, job: Job) -> JobInfo:
        return JobInfo(
            id=job.uuid,
            status=job.status,
            description=job.description,
            job_type=job.job_type,
            progress=100 if job.status == "done" else None,
            error=job.error,
            result=None if job.result is None else self._encode_result(job.result),
        )
