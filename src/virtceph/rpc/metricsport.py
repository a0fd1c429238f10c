"""`/metrics` alone, without TLS, for scrapers that have no certificate."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from virtceph.rpc.accepting import Acceptor
from virtceph.rpc.answers import refusal
from virtceph.rpc.callers import Caller
from virtceph.rpc.handler import Handler, name_server
from virtceph.rpc.httpconnection import HttpConnection, Places
from virtceph.rpc.httppages import Page

_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

# A scraper, and somebody who looks.
_MOST_CONNECTIONS = 16
_REQUEST_S, _IDLE_S = 10.0, 120.0
_MOST_BYTES = 1024


class MetricsPort:
    """Serves one page to whoever asks."""

    def __init__(self, page: Page) -> None:
        app = web.Application(client_max_size=_MOST_BYTES, middlewares=[self._guarded])
        name_server(app)
        app.router.add_get("/metrics", page)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        self._places = Places(_MOST_CONNECTIONS)
        self._acceptor = Acceptor(
            lambda _address: self._connection(),
            tls=None,
            max_handshakes=_MOST_CONNECTIONS,
            handshake_s=0.0,
            shutdown_s=0.0,
        )

    async def start(self, listeners: list[socket.socket]) -> None:
        """Listen."""
        await self._runner.setup()
        self._acceptor.start(listeners)

    async def close(self) -> None:
        """Take nobody any more, and cut every connection."""
        self._acceptor.stop()
        await self._runner.cleanup()

    def connections(self) -> int:
        """How many are open."""
        return len(self._places)

    def _connection(self) -> HttpConnection:
        inner = Handler.of(self._runner, _IDLE_S)
        return HttpConnection(inner, _nobody, _REQUEST_S, self._places)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Answer) -> web.StreamResponse:
        connection = self._places.of(request.protocol)
        if connection is None:  # lost meanwhile
            raise ConnectionResetError
        connection.request_came()
        if connection.surplus:
            return refusal(503, "too many connections", close=True)
        try:
            return await handler(request)
        except web.HTTPException as error:
            return refusal(error.status, "only GET /metrics is served here", close=True)
        finally:
            connection.request_served()


def _nobody(_transport: asyncio.BaseTransport) -> Caller | None:
    return None
