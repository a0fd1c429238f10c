"""The daemon's servers: made together, started, and stopped when everybody has had the last word."""

from __future__ import annotations

import asyncio

from virtceph import config
from virtceph.rpc.access import Access
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.http import HttpServer
from virtceph.rpc.metricsport import MetricsPort
from virtceph.rpc.relay import Relay
from virtceph.rpc.tcp import StompServer
from virtceph.schema import load_contract
from virtceph.sockets import Sockets, Tls
from virtceph.telling import Telling


class Servers:
    """Everybody that serves callers, on one event loop."""

    def __init__(
        self,
        settings: config.Config,
        dispatcher: Dispatcher,
        access: Access,
        telling: Telling,
        sockets: Sockets,
        tls: Tls,
    ) -> None:
        self._sockets, self._feed = sockets, telling.feed
        pages = telling.pages()
        streams = telling.streams
        common, told = (dispatcher, access), telling.turned_away
        self.http = HttpServer(*common, pages, streams, settings.http, tls.http, told)
        self.stomp = StompServer(*common, settings.stomp, tls.stomp, told)
        self.metrics = MetricsPort(pages.metrics)
        relay = Relay(load_contract(), telling.feed, self.stomp.publish_event)
        self._relay = relay if settings.stomp.enabled else None
        self._relaying: asyncio.Task[None] | None = None
        telling.connections = self._connections

    def _connections(self) -> dict[str, int]:
        engines, scrapers = len(self.stomp.connections), self.metrics.connections()
        return {**self.http.connections(), "stomp": engines, "metrics": scrapers}

    async def start(self) -> None:
        """Listen."""
        self._feed.start()
        await self.http.start(self._sockets.http, self._sockets.https)
        await self.stomp.start(self._sockets.stomp)
        await self.metrics.start(self._sockets.metrics)
        if self._relay is not None:
            self._relaying = asyncio.create_task(self._relay.run())

    def reload(self) -> None:
        """Load certificates again. Blocks for a moment."""
        self.http.reload()
        self.stomp.reload()

    async def stop(self) -> None:
        """Take nobody any more, tell who listens what is still to be told, and close. Waits for that."""
        await self.stomp.stop_listening()
        await self.http.stop_listening()
        self._feed.close()
        if self._relaying is not None:
            await self._relaying
        await self.stomp.close()
        await self.http.close()
        await self.metrics.close()
