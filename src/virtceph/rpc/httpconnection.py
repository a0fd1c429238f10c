"""One connection of an HTTP server: who is at its other end, whether there is room for it, and how long it
may take to ask."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

from virtceph.rpc.callers import Caller
from virtceph.rpc.quota import Quota

# How long the other end may take to read the last of what it was sent.
_LAST_WORDS_S = 2.0

# Whoever is served nothing is told so, if he asks this soon; and of so many the oldest goes. Else a few
# hundred idle connections, of anybody's certificate, would keep everybody out.
_UNSERVED_S, _MOST_UNSERVED = 5.0, 64

# Who has connected, from the transport; None for whoever gets nothing.
Identify = Callable[[asyncio.BaseTransport], Caller | None]


class Places:
    """The open connections of one transport, each by the protocol of aiohttp, from the end of its handshake
    on until it is lost. So many are served; those that are not count apart."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._served: dict[object, HttpConnection] = {}
        # In the order in which they came.
        self._unserved: dict[object, HttpConnection] = {}

    def __len__(self) -> int:
        return len(self._served) + len(self._unserved)

    def of(self, inner: object) -> HttpConnection | None:
        """The connection of a protocol of aiohttp; None where it was lost."""
        return self._served.get(inner) or self._unserved.get(inner)

    def full(self) -> bool:
        """Whether one more would be too many."""
        return len(self._served) >= self._most

    def enter(self, inner: object, connection: HttpConnection, *, served: bool) -> None:
        """It is open."""
        if served:
            self._served[inner] = connection
            return
        if len(self._unserved) >= _MOST_UNSERVED:
            self._unserved.pop(next(iter(self._unserved))).cut()
        self._unserved[inner] = connection

    def leave(self, inner: object) -> None:
        """It is lost."""
        self._served.pop(inner, None)
        self._unserved.pop(inner, None)


class HttpConnection(asyncio.Protocol):
    """Stands before aiohttp's own protocol, which bounds how long a connection may be idle, and not how long
    a request may take to come.

    `at_once`: who it is, is found out when it is made, so that a stranger takes nobody's place; else when it
    asks first. `quota` bounds what it has under way. `surplus`: it is one too many, and whatever it asks is
    refused. `gone` is set when it is lost.
    """

    def __init__(
        self,
        inner: asyncio.Protocol,
        identify: Identify,
        request_timeout_s: float,
        places: Places,
        *,
        at_once: bool = False,
        quota: Quota | None = None,
    ) -> None:
        self.quota = quota
        self.surplus = False
        self.gone = asyncio.Event()
        self._inner, self._identify = inner, identify
        self._places, self._at_once = places, at_once
        self._request_timeout_s = request_timeout_s
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unserved: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._busy = self._known = self._at_own_pace = False
        self._caller: Caller | None = None

    def caller(self) -> Caller | None:
        """Who is at the other end; found out once. Blocks on the host's user names for a UNIX socket."""
        if not self._known and self._transport is not None:
            self._caller, self._known = self._identify(self._transport), True
        return self._caller

    def request_came(self) -> None:
        """All of a request is there."""
        self._busy = True
        self._stop_timer()

    def request_served(self) -> None:
        """It is answered; the next may come."""
        self._busy = False
        # Of a request that was answered before its end was waited for.
        self._stop_timer()

    def reads_at_his_own_pace(self) -> None:
        """Whoever writes to it bounds how long it may read nothing."""
        self._at_own_pace = True
        self._stop_waiting()

    def cut(self) -> None:
        """Close it at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        stranger = self._at_once and self.caller() is None
        self.surplus = not stranger and self._places.full()
        served = not (stranger or self.surplus)
        self._places.enter(self._inner, self, served=served)
        self._inner.connection_made(transport)
        if not served:
            self._unserved = asyncio.get_running_loop().call_later(_UNSERVED_S, self.cut)

    def data_received(self, data: bytes) -> None:
        """Something of a request came."""
        if not self._busy and self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._request_timeout_s, self._late)
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Nothing more comes."""
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        """The other end does not read as fast as it is written to."""
        self._inner.pause_writing()
        # aiohttp waits for it without end.
        if not self._at_own_pace and self._transport is not None:
            self._wait_for_reader(self._transport)

    def resume_writing(self) -> None:
        """It has read."""
        self._stop_waiting()
        self._inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Forget it."""
        self._stop_timer()
        self._stop_waiting()
        if self._unserved is not None:
            self._unserved.cancel()
        self.gone.set()
        self._places.leave(self._inner)
        self._inner.connection_lost(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wait_for_reader(self, transport: asyncio.Transport) -> None:
        """Cut it when it takes nothing for as long as a request may take to come."""
        before = transport.get_write_buffer_size()

        def look() -> None:
            if transport.get_write_buffer_size() < before:
                self._wait_for_reader(transport)
            else:
                self.cut()

        self._unread = asyncio.get_running_loop().call_later(self._request_timeout_s, look)

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _late(self) -> None:
        transport = self._transport
        if transport is None or self._busy:
            return
        reason = f"the request did not come within {self._request_timeout_s:g} s"
        transport.write(_bare_answer("408 Request Timeout", reason))
        transport.close()
        # Closing waits for what was written, and whoever does not send may not read either.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, transport.abort)


def _bare_answer(status: str, reason: str) -> bytes:
    body = json.dumps({"error": reason}).encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
