"""The HTTP server over a real UNIX socket."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from virtceph.rpc.http import HttpServer, SocketInUse, open_socket


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders may be longer than the 107 bytes of a socket's path.
    made = Path(tempfile.mkdtemp(prefix="vc-"))
    yield made
    shutil.rmtree(made)


class Echo:
    """As the dispatcher: answers the body and its caller; None to an empty object."""

    async def handle(self, body: bytes, caller: str) -> bytes | None:
        if body == b"{}":
            return None
        return json.dumps([body.decode(), caller]).encode()


class Access:
    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.asked = 0

    def allows(self, _peer: object) -> bool:
        self.asked += 1
        return self.answer


def serve(
    folder: Path,
    scenario: Callable[[aiohttp.ClientSession, HttpServer], Awaitable[None]],
    access: Access | None = None,
    **limits: int,
) -> None:
    async def run() -> None:
        path = folder / "s"
        sizes = {"max_body_bytes": 4096, "max_connections": 10, **limits}
        server = HttpServer(Echo(), access or Access(), **sizes)  # type: ignore[arg-type]
        await server.start([open_socket(path, "no-such-group")])
        connector = aiohttp.UnixConnector(path=str(path))
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(10):
            await scenario(session, server)
        await server.close()

    asyncio.run(run())


URL = "http://localhost/jsonrpc"


def test_a_post_is_handed_to_the_dispatcher_with_its_caller(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"body") as reply:
            assert (reply.status, reply.content_type) == (200, "application/json")
            body, caller = await reply.json()
        assert body == "body"
        assert caller.startswith("unix:")

    serve(folder, scenario)


def test_what_has_no_reply_is_204(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"{}") as reply:
            assert (reply.status, await reply.read()) == (204, b"")

    serve(folder, scenario)


def test_a_stranger_is_refused_before_his_body_is_read(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        async with session.post(URL, data=b"x" * 100) as reply:
            assert reply.status == 403

    serve(folder, scenario, Access(False))


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


def test_a_connection_too_many_is_refused(folder: Path) -> None:
    async def scenario(session: aiohttp.ClientSession, _server: HttpServer) -> None:
        with socket.socket(socket.AF_UNIX) as idle:
            idle.connect(str(folder / "s"))
            await asyncio.sleep(0.05)
            async with session.post(URL, data=b"x") as reply:
                assert reply.status == 503

    serve(folder, scenario, max_connections=1)


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


def test_the_socket_is_for_owner_and_group_alone(folder: Path) -> None:
    with open_socket(folder / "s", "no-such-group"):
        assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o660


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    open_socket(folder / "s", "no-such-group").close()
    with open_socket(folder / "s", "no-such-group") as listener, connected(folder / "s"):
        assert listener.accept()


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def test_a_daemon_that_listens_keeps_its_socket(folder: Path) -> None:
    with open_socket(folder / "s", "no-such-group"):
        with pytest.raises(SocketInUse):
            open_socket(folder / "s", "no-such-group")
        connected(folder / "s").close()


def test_a_daemon_whose_backlog_is_full_keeps_its_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(folder / "s"))
        hung.listen(0)
        waiting = connected(folder / "s")
        with pytest.raises(SocketInUse):
            open_socket(folder / "s", "no-such-group")
        waiting.close()


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    (folder / "s").write_text("precious")
    with pytest.raises(FileExistsError):
        open_socket(folder / "s", "no-such-group")
    assert (folder / "s").read_text() == "precious"


def test_of_daemons_that_start_at_once_exactly_one_listens(folder: Path) -> None:
    for round_ in range(20):
        path = folder / f"s{round_}"
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(str(path))
        outcomes = race(lambda path=path: open_socket(path, "no-such-group"))  # type: ignore[misc]
        listening = [one for one in outcomes if isinstance(one, socket.socket)]
        assert len(listening) == 1
        connected(path).close()
        listening[0].close()


def race(work: Callable[[], Any]) -> list[Any]:
    start = threading.Barrier(4)
    outcomes: list[Any] = []

    def run() -> None:
        start.wait()
        try:
            outcomes.append(work())
        except (SocketInUse, OSError) as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_no_descriptor_is_left_when_a_socket_cannot_be_made(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        open_socket(folder / ("x" * 120), "no-such-group")
    assert len(os.listdir("/proc/self/fd")) == before
