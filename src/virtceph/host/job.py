"""One job: where it stands, how far it is, and how it is told to stop."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from virtceph.schema import wire

ENDED = ("done", "aborted", "failed")
# The rate is that of the last seconds: an average since the start tells nothing of now.
_RATE_OVER_S = 10.0
_SAMPLES = 64


class Aborted(Exception):
    """Work stopped because its job was aborted."""


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
    step: str | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    rate_bytes: int | None = None
    left_s: float | None = None
    started_at_s: float | None = None
    ended_at_s: float | None = None


class Progress:
    """How much of the work is done, and how fast. Told by one thread, read by others. `on_told` is called
    each time, and must not block."""

    def __init__(self) -> None:
        self.on_told: Callable[[], None] = lambda: None
        self.done_bytes: int | None = None
        self.total_bytes: int | None = None
        self._samples: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)

    def tell(self, done_bytes: int, total_bytes: int) -> None:
        """So much is done, of so much."""
        self.done_bytes, self.total_bytes = done_bytes, total_bytes
        self._samples.append((time.monotonic(), done_bytes))
        self.on_told()

    def percent(self) -> int | None:
        """Never 100: that is said when the work is done and in its place."""
        if self.done_bytes is None or not self.total_bytes:
            return None
        return min(99, self.done_bytes * 100 // self.total_bytes)

    def rate_bytes(self) -> int | None:
        """Bytes a second; None as long as it cannot be told."""
        now_s, samples = time.monotonic(), list(self._samples)
        recent = [s for s in samples if now_s - s[0] <= _RATE_OVER_S]
        if len(recent) < 2:
            return None
        (from_s, before), (_, after) = recent[0], recent[-1]
        return max(0, int((after - before) / max(1e-3, now_s - from_s)))

    def left_s(self) -> float | None:
        """How long the rest takes at this rate."""
        rate = self.rate_bytes()
        if not rate or self.done_bytes is None or self.total_bytes is None:
            return None
        return max(0, self.total_bytes - self.done_bytes) / rate


class Job:
    """One job. `result` may still be refined after its end (a snapshot's consistency is).

    `abortable`: its work looks at `stop`, leaves nothing behind when it stops, and then raises Aborted.
    """

    def __init__(
        self,
        uuid: UUID,
        arguments: object,
        description: str,
        job_type: str,
        *,
        abortable: bool = False,
    ) -> None:
        self.uuid, self.arguments = uuid, digest(arguments)
        self.description, self.job_type = description, job_type
        self.abortable = abortable
        self.stop = threading.Event()
        self.progress = Progress()
        self.step: str | None = None
        self.status = "pending"
        self.result: Any = None
        self.error: JobError | None = None
        self.began_at_s: float | None = None
        # On the clock of its Jobs, and since 1970.
        self.ended_s: float | None = None
        self.ended_at_s: float | None = None

    def require_going(self) -> None:
        """Raise Aborted if the job is to stop. Does not block."""
        if self.stop.is_set():
            raise Aborted

    def describe(self, result: Any) -> JobInfo:
        """The job as callers see it; `result` is its result as JSON."""
        running = self.status not in ENDED
        return JobInfo(
            id=self.uuid,
            status=self.status,
            description=self.description,
            job_type=self.job_type,
            progress=100 if self.status == "done" else self.progress.percent(),
            error=self.error,
            result=result,
            step=self.step if running else None,
            done_bytes=self.progress.done_bytes,
            total_bytes=self.progress.total_bytes,
            rate_bytes=self.progress.rate_bytes() if running else None,
            left_s=self.progress.left_s() if running else None,
            started_at_s=self.began_at_s,
            ended_at_s=self.ended_at_s,
        )


def digest(arguments: object) -> str:
    """What tells the arguments of two jobs apart, also after a restart of the daemon. They are frozen data
    classes, whose text is made of their fields."""
    return hashlib.sha256(repr(arguments).encode()).hexdigest()
