"""What a call can end with besides a result::

ClientError
├── ServerError       the verb failed: `code`, `message`, `data`
├── ConnectionFailed  the daemon was not reached, would not listen, or broke off
├── TimedOut          no answer in time; what was asked may still happen
└── NoSuchJob         wait_for_job: the daemon knows no such job
"""

from __future__ import annotations

from typing import Any


class ClientError(Exception):
    """The root of this library's errors."""


class ServerError(ClientError):
    """The verb failed. `name` is the error's name in the contract, where the daemon says it."""

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(f"(code={code}, message={message})")
        self.code, self.message, self.data = code, message, data or {}

    @property
    def name(self) -> str | None:
        name = self.data.get("error")
        return name if isinstance(name, str) else None


class ConnectionFailed(ClientError):
    """One sentence that tells what to do. `status` is the HTTP status, where there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TimedOut(ClientError):
    """No answer within `timeout_s` seconds."""

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(f"{what} timed out after {timeout_s} seconds")
        self.timeout_s = timeout_s


class NoSuchJob(ClientError):
    """The daemon knows no such job: it never began, or ended more than an hour ago."""
