"""`python -m bench.null_wire PORT [CERTIFICATE KEY CA]`: the least that can answer an engine's client.

Frames of STOMP with a content-length, on asyncio and uvloop, over TLS where files are named; every request is
answered `true` under its id, to the subscription `s` of the destination `q`.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
from typing import cast

import orjson
import uvloop

LENGTH = re.compile(rb"\ncontent-length:(\d+)")
HEAD = (
    b"MESSAGE\ndestination:q\ncontent-type:application/json\nsubscription:s\ncontent-length:%d\n\n"
)
CONNECTED = b"CONNECTED\nversion:1.2\nheart-beat:0,0\n\n\0"


class NullWire(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer each whole frame."""
        received, at = self._received + data, 0
        while (end := received.find(b"\n\n", at)) >= 0:
            found = LENGTH.search(received, at, end)
            stop = end + 2 + (int(found[1]) if found else 0)
            if len(received) <= stop:
                break
            self._answer(received[at : at + 4], received[end + 2 : stop])
            at = stop + 1
        self._received = received[at:]

    def _answer(self, command: bytes, body: bytes) -> None:
        assert self._transport is not None
        if command == b"CONN":
            self._transport.write(CONNECTED)
        elif command == b"SEND":
            ident = orjson.loads(body)["id"]
            reply = orjson.dumps({"jsonrpc": "2.0", "id": ident, "result": True})
            self._transport.write(HEAD % len(reply) + reply + b"\0")


async def serve(port: int, files: list[str]) -> None:
    """Serve until killed."""
    context = None
    if files:
        certificate, key, ca = files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    loop = asyncio.get_running_loop()
    server = await loop.create_server(NullWire, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2:]))
