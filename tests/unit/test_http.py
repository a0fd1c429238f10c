"""The HTTP server over a real UNIX socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.fakes.http_site import HttpSite
from virtceph.rpc.access import Peer
from virtceph.rpc.audit import TurnedAway
from virtceph.rpc.callers import Caller
from virtceph.rpc.calls import Asking
from virtceph.rpc.http import HttpServer
from virtceph.rpc.unixsocket import open_socket


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders may be longer than the 107 bytes of a socket's path.
    made = Path(tempfile.mkdtemp(prefix="vc-"))
    yield made
    shutil.rmtree(made)


class Echo:
    """As the dispatcher: answers the body and its caller, or how many it may ask; None to nothing."""

    async def handle(self, body: bytes, asking: Asking) -> bytes | None:
        if body == b"{}":
            return None
        if body == b"most":
            return json.dumps(asking.max_batch).encode()
        return json.dumps([body.decode(), asking.caller.name]).encode()


class Access:
    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.asked = 0

    def of_peer(self, peer: Peer) -> Caller | None:
        self.asked += 1
        return Caller(peer.name(), "admin") if self.answer else None


def serve(
    folder: Path,
    scenario: Callable[[aiohttp.ClientSession, HttpServer], Awaitable[None]],
    access: Access | None = None,
    **limits: Any,
) -> list[TurnedAway]:
    """Who was turned away meanwhile."""

    async def run() -> list[TurnedAway]:
        path = folder / "s"
        sizes = {"max_body_bytes": 4096, "max_connections": 10, **limits}
        site = HttpSite(Echo(), access or Access(), **sizes)
        await site.start([open_socket(path, "no-such-group")])
        connector = aiohttp.UnixConnector(path=str(path))
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(20):
            await scenario(session, site.server)
        await site.close()
        return site.turned_away

    return asyncio.run(run())


URL = "http://localhost/jsonrpc"


def test_a_post_is_handed_to_the_dispatcher_with_its_caller(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"body") as reply:
            assert (reply.status, reply.content_type) == (200, "application/json")
            body, caller = await reply.json()
        assert body == "body"
        assert caller.startswith("unix:")

    serve(folder, scenario)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost", ""])
def test_no_page_in_a_browser_acts_for_who_looks_at_it(folder: Path, origin: str) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        # What a page may send to another site without asking.
        headers = {"Origin": origin, "Content-Type": "text/plain"}
        async with session.post(URL, data=b"body", headers=headers) as reply:
            assert reply.status == 403
            assert "browser" in (await reply.json())["error"]
        async with session.post(URL, data=b"body") as reply:
            assert reply.status == 200

    serve(folder, scenario)


def test_how_many_may_be_asked_in_one_body_is_an_option(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"most") as reply:
            assert await reply.json() == 7

    serve(folder, scenario, max_batch=7)


def test_what_has_no_reply_is_204(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"{}") as reply:
            assert (reply.status, await reply.read()) == (204, b"")

    serve(folder, scenario)


@pytest.mark.parametrize("request_line", ["GET /healthz", "GET /x", "GET /jsonrpc", "\x16\x03\x01"])
def test_no_answer_tells_versions(folder: Path, request_line: str) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        assert isinstance(session.connector, aiohttp.UnixConnector)
        reader, writer = await asyncio.open_unix_connection(session.connector.path)
        writer.write(f"{request_line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        head, _, _ = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        named = [line for line in head.split(b"\r\n") if line.lower().startswith(b"server:")]
        assert named == [b"Server: virtceph"]

    serve(folder, scenario)


def test_a_stranger_is_refused_before_his_body_is_read(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"x" * 100) as reply:
            assert reply.status == 403

    (told,) = serve(folder, scenario, Access(False))
    assert (told.name[:5], told.source) == ("unix:", f"pid {os.getpid()}")


def test_a_body_that_is_too_large_is_refused(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"x" * 5000) as reply:
            assert reply.status == 413

    serve(folder, scenario)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_body_that_is_not_in_its_content_encoding_is_refused(
    folder: Path, coding: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        header = {"Content-Encoding": coding}
        junk = b"\xff" * 100
        async with session.post(URL, data=junk, headers=header) as reply:
            assert (reply.status, reply.content_type) == (400, "application/json")
            assert "Content-Encoding" in (await reply.json())["error"]
        async with session.post(URL, data=b"body") as reply:
            assert reply.status == 200

    serve(folder, scenario)
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/jsonrpc", 405), ("POST", "/", 404)]
)
def test_nothing_else_is_served(folder: Path, method: str, path: str, status: int) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.request(method, f"http://localhost{path}") as reply:
            assert reply.status == status

    serve(folder, scenario)


def test_a_connection_too_many_is_refused_and_the_others_are_served(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"x") as reply:
            assert reply.status == 200
        with socket.socket(socket.AF_UNIX) as further:
            further.setblocking(False)
            further.connect(str(folder / "s"))
            assert b" 503 " in await answer(further, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        async with session.post(URL, data=b"y") as reply:
            assert reply.status == 200

    serve(folder, scenario, max_connections=1)


async def answer(client: socket.socket, request: bytes) -> bytes:
    """Everything that is answered, up to the end of the connection."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, request)
    received = b""
    while data := await loop.sock_recv(client, 65536):
        received += data
    return received


