"""`python -m bench.null_server SOCKET`: the least that can answer the client library.

HTTP/1.1 kept alive, on asyncio and uvloop; every JSON-RPC request is answered `true` under its id.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import orjson
import uvloop

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


class NullServer(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer each whole request."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = LENGTH.search(self._received, 0, end)
            stop = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < stop:
                return
            self._answer(orjson.loads(self._received[end + 4 : stop])["id"])
            self._received = self._received[stop:]

    def _answer(self, ident: object) -> None:
        assert self._transport is not None
        body = orjson.dumps({"jsonrpc": "2.0", "result": True, "id": ident})
        self._transport.write(HEAD % len(body) + body)


async def serve(path: str) -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_unix_server(NullServer, path)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1]))
