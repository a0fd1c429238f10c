"""Promise 6, over a long time: engines that come, ask, break off and come again leave nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import uvloop

from bench.process import memory_mib
from tests.faults.lone import LoneDaemons
from tests.lab.pki import LabPki
from tests.lab.state import free_port
from tests.wire.clients import PythonLike
from tests.wire.frames import frame, take
from tests.wire.serving import client_tls

CONNECTIONS, REQUESTS = 200, 200_000
# Enough that every pool, cache and allocator has grown to what it is under this load.
WARM_UP = 160_000
GROWTH = 0.05
AT_ONCE = (1, 4, 16)
LIFE = (1, 20)
QUEUE = "jms.topic.vdsm_requests"


@dataclass
class Load:
    """Connections that ask until so many requests are answered."""

    address: tuple[str, int]
    tls: ssl.SSLContext
    left: int
    chance: random.Random
    answered: int = 0
    connections: int = 0
    broken: list[str] = field(default_factory=list)

    async def run(self) -> None:
        await asyncio.gather(*(self._client() for _ in range(CONNECTIONS)))

    async def _client(self) -> None:
        while self.left > 0 and not self.broken:
            try:
                await self._connection()
            except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError) as error:
                # Only this side breaks off.
                self.broken.append(repr(error))

    async def _connection(self) -> None:
        reader, writer = await asyncio.open_connection(*self.address, ssl=self.tls)
        self.connections += 1
        host = ["host:engine"] if self.chance.random() < 0.3 else []
        writer.write(
            frame("CONNECT", "accept-version:1.2", "heart-beat:0,24000", *host)
            + frame("SUBSCRIBE", "destination:q", "id:s")
        )
        rest = b""
        for _ in range(self.chance.randint(*LIFE)):
            if self.left <= 0:
                break
            idents = self._ask(writer)
            waiting = set(idents)
            while waiting:
                data = await asyncio.wait_for(reader.read(65536), 60)
                if not data:
                    raise ConnectionError("closed by the daemon")
                rest = self._answered(rest + data, waiting)
            self.answered += len(idents)
        await self._break_off(writer)

    def _ask(self, writer: asyncio.StreamWriter) -> list[str]:
        count = min(self.chance.choice(AT_ONCE), self.left)
        self.left -= count
        idents = [f"{self.chance.getrandbits(64):x}" for _ in range(count)]
        for ident in idents:
            method, params = self.chance.choice(
                [
                    *[("Host.ping2", {})] * 6,
                    ("Host.echo", {"message": ident * 20}),
                    ("Host.getJobs", {}),
                    ("Host.nosuch", {}),
                    ("Host.echo", {}),
                ]
            )
            body = {"jsonrpc": "2.0", "method": method, "params": params, "id": ident}
            text = json.dumps(body)
            writer.write(frame("SEND", f"destination:{QUEUE}", "reply-to:q", body=text))
        return idents

    def _answered(self, data: bytes, waiting: set[str]) -> bytes:
        while True:
            got, data = take(data)
            if got is None:
                return data
            if got.command == "CONNECTED":
                continue
            body = json.loads(got.body)
            for reply in body if isinstance(body, list) else [body]:
                assert reply["id"] in waiting, f"a reply that nobody asked for: {reply}"
                waiting.discard(reply["id"])
                if "result" in reply and isinstance(reply["result"], str):
                    assert reply["result"] == reply["id"] * 20

    async def _break_off(self, writer: asyncio.StreamWriter) -> None:
        """As clients end: in order, or in the middle of anything."""
        manner = self.chance.randrange(4)
        if manner == 0:
            writer.write(frame("DISCONNECT"))
        elif manner == 1:
            # With requests under way, and a frame half sent.
            for ident in range(8):
                body = json.dumps({"jsonrpc": "2.0", "method": "Host.getVMList", "id": ident})
                writer.write(frame("SEND", f"destination:{QUEUE}", "reply-to:q", body=body))
            writer.write(b"SEND\ndestination:x\ncontent-length:5000\n\nabc")
        elif manner == 2:
            writer.write(b"RUBBISH\n\n\0")
        if manner != 3:
            await asyncio.sleep(0)
        writer.transport.abort()


def until(true: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.1)


def test_two_hundred_thousand_requests_of_clients_that_break_off_leave_nothing(
    lone: LoneDaemons, pki: LabPki
) -> None:
    # A daemon of its own: what others did with a shared one before would be in the balance.
    stomp = "127.0.0.1", free_port()
    daemon = lone.start(overrides=pki.settings(stomp[1], https_port=free_port()))
    tls, chance = client_tls(pki.of("engine.lab")), random.Random(0)

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{daemon.pid}/fd"))

    def load(requests: int) -> Load:
        made = Load(stomp, tls, requests, chance)
        uvloop.run(made.run())
        assert made.broken == []
        assert made.answered == requests
        return made

    before = descriptors()
    load(WARM_UP)
    until(lambda: descriptors() <= before + 2, "descriptors of the first connections")
    resident_mib = memory_mib(daemon.pid)[0]
    loaded = load(REQUESTS)
    assert loaded.connections > 5 * CONNECTIONS
    until(lambda: descriptors() <= before + 2, "descriptors")
    after_mib = memory_mib(daemon.pid)[0]
    print(f"resident {resident_mib:.1f}, {after_mib:.1f} MiB; {loaded.connections} connections")
    assert after_mib < resident_mib * (1 + GROWTH), (resident_mib, after_mib)
    # And it serves on as before.
    client = PythonLike(stomp, tls)
    assert client.call("Host.ping2") is True
    client.close()
