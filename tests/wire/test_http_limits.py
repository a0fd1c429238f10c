"""HTTP on both of its transports at once: nobody on the one takes what the other needs."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tests.fakes.http_site import HttpSite
from tests.lab.pki import Authority, Credentials
from tests.wire.serving import client_tls
from virtceph import config
from virtceph.events import SecretsRegistered
from virtceph.rpc.access import Access
from virtceph.rpc.calls import Asking
from virtceph.rpc.listening import open_tcp
from virtceph.rpc.tls import ServerTls, TlsFiles
from virtceph.rpc.unixsocket import open_socket

ASK = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
# More than a socket and a transport hold.
BIG = b"x" * (8 << 20)


def posted(body: bytes, path: str = "/jsonrpc", more: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Echo:
    """As the dispatcher: answers what was asked."""

    async def handle(self, body: bytes, _asking: Asking) -> bytes:
        return body


class Greedy:
    """As the dispatcher: takes as much as it may, and answers how much that was."""

    async def handle(self, _body: bytes, asking: Asking) -> bytes:
        assert asking.quota is not None
        while asking.quota.take():
            pass
        return b"{%d}" % asking.quota.taken


class Site:
    """A server on a UNIX socket and on a TCP port, and its clients."""

    def __init__(self, site: HttpSite, path: Path, port: int) -> None:
        self.server, self.path, self.port = site.server, path, port
        self.turned_away, self.events = site.turned_away, site.events
        self._writers: list[asyncio.StreamWriter] = []

    async def unix(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self.path)
        self._writers.append(writer)
        return reader, writer

    async def https(
        self, who: Credentials, *, entered: bool = True
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls, before = client_tls(who), self.server.connections()["https"]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        self._writers.append(writer)
        # The client's handshake is done first.
        if entered:
            await self.until("https", before + 1)
        return reader, writer

    async def until(self, kind: str, count: int) -> None:
        """Wait until so many connections of a kind are open."""
        while self.server.connections()[kind] != count:
            await asyncio.sleep(0.01)

    def leave(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # pytest's own folders may be longer than the 107 bytes of a socket's path.
    made = Path(tempfile.mkdtemp(prefix="vc-"))
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def known(folder: Path) -> dict[str, Credentials]:
    authority = Authority()
    issued = {}
    for name in ("host", "admin", "stranger"):
        (folder / name).mkdir()
        issued[name] = authority.issue(folder / name, name)
    return issued


@pytest.fixture
def serve(folder: Path, known: dict[str, Credentials]) -> Callable[..., None]:
    """Runs a scenario against a server with some options of [http]."""

    def run(
        scenario: Callable[[Site], Awaitable[None]], dispatcher: Any = None, **http: Any
    ) -> None:
        me = {"admins": ["cert:CN=admin", f"user:{os.getuid()}"]}
        access = Access(config.parse({"access": me}).access)

        async def served() -> None:
            tls = ServerTls(TlsFiles("http", **known["host"].options()))
            site = HttpSite(dispatcher or Echo(), access, tls=tls, **http)
            listener = open_tcp("127.0.0.1", 0, "http.address")
            path = folder / "s"
            unix = open_socket(path, "no-such-group")
            await site.start([unix], [listener])
            clients = Site(site, path, listener.getsockname()[1])
            try:
                async with asyncio.timeout(30):
                    await scenario(clients)
            finally:
                clients.leave()
                await site.close()
                path.unlink()

        uvloop.run(served())

    return run


async def status(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> int:
    reader, writer = connection
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readuntil(b"}")
    return int(head.split()[1])


@pytest.mark.parametrize("who", ["stranger", "admin"])
def test_connections_over_the_network_keep_nobody_from_the_hosts_own_socket(
    serve: Callable[..., None], known: dict[str, Credentials], who: str
) -> None:
    async def scenario(site: Site) -> None:
        for _ in range(4):
            await site.https(known[who])
        assert await status(await site.unix()) == 200

    serve(scenario, max_connections=3)


def test_connections_of_strangers_keep_no_caller_out(
    serve: Callable[..., None], known: dict[str, Credentials]
) -> None:
    async def scenario(site: Site) -> None:
        idle = [await site.https(known["stranger"]) for _ in range(4)]
        assert await status(await site.https(known["admin"])) == 200
        assert await status(idle[0]) == 403

    serve(scenario, max_connections=3)


def test_whoever_is_served_nothing_and_asks_nothing_is_cut_soon(
    serve: Callable[..., None], known: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.rpc.httpconnection._UNSERVED_S", 1.0)

    async def scenario(site: Site) -> None:
        caller = await site.https(known["admin"])
        await site.https(known["admin"])  # one too many
        await site.https(known["stranger"])
        await site.until("https", 1)
        assert await status(caller) == 200

    serve(scenario, max_connections=1)


def test_of_many_who_are_served_nothing_the_oldest_goes(
    serve: Callable[..., None], known: dict[str, Credentials], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.rpc.httpconnection._MOST_UNSERVED", 2)

    async def scenario(site: Site) -> None:
        first, second = [await site.https(known["stranger"]) for _ in range(2)]
        third = await site.https(known["stranger"], entered=False)
        assert await first[0].read() == b""
        assert [await status(one) for one in (second, third)] == [403, 403]

    serve(scenario)


def test_each_stranger_is_told_to_the_audit_trail_once(
    serve: Callable[..., None], known: dict[str, Credentials]
) -> None:
    async def scenario(site: Site) -> None:
        await site.https(known["admin"])
        stranger = await site.https(known["stranger"])
        assert await status(stranger) == 403
        (told,) = site.turned_away
        assert told.name == "cert:CN=stranger,O=virtceph lab"
        assert told.source.startswith("127.0.0.1:")

    serve(scenario)


async def asks(site: Site, request: bytes) -> socket.socket:
    """A connection that asks and is not read from."""
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    client.connect(str(site.path))
    await asyncio.get_running_loop().sock_sendall(client, request)
    return client


def test_a_caller_who_does_not_read_his_reply_is_given_up(serve: Callable[..., None]) -> None:
    async def scenario(site: Site) -> None:
        with await asks(site, posted(BIG)):
            assert site.server.connections()["unix"] == 1
            await site.until("unix", 0)

    serve(scenario, max_body_bytes=2 * len(BIG), request_timeout_s=0.5)


def test_a_reader_of_events_has_the_time_that_is_his(serve: Callable[..., None]) -> None:
    async def scenario(site: Site) -> None:
        with await asks(site, b"GET /events HTTP/1.1\r\nHost: x\r\n\r\n"):
            for _ in range(200):
                site.events.tell(SecretsRegistered([uuid.UUID(int=1)] * 200))
                await asyncio.sleep(0)
            await asyncio.sleep(0.6)
            # events.stuck_timeout_s is longer.
            assert site.server.connections()["unix"] == 1

    serve(scenario, request_timeout_s=0.3)


def test_a_caller_who_reads_slowly_gets_all_of_his_reply(serve: Callable[..., None]) -> None:
    async def scenario(site: Site) -> None:
        loop = asyncio.get_running_loop()
        with await asks(site, posted(BIG)) as client:
            got = 0
            # Three times as long as he may take nothing.
            while got < len(BIG):
                got += len(await loop.sock_recv(client, len(BIG) // 16))
                await asyncio.sleep(0.1)
        assert got >= len(BIG)

    serve(scenario, max_body_bytes=2 * len(BIG), request_timeout_s=0.5)


@pytest.mark.parametrize(
    "request_",
    [posted(b"x", "/nosuch"), posted(b"", "/nosuch"), posted(b"x", "/metrics"), posted(b"{}"), ASK],
    ids=["404", "404 without a body", "405", "200", "a page"],
)
def test_an_answered_connection_is_not_told_that_its_request_is_late(
    serve: Callable[..., None], request_: bytes
) -> None:
    async def scenario(site: Site) -> None:
        reader, writer = await site.unix()
        writer.write(request_)
        await reader.readuntil(b"}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.8):
                # A client that keeps connections would take this for the next reply.
                assert await reader.read() == b"", "an answer that nobody asked for"
        writer.write(ASK)
        assert b" 200 " in await reader.readuntil(b"}")

    serve(scenario, request_timeout_s=0.3)


@pytest.mark.parametrize("path", ["/nosuch", "/metrics"])
def test_what_is_refused_before_its_body_has_come_closes_the_connection(
    serve: Callable[..., None], path: str
) -> None:
    async def scenario(site: Site) -> None:
        reader, writer = await site.unix()
        head, _, body = posted(b"x" * 100, path).partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        answer = await reader.readuntil(b"}")
        assert b"Connection: close" in answer
        writer.write(body)
        assert await reader.read() == b""

    serve(scenario, request_timeout_s=0.3)


def test_requests_under_way_are_bounded_for_a_connection_and_for_each_transport(
    serve: Callable[..., None], known: dict[str, Credentials]
) -> None:
    async def scenario(site: Site) -> None:
        taken = []
        for connection in (await site.unix(), await site.unix(), await site.https(known["admin"])):
            reader, writer = connection
            writer.write(posted(b"all that may be"))
            taken.append((await reader.readuntil(b"}"))[-2:-1])
        # They are not given back here.
        assert taken == [b"2", b"1", b"2"]

    serve(scenario, dispatcher=Greedy(), max_in_flight=2, max_in_flight_total=3)
