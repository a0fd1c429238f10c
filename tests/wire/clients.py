"""Minimal clients that behave on the wire as those of engines do, with what they cannot do.

`PythonLike` subscribes in one write with CONNECT, sends arrays of one, and connects again after an end.
`JavaLike` subscribes first, and has a reader that handles one frame for each time that bytes come in.
"""

from __future__ import annotations

import json
import selectors
import socket
import ssl
import time
import uuid
from typing import Any

from tests.wire.frames import Got, frame, take

REQUESTS, RESPONSES = "jms.topic.vdsm_requests", "jms.topic.vdsm_responses"
EVENTS = "jms.queue.events"
HEADER_BYTES = 1024
PACKET_BYTES = 16 * 1024 + 325


class PythonLike:
    """Calls one after the other. A call whose connection ends is asked again once, on a new one."""

    def __init__(
        self, address: tuple[str, int], tls: ssl.SSLContext | None, timeout_s: float = 20.0
    ) -> None:
        self._address, self._tls, self._timeout_s = address, tls, timeout_s
        # The same queue on each connection.
        self._queue = str(uuid.uuid4())
        self.connections = 0
        self._connect()

    def call(self, method: str, **params: Any) -> Any:
        ident = str(uuid.uuid4())
        # With the spaces of Python's own JSON.
        body = json.dumps([{"jsonrpc": "2.0", "method": method, "params": params, "id": ident}])
        data = frame(
            "SEND",
            f"destination:{REQUESTS}",
            "content-type:application/json",
            f"reply-to:{self._queue}",
            "ovirtCorrelationId:f1",
            body=body,
        )
        for left in (1, 0):
            try:
                self._socket.sendall(data)
                return self._result(ident)
            except (ConnectionError, ssl.SSLError):
                if not left:
                    raise
                self.close()
                self._connect()
        raise AssertionError

    def _result(self, ident: str) -> Any:
        while True:
            got = self.frame()
            assert got.command == "MESSAGE", got
            reply = json.loads(got.body)
            assert set(reply) <= {"jsonrpc", "id", "result", "error"}, reply
            if reply["id"] == ident:
                return reply["result"] if "result" in reply else reply["error"]

    def frame(self) -> Got:
        """The next frame. An ERROR makes this client connect again."""
        while True:
            got, self._rest = take(self._rest)
            if got is not None:
                if got.command == "ERROR":
                    raise ConnectionError(got.body.decode())
                return got
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionError("closed")
            self._rest += data

    def _connect(self) -> None:
        plain = socket.create_connection(self._address, self._timeout_s)
        self._socket = plain if self._tls is None else self._tls.wrap_socket(plain)
        self._rest = b""
        self.connections += 1
        self._socket.sendall(
            frame("CONNECT", "accept-version:1.2", "heart-beat:0,24000")
            + frame("SUBSCRIBE", f"destination:{self._queue}", "ack:auto", f"id:{uuid.uuid4()}")
        )
        got = self.frame()
        assert got.raw == frame("CONNECTED", "version:1.2", "heart-beat:24000,0"), got

    def close(self) -> None:
        self._socket.close()


