"""The HTTP server: JSON-RPC, events, metrics and health, on UNIX sockets and on TCP with mutual TLS."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from virtceph.httpoptions import Http
from virtceph.log import facts
from virtceph.rpc.accepting import Acceptor
from virtceph.rpc.access import Access, Peer, subject_name
from virtceph.rpc.answers import Refusal, refusal
from virtceph.rpc.audit import TurnedAway
from virtceph.rpc.callers import OVER_HTTP, Caller
from virtceph.rpc.calls import Asking
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.handler import Handler, name_server
from virtceph.rpc.httpconnection import HttpConnection, Identify, Places
from virtceph.rpc.httppages import Pages
from virtceph.rpc.quota import Quota
from virtceph.rpc.streams import Streams
from virtceph.rpc.tls import ServerTls, subject_of

log = logging.getLogger(__name__)

UNIX, TLS = "unix", "https"
_SHUTDOWN_S = 1.0
_Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves one daemon's callers. `tls` is for the TCP sockets, if there are any. `turned_away` hears of who
    gets nothing."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        access: Access,
        pages: Pages,
        streams: Streams,
        settings: Http,
        tls: ServerTls | None = None,
        turned_away: Callable[[TurnedAway], None] = lambda _who: None,
    ) -> None:
        self._dispatcher, self._access, self._pages = dispatcher, access, pages
        self._streams, self._settings, self._tls = streams, settings, tls
        self._turned_away = turned_away
        # Each transport has its own number: whoever is on the network must not keep the host's root out.
        self._places = {kind: Places(settings.max_connections) for kind in (UNIX, TLS)}
        self._quotas = {kind: Quota(settings.max_in_flight_total) for kind in (UNIX, TLS)}
        app = web.Application(client_max_size=settings.max_body_bytes, middlewares=[self._guarded])
        name_server(app)
        app.router.add_post("/jsonrpc", self._jsonrpc)
        app.router.add_get("/events", self._events, allow_head=False)
        for path, serve in pages.by_path.items():
            app.router.add_get(path, serve)
        # Requests under way are waited for by `drain` in the daemon; then connections are cut.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_S)
        self._servers: list[asyncio.AbstractServer] = []
        self._acceptor = Acceptor(
            lambda address: self._connection(TLS, lambda t: self._of_tls(t, address)),
            tls=None if tls is None else tls.context,
            max_handshakes=settings.max_connections,
            handshake_s=settings.handshake_timeout_s,
            shutdown_s=_SHUTDOWN_S,
        )

    async def start(
        self, unix: list[socket.socket], tcp: list[socket.socket] | None = None
    ) -> None:
        """Listen."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        for listener in unix:
            server = await loop.create_unix_server(
                lambda: self._connection(UNIX, self._of_unix), sock=listener
            )
            self._servers.append(server)
        self._acceptor.start(tcp or [])

    async def stop_listening(self) -> None:
        """Take no new connections; those that are open go on."""
        self._acceptor.stop()
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """Cut every connection."""
        await self.stop_listening()
        await self._runner.cleanup()

    def reload(self) -> None:
        """Load the certificate again. Blocks for a moment."""
        if self._tls is not None:
            self._tls.reload()

    def connections(self) -> dict[str, int]:
        """How many are open, by their transports."""
        return {kind: len(places) for kind, places in self._places.items()}

    # --- who is at the other end ---

    def _connection(self, kind: str, identify: Identify) -> HttpConnection:
        inner = Handler.of(self._runner, self._settings.idle_timeout_s)
        within_s, places = self._settings.request_timeout_s, self._places[kind]
        quota = Quota(self._settings.max_in_flight, self._quotas[kind])
        # Who is on a UNIX socket takes a look at the host's user names, which may wait.
        return HttpConnection(inner, identify, within_s, places, at_once=kind == TLS, quota=quota)

    def _of_unix(self, transport: asyncio.BaseTransport) -> Caller | None:
        peer = Peer.of(transport.get_extra_info("socket").fileno())
        caller = self._access.of_peer(peer)
        if caller is None:
            log.warning("refused %s", facts(peer=peer))
            self._turned_away(TurnedAway(peer.name(), f"pid {peer.pid}"))
        return caller

    def _of_tls(self, transport: asyncio.BaseTransport, address: str) -> Caller | None:
        certificate = transport.get_extra_info("ssl_object").getpeercert(True)
        subject = subject_of(certificate)
        caller = self._access.of_subject(subject, address)
        if caller is None:
            log.warning("refused %s", facts(peer=address, subject=subject_name(subject)))
            self._turned_away(TurnedAway(subject_name(subject), address))
        return caller

    # --- requests ---

    @web.middleware
    async def _guarded(self, request: web.Request, handler: _Answer) -> web.StreamResponse:
        """Every request passes here: who may not ask gets no further, and each error is told alike."""
        connection = self._connection_of(request)
        if connection.surplus:
            return refusal(503, "too many connections", close=True)
        if connection.caller() is None:
            return refusal(403, "who calls has no place in the daemon's [access]", close=True)
        if request.method != "POST":
            connection.request_came()
        try:
            return await handler(request)
        except Refusal as error:
            return refusal(error.status, error.reason, close=_more_comes(request))
        except web.HTTPException as error:
            reason = error.text or error.reason
            return refusal(error.status, reason, close=_more_comes(request))
        finally:
            connection.request_served()

    def _connection_of(self, request: web.Request) -> HttpConnection:
        for places in self._places.values():
            if (found := places.of(request.protocol)) is not None:
                return found
        raise ConnectionResetError  # lost meanwhile

    async def _jsonrpc(self, asked: web.Request) -> web.Response:
        if "Origin" in asked.headers:
            # Any page may post a text to anywhere, and the browser adds the certificate that it holds.
            raise Refusal(403, "a page in a browser (Origin) is not served here")
        # HTTPRequestEntityTooLarge (413) comes from `read` itself.
        try:
            body = await asked.read()
        except (BadHttpMessage, web.RequestPayloadError):
            # Else aiohttp reads on behind the answer, and logs a traceback.
            asked.content.feed_eof()
            reason = "the body is not what its Content-Encoding says, or is cut short"
            return refusal(400, reason, close=True)
        connection = self._connection_of(asked)
        connection.request_came()
        caller, most = _caller(connection), self._settings.max_batch
        asking = Asking(caller, OVER_HTTP, quota=connection.quota, max_batch=most)
        reply = await self._dispatcher.handle(body, asking)
        if reply is None:
            return web.Response(status=204)
        return web.Response(body=reply, content_type="application/json")

    async def _events(self, asked: web.Request) -> web.StreamResponse:
        connection = self._connection_of(asked)
        return await self._streams.serve(asked, _caller(connection), connection)


def _more_comes(request: web.Request) -> bool:
    """Whether some of a request's body was not read, as of one that is too large. It would be taken for the
    beginning of the next request, which would then be late."""
    return not request.content.is_eof()


def _caller(connection: HttpConnection) -> Caller:
    caller = connection.caller()
    assert caller is not None  # who is nobody gets no further than `_guarded`
    return caller
