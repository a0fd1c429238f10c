"""aiohttp's side of one connection, and what becomes of bytes that are no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from virtceph.rpc.answers import refusal

_BAD_REQUEST = 400
# Not aiohttp's, which tells every stranger the versions of it and of Python.
_SERVER = "virtceph"


class Handler(web.RequestHandler):
    """As aiohttp has it, but that a request which is none is answered like all that is refused, and is not
    logged: with a traceback for each, whoever is on the network could fill the log."""

    __slots__ = ()

    @classmethod
    def of(cls, runner: web.AppRunner, keepalive_s: float) -> Handler:
        """One for the next connection of a server that was set up."""
        assert runner.server is not None
        # None is not of the type that aiohttp says, and is what its own runner hands on for no log.
        options: dict[str, Any] = {"keepalive_timeout": keepalive_s, "access_log": None}
        return cls(runner.server, loop=asyncio.get_running_loop(), **options)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what could not be served."""
        if status != _BAD_REQUEST or request.writer.output_size:
            return super().handle_error(request, status, exc, message)
        if exc is not None:
            # It would hold the connection's buffers until Python's collector looks.
            exc.__traceback__ = None
        answer = refusal(status, "this is no request of HTTP", close=True)
        answer.headers["Server"] = _SERVER
        return answer


def name_server(app: web.Application) -> None:
    """Have every answer of an application name its server, and no versions."""

    async def name(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = _SERVER

    app.on_response_prepare.append(name)
