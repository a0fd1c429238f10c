"""What the HTTP server shows beside verbs and events: metrics, health, and what there is to call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from virtceph.host.health import FAILING

Page = Callable[[web.Request], Awaitable[web.Response]]


class Pages:
    """Each page by its path. `metrics` gives their text, which takes some milliseconds to make; `health` and
    `openrpc` give objects."""

    def __init__(
        self,
        metrics: Callable[[], bytes],
        metrics_type: str,
        health: Callable[[], Mapping[str, Any]],
        openrpc: Callable[[], bytes],
    ) -> None:
        self._metrics, self._metrics_type = metrics, metrics_type
        self._health, self._openrpc = health, openrpc
        self._one_at_a_time = asyncio.Lock()
        self.by_path: dict[str, Page] = {
            "/metrics": self.metrics,
            "/healthz": self.healthz,
            "/openrpc.json": self.openrpc,
        }

    async def metrics(self, _asked: web.Request) -> web.Response:
        """Metrics as Prometheus reads them."""
        # In a thread: the loop has other things to do meanwhile. Many that ask at once wait for each other.
        async with self._one_at_a_time:
            body = await asyncio.get_running_loop().run_in_executor(None, self._metrics)
        return web.Response(body=body, headers={"Content-Type": self._metrics_type})

    async def healthz(self, _asked: web.Request) -> web.Response:
        """Whether the daemon is well: 200, or 503 when it cannot do its work."""
        told = self._health()
        status = 503 if told["status"] == FAILING else 200
        return _json(orjson.dumps(told), status)

    async def openrpc(self, _asked: web.Request) -> web.Response:
        """The verbs as an OpenRPC document."""
        return _json(self._openrpc())


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")
