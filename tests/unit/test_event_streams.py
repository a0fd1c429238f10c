"""`GET /events` over a real socket: replay, filters, levels, and readers that are slow, stuck or gone."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.http_site import HttpSite
from virtceph.events import DaemonStopping, SecretsRegistered, VMFoundFrozen
from virtceph.rpc.access import Peer
from virtceph.rpc.callers import Caller
from virtceph.rpc.unixsocket import open_socket

VM = UUID(int=1)


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="vc-"))
    yield made
    shutil.rmtree(made)


class Access:
    def __init__(self, level: str) -> None:
        self.level = level

    def of_peer(self, _peer: Peer) -> Caller:
        return Caller("unix:someone", self.level)


class Reader:
    """One connection that asked for events, read as the bytes come."""

    def __init__(self, path: Path, asked: str, headers: str = "") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setblocking(False)
        self.socket.connect(str(path))
        # HTTP/1.0, whose answers are not in chunks.
        self._request = f"GET /events{asked} HTTP/1.0\r\n{headers}\r\n".encode()
        self._rest = b""
        self.head = b""

    async def begin(self) -> Reader:
        await asyncio.get_running_loop().sock_sendall(self.socket, self._request)
        while b"\r\n\r\n" not in self._rest:
            if not await self._more():
                break
        self.head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        return self

    async def _more(self) -> bool:
        data = await asyncio.get_running_loop().sock_recv(self.socket, 65536)
        self._rest += data
        return bool(data)

    async def block(self) -> dict[str, str] | None:
        """The next one, as lines of name and value; None at the end."""
        while b"\n\n" not in self._rest:
            if not await self._more():
                return None
        text, _, self._rest = self._rest.partition(b"\n\n")
        return dict(line.split(": ", 1) for line in text.decode().split("\n") if ": " in line)

    async def event(self) -> dict[str, Any] | None:
        """The next event, past whatever else is said."""
        while (block := await self.block()) is not None:
            if "data" in block:
                told = json.loads(block["data"])
                assert (block["id"], block["event"]) == (told["cursor"], told["event"])
                return dict(told)
        return None

    async def events(self, count: int) -> list[dict[str, Any]]:
        found = [await self.event() for _ in range(count)]
        return [event for event in found if event is not None]


Scenario = Callable[[HttpSite, Path], Awaitable[None]]


def serve(
    folder: Path, scenario: Scenario, *, level: str = "admin", kept: int = 1000, **streams: Any
) -> None:
    async def run() -> None:
        path = folder / "s"
        site = HttpSite(None, Access(level), streams=streams, kept=kept)
        await site.start([open_socket(path, "no-such-group")])
        async with asyncio.timeout(20):
            await scenario(site, path)
            await site.close()

    asyncio.run(run())


def tell(site: HttpSite, *names: int) -> None:
    for number in names:
        site.events.tell(VMFoundFrozen(UUID(int=number), False))


def vms(events: list[dict[str, Any]]) -> list[int]:
    return [UUID(event["params"]["vmId"]).int for event in events if "vmId" in event["params"]]


def test_a_stream_tells_what_happens_from_now_on(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        tell(site, 1)
        reader = await Reader(path, "").begin()
        assert b" 200 OK" in reader.head
        assert b"Content-Type: text/event-stream" in reader.head
        first = await reader.block()
        assert first == {"retry": "1000", "id": site.events.cursor(1)}
        tell(site, 2, 3)
        assert vms(await reader.events(2)) == [2, 3]

    serve(folder, scenario)


@pytest.mark.parametrize("by_header", [False, True])
def test_a_reader_that_comes_back_hears_what_it_missed(folder: Path, by_header: bool) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        tell(site, 1, 2, 3)
        cursor = site.events.cursor(1)
        # A reader that reconnects by itself still has the query it began with; its header knows better.
        asked = (
            ("?since=0", f"Last-Event-ID: {cursor}\r\n") if by_header else (f"?since={cursor}", "")
        )
        reader = await Reader(path, *asked).begin()
        tell(site, 4)
        assert vms(await reader.events(3)) == [2, 3, 4]

    serve(folder, scenario)


def test_what_is_kept_can_be_had_without_waiting_for_more(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        tell(site, 1, 2)
        reader = await Reader(path, "?since=0&follow=false").begin()
        assert vms(await reader.events(2)) == [1, 2]
        assert await reader.block() is None

    serve(folder, scenario)


@pytest.mark.parametrize("cursor", ["1-1", "99999999999999-3"])
def test_a_cursor_of_another_run_is_answered_by_a_loss_first(folder: Path, cursor: str) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        tell(site, 1, 2)
        reader = await Reader(path, f"?since={cursor}").begin()
        lost, *rest = await reader.events(3)
        assert (lost["event"], lost["params"]) == ("events_lost", {"cause": "restart"})
        assert vms(rest) == [1, 2]

    serve(folder, scenario)


def test_a_cursor_older_than_what_is_kept_is_told_how_much_it_lost(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        tell(site, *range(1, 31))
        reader = await Reader(path, f"?since={site.events.cursor(4)}").begin()
        lost, *rest = await reader.events(17)
        assert lost["params"] == {"cause": "forgotten", "count": 10}
        assert vms(rest) == list(range(15, 31))
        # And who stops behind the loss goes on from there.
        again = await Reader(path, f"?since={lost['cursor']}").begin()
        assert vms(await again.events(16)) == list(range(15, 31))

    serve(folder, scenario, kept=16)


def test_only_the_types_that_are_asked_for_are_told_and_losses(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        asked = "?since=1-1&types=vm_found_frozen,daemon_started"
        site.events.tell(DaemonStopping())
        tell(site, 1)
        reader = await Reader(path, asked).begin()
        names = [event["event"] for event in await reader.events(2)]
        assert names == ["events_lost", "vm_found_frozen"]

    serve(folder, scenario)


@pytest.mark.parametrize(("level", "hears"), [("monitor", False), ("operator", True)])
def test_an_event_is_told_to_whoever_has_its_level(folder: Path, level: str, hears: bool) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        reader = await Reader(path, "").begin()
        site.events.tell(SecretsRegistered([VM]))
        tell(site, 1)
        names = [event["event"] for event in await reader.events(2 if hears else 1)]
        assert ("secrets_registered" in names) is hears
        assert names[-1] == "vm_found_frozen"

    serve(folder, scenario, level=level)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("?since=x", "since: expected a cursor"),
        ("?types=vm_frozen,nonsense", "types: there is no event 'nonsense'"),
        ("?types=", "types: there is no event ''"),
        ("?follow=maybe", "follow: expected true or false"),
        ("?sinse=0", "sinse: expected one of since, types, follow"),
    ],
)
def test_bad_input_is_refused_and_the_field_is_named(folder: Path, asked: str, told: str) -> None:
    async def scenario(_site: HttpSite, path: Path) -> None:
        reader = await Reader(path, asked).begin()
        assert b" 400 " in reader.head
        assert told.encode() in reader._rest

    serve(folder, scenario)


def test_a_stream_on_which_nothing_happens_says_that_it_is_alive_and_where_it_is(
    folder: Path,
) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        reader = await Reader(path, "?types=daemon_stopping").begin()
        await reader.block()
        tell(site, 1, 2, 3)  # not what is asked for
        blocks = [await reader.block() for _ in range(2)]
        # With it a reader that reconnects is not told of a loss of what it never wanted.
        assert blocks[-1] == {"id": site.events.cursor(3)}

    serve(folder, scenario, keepalive_s=0.1)


def test_a_stream_that_hears_of_nothing_else_that_happens_says_that_it_is_alive(
    folder: Path,
) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        async def tell_others() -> None:
            number = 0
            while True:
                tell(site, number := number + 1)
                await asyncio.sleep(0.1)

        reader = await Reader(path, "?types=daemon_stopping").begin()
        await reader.block()
        others = asyncio.create_task(tell_others())
        began_s = time.monotonic()
        blocks = [await reader.block() for _ in range(4)]
        others.cancel()
        # Once for each time that has passed, not for each thing that happened.
        assert 0.75 < time.monotonic() - began_s < 2.0
        places = [int(block["id"].rpartition("-")[2]) for block in blocks if block]
        assert places == sorted(set(places))
        assert places[-1] > 5

    serve(folder, scenario, keepalive_s=0.2)


def test_a_slow_reader_is_told_what_it_lost_and_goes_on(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        reader = await Reader(path, "").begin()
        await reader.block()
        large = SecretsRegistered([UUID(int=n) for n in range(200)])  # 8 kB
        for _ in range(300):
            site.events.tell(large)
            await asyncio.sleep(0)  # as the loop goes on meanwhile
        tell(site, 7)
        heard, numbers = [], []
        while not heard or heard[-1]["event"] != "vm_found_frozen":
            event = await reader.event()
            assert event is not None, "the slow reader was disconnected"
            heard.append(event)
            numbers.append(int(event["cursor"].partition("-")[2]))
        losses = [event for event in heard if event["event"] == "events_lost"]
        assert losses
        assert {event["params"]["cause"] for event in losses} == {"behind"}
        told = len(heard) - len(losses)
        # Every event was told or is accounted for, in order.
        assert told + sum(event["params"]["count"] for event in losses) == 301
        assert numbers == sorted(numbers)

    serve(folder, scenario, kept=16)


def test_a_reader_that_takes_nothing_is_cut_off_and_holds_no_memory(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        reader = await Reader(path, "").begin()
        large = SecretsRegistered([UUID(int=n) for n in range(200)])
        while site.streams.open:
            site.events.tell(large)
            held = [t.get_write_buffer_size() for t in transports(site)]
            assert sum(held) < 1 << 20
            await asyncio.sleep(0.002)
        reader.socket.close()

    serve(folder, scenario, stuck_timeout_s=0.3)


def transports(site: HttpSite) -> list[asyncio.Transport]:
    served = site.server._places["unix"]._served
    found = [connection._transport for connection in served.values()]
    return [transport for transport in found if transport is not None]


def test_a_reader_that_goes_away_is_forgotten_at_once(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        reader = await Reader(path, "").begin()
        assert site.streams.open == 1
        reader.socket.close()
        while site.streams.open:  # the time-out of all is the bound
            await asyncio.sleep(0.01)

    serve(folder, scenario, keepalive_s=3600.0)


def test_one_stream_too_many_is_refused(folder: Path) -> None:
    async def scenario(_site: HttpSite, path: Path) -> None:
        first = await Reader(path, "").begin()
        second = await Reader(path, "").begin()
        assert b" 200 " in first.head
        assert b" 503 " in second.head

    serve(folder, scenario, max_streams=1)


def test_when_the_daemon_stops_its_streams_hear_so_and_end(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        reader = await Reader(path, "").begin()
        site.events.tell(DaemonStopping())
        await site.close()
        assert [event["event"] for event in await reader.events(1)] == ["daemon_stopping"]
        assert await reader.block() is None

    serve(folder, scenario)


def test_events_told_by_other_threads_reach_readers(folder: Path) -> None:
    async def scenario(site: HttpSite, path: Path) -> None:
        reader = await Reader(path, "").begin()
        loop = asyncio.get_running_loop()
        await asyncio.gather(
            *(loop.run_in_executor(None, tell, site, *range(n, n + 50)) for n in (0, 100, 200))
        )
        assert sorted(vms(await reader.events(150))) == [
            *range(50),
            *range(100, 150),
            *range(200, 250),
        ]

    serve(folder, scenario)
