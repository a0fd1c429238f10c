"""`/metrics` without TLS: that one page, for whoever asks, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
import uvloop
from aiohttp import web

from virtceph.rpc import metricsport
from virtceph.rpc.listening import open_tcp
from virtceph.rpc.metricsport import MetricsPort


async def page(_asked: web.Request) -> web.Response:
    return web.Response(body=b"up 1\n")


def serve(scenario: Callable[[MetricsPort, str], Awaitable[None]]) -> None:
    async def run() -> None:
        server = MetricsPort(page)
        listener = open_tcp("127.0.0.1", 0, "metrics.address")
        await server.start([listener])
        async with asyncio.timeout(20):
            await scenario(server, f"http://127.0.0.1:{listener.getsockname()[1]}")
            await server.close()

    uvloop.run(run())


def test_metrics_are_served_to_whoever_asks() -> None:
    async def scenario(server: MetricsPort, url: str) -> None:
        async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as reply:
            assert (reply.status, await reply.read()) == (200, b"up 1\n")
            assert server.connections() == 1

    serve(scenario)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/jsonrpc", 404),
        ("GET", "/events", 404),
        ("GET", "/healthz", 404),
        ("POST", "/metrics", 405),
        ("GET", "/", 404),
    ],
)
def test_nothing_else_is_served(method: str, path: str, status: int) -> None:
    async def scenario(_server: MetricsPort, url: str) -> None:
        async with aiohttp.ClientSession() as http, http.request(method, url + path) as reply:
            assert reply.status == status
            assert await reply.json() == {"error": "only GET /metrics is served here"}

    serve(scenario)


def test_a_connection_too_many_is_answered_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metricsport, "_MOST_CONNECTIONS", 1)

    async def scenario(_server: MetricsPort, url: str) -> None:
        async with aiohttp.ClientSession() as one, aiohttp.ClientSession() as other:
            async with one.get(f"{url}/metrics") as reply:
                assert reply.status == 200
            async with other.get(f"{url}/metrics") as reply:
                assert reply.status == 503

    serve(scenario)
