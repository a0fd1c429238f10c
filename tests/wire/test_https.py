"""HTTP over mutual TLS: who gets in, who does not, and what each limit answers."""

from __future__ import annotations

import asyncio
import datetime
import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvloop

from tests.fakes.http_site import HttpSite
from tests.lab.pki import DAY, Authority, Credentials
from tests.wire.serving import client_tls
from virtceph import config
from virtceph.events import DaemonStopping, SecretsRegistered
from virtceph.rpc.access import Access
from virtceph.rpc.calls import Asking
from virtceph.rpc.listening import open_tcp
from virtceph.rpc.tls import ServerTls, TlsFiles

HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def host(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    return authority.issue(tmp_path_factory.mktemp("host"), "host.lab")


@pytest.fixture(scope="module")
def issue(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Credentials]:
    def issue(name: str, **how: Any) -> Credentials:
        return authority.issue(tmp_path_factory.mktemp("client"), name, **how)

    return issue


class Echo:
    """As the dispatcher: answers who asked."""

    async def handle(self, body: bytes, asking: Asking) -> bytes:
        return json.dumps(
            [len(body), asking.caller.name, asking.caller.level, asking.caller.source]
        ).encode()


Scenario = Callable[[HttpSite, int], Awaitable[None]]


def serve(host: Credentials, scenario: Scenario, **http: Any) -> None:
    """Run a scenario against a server; it gets the site and its port."""
    lists = {
        "admins": ["cert:CN=admin"],
        "operators": ["cert:CN=operator"],
        "monitors": ["cert:CN=monitor"],
    }
    access = Access(config.parse({"access": lists}).access)

    async def run() -> None:
        tls = ServerTls(TlsFiles("http", **host.options()))
        site = HttpSite(Echo(), access, tls=tls, **http)
        listener = open_tcp("127.0.0.1", 0, "http.address")
        port = listener.getsockname()[1]
        await site.start([], [listener])
        async with asyncio.timeout(30):
            await scenario(site, port)
            await site.close()

    uvloop.run(run())


def session(credentials: Credentials | None, host: Credentials) -> aiohttp.ClientSession:
    if credentials is None:
        context = ssl.create_default_context(cafile=str(host.ca))
        context.check_hostname = False
    else:
        context = client_tls(credentials)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, limit=4))


def url(port: int, path: str = "/jsonrpc") -> str:
    return f"https://127.0.0.1:{port}{path}"


@pytest.mark.parametrize("level", ["admin", "operator", "monitor"])
def test_a_caller_with_a_certificate_has_its_name_and_level(
    host: Credentials, issue: Callable[..., Credentials], level: str
) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        async with session(issue(level), host) as http, http.post(url(port), data=b"xyz") as reply:
            size, name, its_level, source = await reply.json()
        assert (size, its_level) == (3, level)
        assert name == f"cert:CN={level},O=virtceph lab"
        assert source.startswith("127.0.0.1:")

    serve(host, scenario)


@pytest.mark.parametrize("path", ["/events", "/metrics", "/healthz", "/openrpc.json"])
def test_every_page_is_for_known_callers_alone(
    host: Credentials, issue: Callable[..., Credentials], path: str
) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        for name, status in (("monitor", 200), ("stranger", 403)):
            async with session(issue(name), host) as http, http.get(url(port, path)) as reply:
                assert reply.status == status, name

    serve(host, scenario)


def test_a_stream_tells_what_its_callers_level_may_hear(
    host: Credentials, issue: Callable[..., Credentials]
) -> None:
    async def scenario(site: HttpSite, port: int) -> None:
        site.events.tell(SecretsRegistered([]))
        site.events.tell(DaemonStopping())
        for name, heard in (("monitor", False), ("operator", True)):
            where = url(port, "/events?since=0&follow=false")
            async with session(issue(name), host) as http, http.get(where) as reply:
                text = await reply.text()
            assert ("secrets_registered" in text) is heard
            assert "daemon_stopping" in text

    serve(host, scenario)


def test_a_caller_without_a_certificate_gets_no_connection(host: Credentials) -> None:
    async def scenario(site: HttpSite, port: int) -> None:
        async with session(None, host) as http:
            with pytest.raises(aiohttp.ClientError):
                await http.post(url(port), data=b"x")
        assert site.server.connections()["https"] == 0

    serve(host, scenario)