class _Tls:
    """The record layer of a client that unwraps one record for each read."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out)
        self._packets = bytearray()
        self._decrypted = b""

    def handshake(self, connection: socket.socket) -> None:
        """Shake hands. Blocks."""
        connection.setblocking(True)
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                self._flush(connection)
                while not self._feed():
                    self._packets += connection.recv(PACKET_BYTES)
                continue
            self._flush(connection)
            connection.setblocking(False)
            return

    def _flush(self, connection: socket.socket) -> None:
        if data := self._out.read():
            connection.sendall(data)

    def _feed(self) -> bool:
        """Hand on one record, if there is a whole one."""
        if len(self._packets) < 5:
            return False
        size = 5 + int.from_bytes(self._packets[3:5], "big")
        if len(self._packets) < size:
            return False
        self._in.write(self._packets[:size])
        del self._packets[:size]
        return True

    def read(self, connection: socket.socket, room: int) -> tuple[bytes, int]:
        """What goes into a buffer with so much room, and how much this read unwrapped: what was left of the
        record before counts as nothing."""
        unwrapped = 0
        if not self._decrypted:
            self._packets += _received(connection, PACKET_BYTES - len(self._packets))
            if self._feed():
                try:
                    self._decrypted = self._object.read(PACKET_BYTES)
                except ssl.SSLWantReadError:
                    self._decrypted = b""
                unwrapped = len(self._decrypted)
        data, self._decrypted = self._decrypted[:room], self._decrypted[room:]
        return data, unwrapped

    def write(self, connection: socket.socket, data: bytes) -> None:
        self._object.write(data)
        connection.setblocking(True)
        self._flush(connection)
        connection.setblocking(False)


def _received(connection: socket.socket, most: int) -> bytes:
    try:
        data = connection.recv(most) if most > 0 else b""
    except BlockingIOError:
        return b""
    if most > 0 and not data:
        raise ConnectionError("closed")
    return data


class JavaLike:
    """Sends, and has frames handed on one for each turn of its selector.

    `host`: the header that this client's CONNECT has, None to leave it out.
    """

    def __init__(
        self,
        address: tuple[str, int],
        tls: ssl.SSLContext | None,
        *,
        wants_ms: int = 30_000,
        host: str | None = "engine.example.com",
    ) -> None:
        self._socket = socket.create_connection(address, 20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = None if tls is None else _Tls(tls)
        if self._tls is not None:
            self._tls.handshake(self._socket)
        self._socket.setblocking(False)
        self._outbox: list[bytes] = []
        self._header = b""
        # Of a frame whose head was read: head and what came of the body, and how much is missing.
        self._begun: bytes | None = None
        self._missing = 0
        self.frames: list[Got] = []
        self.heard_s = time.monotonic()
        self.longest_silence_s = 0.0
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        hosts = [f"host:{host}"] if host is not None else []
        subscribe = [
            frame("SUBSCRIBE", f"id:{uuid.uuid4()}", f"destination:{queue}")
            for queue in (EVENTS, RESPONSES)
        ]
        connect = frame("CONNECT", "accept-version:1.2", *hosts, f"heart-beat:0,{wants_ms}")
        # Without TLS it subscribes before it connects.
        self._outbox += [connect, *subscribe] if tls is not None else [*subscribe, connect]
        while not any(got.command == "CONNECTED" for got in self.frames):
            assert self.turn(20), "no CONNECTED"
        self.frames.clear()

    def ask(self, method: str, count: int) -> list[str]:
        """Send so many requests at once; their ids."""
        idents = [str(uuid.uuid4()) for _ in range(count)]
        for ident in idents:
            body = json.dumps({"jsonrpc": "2.0", "method": method, "params": {}, "id": ident})
            lines = (f"reply-to:{RESPONSES}", f"destination:{REQUESTS}")
            self._outbox.append(frame("SEND", *lines, body=body))
        return idents

    def until_answered(self, idents: list[str], timeout_s: float) -> float:
        """The seconds until all are answered; more than `timeout_s` when they are not."""
        began_s, waiting = time.monotonic(), set(idents)
        while waiting:
            left_s = timeout_s - (time.monotonic() - began_s)
            if left_s <= 0:
                return timeout_s + 1
            self.turn(left_s)
            for got in self.frames:
                body = json.loads(got.body)
                for reply in body if isinstance(body, list) else [body]:
                    assert "method" in reply or reply.get("result", True) is not None, reply
                    waiting.discard(reply.get("id", ""))
            self.frames.clear()
        return time.monotonic() - began_s

    def turn(self, timeout_s: float) -> bool:
        """Wait for the selector, and handle one frame, and send one. Whether it woke up."""
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outbox else 0)
        self._selector.modify(self._socket, interest)
        if not self._selector.select(timeout_s):
            return False
        self._incoming()
        if self._outbox:
            data = self._outbox.pop(0)
            if self._tls is None:
                self._socket.sendall(data)
            else:
                self._tls.write(self._socket, data)
        return True

    def _read(self, room: int) -> tuple[bytes, int]:
        if self._tls is not None:
            return self._tls.read(self._socket, room)
        data = _received(self._socket, room)
        return data, len(data)

    def _incoming(self) -> None:
        if self._begun is None:
            data, read = self._read(HEADER_BYTES - len(self._header))
            self._header += data
            if read <= 0:
                return
            self._hear()
            if not self._head():
                return
        assert self._begun is not None
        data, _read = self._read(self._missing)
        self._hear()
        self._begun += data
        self._missing -= len(data)
        if not self._missing:
            self._hand_on(self._begun)

    def _head(self) -> bool:
        """Look at what the header buffer has; whether a frame was begun whose end has to be read."""
        lines = self._header.lstrip(b"\n").split(b"\n")
        if len(lines) <= 2:
            return False  # a heart-beat
        stripped = self._header.lstrip(b"\n").lstrip(b"\0")
        head, ended, rest = stripped.partition(b"\n\n")
        assert ended, f"a header cut in the middle: {stripped!r}"
        length = [line for line in head.split(b"\n") if line.startswith(b"content-length:")]
        if not length:
            # Of control frames; what stands behind one is looked at as a frame, whatever it is.
            for part in filter(None, self._header.split(b"\0")):
                assert part.strip(b"\n"), (
                    "an end of a line right behind a NUL: this client dies of it"
                )
                got, _ = take(part + b"\0")
                assert got is not None
                self.frames.append(got)
            self._header = b""
            return False
        size = int(length[0].partition(b":")[2])
        missing = size + 1 - len(rest)
        if missing > 0:
            self._begun, self._missing, self._header = stripped, missing, b""
            return True
        # What came behind it stays, and is looked at when more comes.
        self._hand_on(stripped[: len(head) + 2 + size + 1])
        self._header = rest[size + 1 :]
        return False

    def _hand_on(self, data: bytes) -> None:
        got, rest = take(data)
        assert got is not None
        assert not rest
        self.frames.append(got)
        self._begun = None

    def _hear(self) -> None:
        now_s = time.monotonic()
        self.longest_silence_s = max(self.longest_silence_s, now_s - self.heard_s)
        self.heard_s = now_s

    def close(self) -> None:
        self._selector.close()
        self._socket.close()