@pytest.mark.parametrize(
    "begun",
    [
        b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\n",
        b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nxx",
        b"G",
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_answered_408(
    folder: Path, begun: bytes
) -> None:
    async def scenario(_session: aiohttp.ClientSession, _server: HttpServer) -> None:
        with socket.socket(socket.AF_UNIX) as slow:
            slow.setblocking(False)
            slow.connect(str(folder / "s"))
            received = await answer(slow, begun)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"did not come within 0.2 s" in received

    serve(folder, scenario, request_timeout_s=0.2)


def test_a_connection_that_asks_nothing_is_closed(folder: Path) -> None:
    async def scenario(_session: aiohttp.ClientSession, server: HttpServer) -> None:
        with socket.socket(socket.AF_UNIX) as idle:
            idle.setblocking(False)
            idle.connect(str(folder / "s"))
            assert await asyncio.get_running_loop().sock_recv(idle, 1) == b""
        assert server.connections() == {"unix": 0, "https": 0}

    serve(folder, scenario, idle_timeout_s=0.2)


def test_a_request_that_is_served_for_long_is_not_late(folder: Path) -> None:
    class Slow:
        async def handle(self, _body: bytes, _asking: Asking) -> bytes:
            await asyncio.sleep(0.5)
            return b"[]"

    async def run() -> None:
        site = HttpSite(Slow(), Access(), request_timeout_s=0.1, idle_timeout_s=0.1)
        await site.start([open_socket(folder / "s", "no-such-group")])
        connector = aiohttp.UnixConnector(path=str(folder / "s"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(URL, data=b"x") as reply,
        ):
            assert (reply.status, await reply.read()) == (200, b"[]")
        await site.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "body"), [("/metrics", b"up 1\n"), ("/healthz", b'{"status":"well"}')]
)
def test_pages_are_for_whoever_has_a_place_in_access(folder: Path, path: str, body: bytes) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.get(f"http://localhost{path}") as reply:
            assert (reply.status, await reply.read()) == (200, body)

    async def refused(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.get(f"http://localhost{path}") as reply:
            assert reply.status == 403

    serve(folder, scenario)
    serve(folder, refused, Access(False))


def test_every_error_is_told_as_json(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        for method, path in (("GET", "/none"), ("GET", "/jsonrpc"), ("GET", "/events?since=x")):
            async with session.request(method, f"http://localhost{path}") as reply:
                assert set(await reply.json()) == {"error"}, path

    serve(folder, scenario)


def test_after_stop_listening_open_connections_go_on(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, server: HttpServer) -> None:
        async with session.post(URL, data=b"x") as reply:
            await reply.read()
        await server.stop_listening()
        async with session.post(URL, data=b"y") as reply:
            assert reply.status == 200
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(str(folder / "s"))

    serve(folder, scenario)
