"""The server that engines connect to: STOMP on TCP, with mutual TLS, within limits."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable
from types import CoroutineType
from typing import Any, cast

from virtceph.log import facts
from virtceph.rpc import envelope as envelopes
from virtceph.rpc import topics
from virtceph.rpc.accepting import Acceptor
from virtceph.rpc.access import Access, subject_name
from virtceph.rpc.audit import TurnedAway
from virtceph.rpc.callers import Caller
from virtceph.rpc.calls import Asking
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.patience import Patience
from virtceph.rpc.quota import Quota
from virtceph.rpc.sender import Sender
from virtceph.rpc.session import Session
from virtceph.rpc.stomp import FrameLimits
from virtceph.rpc.tls import ServerTls, subject_of
from virtceph.rpc.topics import Topics
from virtceph.schema.spec import LEVELS
from virtceph.stompoptions import Stomp

log = logging.getLogger(__name__)

# How long the other end may take to read the last of what it was sent; and when the daemon stops.
_LAST_WORDS_S, _LAST_WORDS_AT_STOP_S = 2.0, 0.3
# notify_time of an event: milliseconds that only grow, and never were those of an earlier kind.
_NOTIFY_BASE = 2147483647


class StompServer:
    """Serves the dispatcher to engines. `turned_away` hears of who gets nothing. Used from one event loop."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        access: Access,
        settings: Stomp,
        tls: ServerTls | None,
        turned_away: Callable[[TurnedAway], None] = lambda _who: None,
    ) -> None:
        self._dispatcher, self._access, self.settings, self._tls = dispatcher, access, settings, tls
        self.turned_away = turned_away
        self.topics = Topics()
        self.quota = Quota(settings.max_in_flight_total)
        self.frame_limits = FrameLimits(
            settings.max_frame_bytes, settings.max_header_bytes, settings.max_headers
        )
        self.connections: set[Connection] = set()
        self._acceptor = Acceptor(
            lambda address: Connection(self, address),
            tls=None if tls is None else tls.context,
            max_handshakes=settings.max_connections,
            handshake_s=settings.handshake_timeout_s,
            shutdown_s=_LAST_WORDS_S,
        )
        self._served: set[asyncio.Task[Any]] = set()
        self.loop: asyncio.AbstractEventLoop
        self._thread = 0

    async def start(self, listeners: list[socket.socket]) -> None:
        """Listen."""
        self.loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._acceptor.start(listeners)

    async def stop_listening(self) -> None:
        """Take no new connections; those that are open go on."""
        self._acceptor.stop()

    async def close(self) -> None:
        """Close every connection, when its last words are out. Waits for that."""
        self._acceptor.stop()
        for connection in list(self.connections):
            connection.end("the daemon stops", _LAST_WORDS_AT_STOP_S)
        deadline_s = time.monotonic() + 2 * _LAST_WORDS_AT_STOP_S
        while self.connections and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    def reload(self) -> None:
        """Load the certificate again. Blocks for a moment."""
        if self._tls is not None:
            self._tls.reload()

    # --- what connections need ---

    def caller(self, certificate: bytes | None, address: str) -> Caller | None:
        """Who has connected; None for whoever gets nothing."""
        if self._tls is None:
            return self._access.of_plain(address)
        if certificate is None:
            return None
        return self._access.of_subject(subject_of(certificate), address)

    def ask(self, body: bytes, asking: Asking, done: Callable[[Any], None]) -> None:
        """Serve one body; `done` is called with the reply, at once where it never waits."""
        outcome = self._dispatcher.begin(body, asking)
        if type(outcome) is not CoroutineType:
            done(outcome)
            return
        task = self.loop.create_task(outcome)
        self._served.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._served.discard(task)
            if task.cancelled():
                return
            error = task.exception()
            if error is None:
                done(task.result())
            else:
                log.error("a request broke %s", facts(caller=asking.caller.name), exc_info=error)

        task.add_done_callback(ended)

    # --- events ---

    def publish_event(self, method: str, params: dict[str, Any], level: str = LEVELS[0]) -> None:
        """Send an event to whoever is subscribed to events and has at least a level; `notify_time` is added
        to `params` where it is missing. A subscriber who does not read is closed before he takes more than
        his share of memory. From any thread, once the server has started."""
        now_ms = _NOTIFY_BASE + int(time.monotonic() * 1000)
        params = {**params, "notify_time": params.get("notify_time", now_ms)}
        body = envelopes.dump({"jsonrpc": "2.0", "method": method, "params": params})
        if threading.get_ident() == self._thread:
            self.topics.broadcast(topics.EVENTS, body, level)
        else:
            self.loop.call_soon_threadsafe(self.topics.broadcast, topics.EVENTS, body, level)


