"""Who asks, under which id, until when: the context of the request a thread works for."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One call of a verb. `deadline_s` is on the monotonic clock (`time.monotonic`)."""

    id: str
    caller: str
    deadline_s: float

    def left_s(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline_s - time.monotonic())


# What runs outside any request (a job, the reaper of leases) has no deadline of its own.
_current: ContextVar[Request] = ContextVar(
    "request", default=Request("-", "virtcephd", float("inf"))
)


def current() -> Request:
    """The request this thread works for."""
    return _current.get()


def enter(request: Request) -> None:
    """Let this thread (or task) work for `request` from now on."""
    _current.set(request)