@pytest.mark.parametrize("how", ["other authority", "expired", "not valid yet"])
def test_a_certificate_that_does_not_count_gets_no_connection(
    host: Credentials, authority: Authority, tmp_path: Path, how: str
) -> None:
    options: dict[str, Any] = {
        "expired": {"begins": -DAY, "ends": -HOUR},
        "not valid yet": {"begins": HOUR, "ends": DAY},
    }.get(how, {})
    issuer = Authority("another") if how == "other authority" else authority
    # A caller of another authority still trusts the host's.
    bad = issuer.issue(tmp_path, "admin", trusted=authority, **options)

    async def scenario(_site: HttpSite, port: int) -> None:
        async with session(bad, host) as http:
            with pytest.raises(aiohttp.ClientError):
                await http.post(url(port), data=b"x")

    serve(host, scenario)


def test_http_without_tls_is_not_served(host: Credentials) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientError):
                await http.post(f"http://127.0.0.1:{port}/jsonrpc", data=b"x")

    serve(host, scenario)


def test_who_does_not_finish_the_handshake_is_cut_off_and_keeps_nobody_out(
    host: Credentials, issue: Callable[..., Credentials]
) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
        async with session(issue("admin"), host) as http, http.post(url(port), data=b"x") as reply:
            assert reply.status == 200
        for one in idle:
            one.setblocking(False)
            assert await _ended(one)

    serve(host, scenario, handshake_timeout_s=5.0)


async def _ended(connection: socket.socket) -> bool:
    try:
        return await asyncio.get_running_loop().sock_recv(connection, 1) == b""
    except ConnectionError:
        return True
    finally:
        connection.close()


def test_a_body_that_is_too_large_is_answered_413(
    host: Credentials, issue: Callable[..., Credentials]
) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        async with session(issue("admin"), host) as http:
            async with http.post(url(port), data=b"x" * 2048) as reply:
                assert reply.status == 413
                assert set(await reply.json()) == {"error"}
            async with http.post(url(port), data=b"x") as reply:
                assert reply.status == 200

    serve(host, scenario, max_body_bytes=1024)


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
@pytest.mark.parametrize(
    "rubbish",
    [
        b"RUBBISH\r\n\r\n",
        b"GET / HTTP/1.1\r\na b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: " + b"b" * 20000 + b"\r\n\r\n",
        b"POST /jsonrpc HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /jsonrpc HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["no request", "no header", "long", "length", "chunk", "zeros"],
)
def test_what_is_no_http_is_answered_400_and_fills_no_log(
    host: Credentials,
    issue: Callable[..., Credentials],
    caplog: pytest.LogCaptureFixture,
    before: bytes,
    rubbish: bytes,
) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        tls = client_tls(issue("monitor"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        if before:
            writer.write(before)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")
        writer.write(rubbish)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert b" 400 " in head.splitlines()[0]
        assert set(json.loads(body)) == {"error"}
        writer.close()

    with caplog.at_level("INFO"):
        serve(host, scenario)
    assert caplog.text == ""


def test_a_connection_too_many_is_answered_503(
    host: Credentials, issue: Callable[..., Credentials]
) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        admin = issue("admin")
        async with session(admin, host) as one, session(admin, host) as other:
            async with one.get(url(port, "/healthz")) as reply:
                assert reply.status == 200
            async with other.get(url(port, "/healthz")) as reply:
                assert reply.status == 503
            async with one.get(url(port, "/healthz")) as reply:
                assert reply.status == 200

    serve(host, scenario, max_connections=1)


def test_a_request_that_does_not_come_is_answered_408(
    host: Credentials, issue: Callable[..., Credentials]
) -> None:
    async def scenario(_site: HttpSite, port: int) -> None:
        tls = client_tls(issue("admin"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()

    serve(host, scenario, request_timeout_s=0.3)


def test_a_renewed_certificate_counts_from_the_next_connection_on(
    authority: Authority, issue: Callable[..., Credentials], tmp_path: Path
) -> None:
    host = authority.issue(tmp_path, "host.lab")

    async def scenario(_site: HttpSite, port: int) -> None:
        async def serial() -> str:
            context = client_tls(issue("admin"))
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            found = writer.get_extra_info("ssl_object").getpeercert()
            writer.close()
            return str(found["serialNumber"])

        before = await serial()
        authority.issue(tmp_path, "host.lab")
        assert await serial() != before

    serve(host, scenario)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_is_served(host: Credentials, issue: Callable[..., Credentials]) -> None:
    monitor = issue("monitor")

    async def scenario(_site: HttpSite, port: int) -> None:
        argv = ["curl", "-sS", "--cacert", str(monitor.ca), "--cert", str(monitor.certificate)]
        argv += ["--key", str(monitor.key), f"https://localhost:{port}/healthz"]
        done = await asyncio.to_thread(subprocess.run, argv, capture_output=True, check=True)
        assert json.loads(done.stdout) == {"status": "well"}

    serve(host, scenario)