class Connection(asyncio.Protocol):
    """One connection of the server's: its socket, joined to its protocol."""

    def __init__(self, server: StompServer, address: str) -> None:
        self._server, self._address = server, address
        self._session: Session | None = None
        self._ending = False
        self._last_words: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out who it is, and begin."""
        server, settings = self._server, self._server.settings
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        ssl_object = transport.get_extra_info("ssl_object")
        certificate = None if ssl_object is None else ssl_object.getpeercert(True)
        caller = server.caller(certificate, self._address)
        if caller is None:
            who = subject_name(subject_of(certificate)) if certificate else "plain"
            log.warning("refused %s", facts(peer=self._address, subject=who))
            server.turned_away(TurnedAway(who, self._address))
            self._transport.abort()
            return
        server.connections.add(self)
        sender = self._sender = Sender(
            self._transport,
            server.loop,
            settings.max_queued_bytes,
            on_full=self._transport.pause_reading,
            on_room=self._read_on,
            on_overflow=self._cut,
        )
        session = self._session = Session(
            caller,
            sender,
            server.topics,
            server.ask,
            self.end,
            quota=Quota(settings.max_in_flight, server.quota),
            frame_limits=server.frame_limits,
            max_subscriptions=settings.max_subscriptions,
        )
        self._patience = Patience(
            session,
            sender,
            server.loop,
            session.refuse,
            first_frame_s=settings.handshake_timeout_s,
            idle_s=settings.idle_timeout_s,
        )
        log.debug("connected %s", facts(caller=caller.name, peer=self._address))
        if len(server.connections) > settings.max_connections:
            log.warning("too many connections %s", facts(caller=caller.name, peer=self._address))
            session.refuse("Too many connections")

    def data_received(self, data: bytes) -> None:
        """Serve it."""
        if self._session is not None and not self._ending:
            self._session.received(data)
            self._patience.heard()

    def pause_writing(self) -> None:
        """The other end does not read as fast as it is written to."""
        if self._session is not None:
            self._sender.transport_full()

    def resume_writing(self) -> None:
        """It has read."""
        if self._session is not None:
            self._sender.transport_has_room()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._server.connections.discard(self)
        if self._last_words is not None:
            self._last_words.cancel()
        if self._session is not None:
            self._patience.close()
            self._sender.close()
            self._session.close()
            # These know each other. Each connection's memory, of which TLS has 256 KiB, would else wait for
            # Python's collector, which looks seldom.
            del self._patience, self._sender, self._transport
            self._session = None

    def end(self, reason: str, last_words_s: float = _LAST_WORDS_S) -> None:
        """Close it, when what was sent is out."""
        if self._session is None or self._ending:
            return
        self._ending = True
        caller = self._session.caller.name
        log.debug("closed %s", facts(caller=caller, peer=self._address, reason=reason))
        self._patience.close()
        self._session.close()
        transport = self._transport
        if transport.can_write_eof():
            # A socket that is closed with something unread takes back what it sent last. So the other end
            # is left to close it.
            transport.write_eof()
            transport.resume_reading()
        else:
            transport.close()
        self._last_words = self._server.loop.call_later(last_words_s, transport.abort)

    def _read_on(self) -> None:
        if self._session is not None and not self._ending:
            self._patience.reading_again()
            self._transport.resume_reading()
            self._session.go_on()

    def _cut(self) -> None:
        """It does not read, and more than may waits for it."""
        assert self._session is not None
        told = facts(caller=self._session.caller.name, peer=self._address)
        log.warning("closed: it does not read what it is sent %s", told)
        self._ending = True
        self._sender.close()
        self._session.close()
        self._transport.abort()
