"""Who asks, under which id, until when: the context of the request a thread works for."""

from __future__ import annotations

import time
from contextvars import ContextVar, Token
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One call of a verb. `deadline_s` is on the monotonic clock (`time.monotonic`). `flow` is the caller's
    own word for what the call is part of."""

    id: str
    caller: str
    deadline_s: float
    flow: str = ""

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


def enter(request: Request) -> Token[Request]:
    """Let this thread (or task) work for `request` from now on. What is returned is for `leave`."""
    return _current.set(request)


def leave(entered: Token[Request]) -> None:
    """Let this thread (or task) work for what it did before."""
    _current.reset(entered)
