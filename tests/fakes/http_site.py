"""The daemon's own HTTP server, with as much behind it as a test needs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from virtceph.host.events import Events
from virtceph.httpoptions import Events as EventOptions
from virtceph.httpoptions import Http
from virtceph.rpc.audit import TurnedAway
from virtceph.rpc.callers import Caller
from virtceph.rpc.feed import Feed
from virtceph.rpc.http import HttpServer
from virtceph.rpc.httppages import Pages
from virtceph.rpc.streams import Streams
from virtceph.rpc.tls import ServerTls
from virtceph.rpc.unixsocket import open_socket
from virtceph.schema import load_contract

CONTRACT = load_contract()


class HttpSite:
    """A server, and the events that it streams. `health` is what its page shows."""

    def __init__(
        self,
        dispatcher: Any,
        access: Any,
        *,
        streams: dict[str, Any] | None = None,
        kept: int = 1000,
        kept_bytes: int = 1 << 20,
        tls: ServerTls | None = None,
        **http: Any,
    ) -> None:
        self.events = Events(CONTRACT, kept, kept_bytes)
        self.feed = Feed(self.events)
        self.streams = Streams(self.feed, EventOptions(**(streams or {})), CONTRACT.events)
        self.health: dict[str, Any] = {"status": "well"}
        pages = Pages(lambda: b"up 1\n", "text/plain", lambda: self.health, lambda: b"{}")
        self.turned_away: list[TurnedAway] = []
        parts = dispatcher, access, pages, self.streams, Http(**http), tls
        self.server = HttpServer(*parts, self.turned_away.append)

    async def start(self, unix: list[Any], tcp: list[Any] | None = None) -> None:
        """Listen."""
        self.loop = asyncio.get_running_loop()
        self.feed.start()
        await self.server.start(unix, tcp)

    async def close(self) -> None:
        """As the daemon does."""
        await self.server.stop_listening()
        self.feed.close()
        await self.server.close()


class Everybody:
    """As `rpc.access.Access`: whoever comes has a level."""

    def __init__(self, level: str = "admin") -> None:
        self.level = level

    def of_peer(self, _peer: Any) -> Caller:
        return Caller("unix:someone", self.level)


@contextlib.contextmanager
def serving_events(path: Path, *, kept: int = 1000, **streams: Any) -> Iterator[HttpSite]:
    """A server of events on a UNIX socket, on a thread of its own, for as long as the block."""
    sites: list[HttpSite] = []
    loops: list[asyncio.AbstractEventLoop] = []
    ready, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        site = HttpSite(None, Everybody(), kept=kept, streams=streams)
        await site.start([open_socket(path, "no-such-group")])
        sites.append(site)
        loops.append(asyncio.get_running_loop())
        ready.set()
        await stop.wait()
        await site.close()
        path.unlink()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="events")
    thread.start()
    assert ready.wait(10)
    try:
        yield sites[0]
    finally:
        loops[0].call_soon_threadsafe(stop.set)
        thread.join(10)
        assert not thread.is_alive(), "the server did not stop"
