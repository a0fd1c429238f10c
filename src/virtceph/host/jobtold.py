"""What is told of jobs by events: each change of their status, and how far they are, now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

from virtceph.events import JobProgress, JobStatus
from virtceph.host.events import Tell
from virtceph.host.job import ENDED, Job

# A mover tells of each piece that it has moved.
_EVERY_S = 1.0


class JobTold:
    """Listens to `Jobs`. Nothing here blocks."""

    def __init__(self, tell: Tell, clock: Callable[[], float] = time.monotonic) -> None:
        self._tell, self._clock = tell, clock
        # When each job was last told of, as long as it runs.
        self._told_s: dict[Job, float] = {}

    def changed(self, job: Job) -> None:
        """A job came into another state."""
        status = job.status
        if status in ENDED:
            self._told_s.pop(job, None)
        progress = 100 if status == "done" else job.progress.percent()
        what = job.description, job.job_type
        self._tell(JobStatus(job.uuid, status, *what, progress, job.error))

    def moved(self, job: Job) -> None:
        """A job is further than it was."""
        now_s = self._clock()
        done, total = job.progress.done_bytes, job.progress.total_bytes
        late = now_s - self._told_s.get(job, float("-inf")) < _EVERY_S
        if late or done is None or total is None or job.status in ENDED:
            return
        self._told_s[job] = now_s
        percent = job.progress.percent()
        self._tell(JobProgress(job.uuid, job.description, percent, job.step, done, total))
