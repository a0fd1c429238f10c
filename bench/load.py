"""Requests over raw connections, many in flight, and what they cost a server of its CPU."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

_ID = "0e4bd1a0-7e0c-4c39-8a1c-2bd0f3d7f001"
_BODY = f'{{"jsonrpc": "2.0", "method": "Host.ping2", "params": {{}}, "id": "{_ID}"}}'.encode()
_NS_PER_US = 1000
_REPLY_BYTES = 65536


class Cost(NamedTuple):
    """For one request, in µs: of the server's CPU, and of time."""

    cpu_us: float
    time_us: float


class Load(Protocol):
    """A way to ask."""

    def run(self, count: int) -> None:
        """Ask so often, and wait for every answer. Blocks."""


def cost(load: Load, pid: int, count: int) -> Cost:
    """What each of so many requests costs the server `pid`. Blocks."""
    before_ns, began_s = _cpu_ns(pid), time.perf_counter()
    load.run(count)
    took_s = time.perf_counter() - began_s
    return Cost((_cpu_ns(pid) - before_ns) / count / _NS_PER_US, took_s / count * 1e6)


def _cpu_ns(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


class StompLoad:
    """Asks over one connection of STOMP, `in_flight` at once."""

    def __init__(
        self, address: tuple[str, int], tls: ssl.SSLContext | None, in_flight: int
    ) -> None:
        plain = socket.create_connection(address)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = plain if tls is None else tls.wrap_socket(plain)
        self._in_flight = in_flight
        self._socket.sendall(
            b"CONNECT\naccept-version:1.2\n\n\0SUBSCRIBE\ndestination:q\nid:s\n\n\0"
        )
        assert self._socket.recv(_REPLY_BYTES).startswith(b"CONNECTED")
        head = b"SEND\ndestination:jms.topic.vdsm_requests\nreply-to:q\ncontent-length:%d\n\n"
        self._frame = head % len(_BODY) + _BODY + b"\0"

    def run(self, count: int) -> None:
        """Ask so often, and wait for every answer. Blocks."""
        sent = answered = 0
        while answered < count:
            more = min(self._in_flight - (sent - answered), count - sent)
            for _ in range(more):
                self._socket.sendall(self._frame)
            sent += more
            answered += self._socket.recv(_REPLY_BYTES).count(b"\0")

    def close(self) -> None:
        """End it."""
        self._socket.close()


class HttpLoad:
    """Asks over so many connections to a UNIX socket, one in flight on each."""

    def __init__(self, path: Path, connections: int) -> None:
        self._sockets = [socket.socket(socket.AF_UNIX) for _ in range(connections)]
        for connection in self._sockets:
            connection.connect(str(path))
        head = b"POST /jsonrpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        self._request = head % len(_BODY) + _BODY

    def run(self, count: int) -> None:
        """Ask so often, and wait for every answer. Blocks."""
        left = count
        while left > 0:
            asked: Sequence[socket.socket] = self._sockets[:left]
            for connection in asked:
                connection.sendall(self._request)
            for connection in asked:
                reply = b""
                while not reply.endswith(b"}"):
                    reply += connection.recv(_REPLY_BYTES)
            left -= len(asked)

    def close(self) -> None:
        """End them."""
        for connection in self._sockets:
            connection.close()
