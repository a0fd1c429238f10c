"""Answers of the HTTP server that are no JSON-RPC: each error as JSON, with one sentence."""

from __future__ import annotations

from aiohttp import web


class Refusal(Exception):
    """A request that is not served: its HTTP status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


def refusal(status: int, reason: str, *, close: bool = False) -> web.Response:
    """The answer to a request that is not served; `close`: nothing more is read from its connection."""
    response = web.json_response({"error": reason}, status=status)
    if close:
        response.force_close()
    return response
