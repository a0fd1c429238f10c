"""Each limit ends in an error, and never in memory that grows or in others that wait."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.wire.frames import Got, frame, take
from tests.wire.player import (
    REQUESTS,
    Alive,
    Closed,
    Error,
    Send,
    Target,
    Transcript,
    play,
)
from tests.wire.serving import ADDRESS, Served, serving
from tests.wire.table_frames import SUBSCRIBED, ping

SMALL: dict[str, Any] = {
    "max_frame_bytes": 4096,
    "max_header_bytes": 2048,
    "max_headers": 10,
    "max_subscriptions": 3,
}
LATE_S = 10.0

LIMITS = [
    Transcript("a frame that says that it is too long is refused before it comes",
               (Send(frame("SEND", "destination:@", "content-length:4096")[:-1]),
                Closed(error="Malformed frame: a frame of more than 4096 bytes"))),
    Transcript("a frame that turns out too long is refused",
               (Send(b"SEND\ndestination:@\n\n" + b"x" * 5000),
                Closed(error="Malformed frame: a frame of more than 4096 bytes"))),
    Transcript("headers that do not end are refused",
               (Send(b"SEND\n" + b"a:b\n" * 600),
                Closed(error="Malformed frame: headers of more than 2048 bytes"))),
    Transcript("one header that does not end is refused",
               (Send(b"SEND\na:" + b"b" * 3000),
                Closed(error="Malformed frame: headers of more than 2048 bytes"))),
    Transcript("headers that are too long are refused",
               (Send(b"SEND\na:" + b"b" * 2100 + b"\n\n\0"),
                Closed(error="Malformed frame: headers of more than 2048 bytes"))),
    Transcript("too many headers are refused",
               (Send(frame("SEND", *(f"h{n}:x" for n in range(11)))),
                Closed(error="Malformed frame: more than 10 headers"))),
    Transcript("a further subscription is refused, and the connection stays",
               (*(Send(frame("SUBSCRIBE", f"destination:@{n}", f"id:{n}")) for n in range(3)),
                Send(frame("SUBSCRIBE", "destination:@x", "id:x")),
                Error("More than 3 subscriptions"), Send(frame("UNSUBSCRIBE", "id:0")), Alive())),
    Transcript("a destination with whose name no client could read replies is refused",
               (Send(frame("SUBSCRIBE", "destination:" + "d" * 950, "id:x")),
                Error("Destination and subscription id are too long"), Alive())),
    Transcript("headers with which no client could read a forwarded message are refused",
               (SUBSCRIBED, Send(frame("SEND", "destination:@", "x:" + "y" * 900, body="hi")),
                Error("Headers are too long"), Alive())),
    Transcript("a whole frame of just the limit is taken",
               (SUBSCRIBED, Send(b"SEND\ndestination:@x\n\n" + b"x" * (4096 - 32 - 2)),)),
]  # fmt: skip


@pytest.fixture(scope="module")
def small() -> Iterator[Served]:
    with serving(**SMALL) as served:
        yield served


@pytest.mark.parametrize("transcript", LIMITS, ids=lambda transcript: transcript.says)
def test_a_limit(transcript: Transcript, small: Served) -> None:
    assert asyncio.run(play(transcript, Target(ADDRESS, small.port))) is None


class Raw:
    """A blocking connection."""

    def __init__(self, served: Served) -> None:
        self.socket = socket.create_connection((ADDRESS, served.port), LATE_S)
        self._rest = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def frame(self) -> Got:
        while True:
            got, self._rest = take(self._rest)
            if got is not None:
                return got
            data = self.socket.recv(65536)
            assert data, "closed"
            self._rest += data

    def reply(self) -> Any:
        return json.loads(self.frame().body)

    def subscribe(self, destination: str = "q", ident: str = "s") -> None:
        self.send(frame("SUBSCRIBE", f"destination:{destination}", f"id:{ident}"))

    def ask(self, method: str, ident: Any, **params: Any) -> None:
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": params, "id": ident})
        self.send(frame("SEND", f"destination:{REQUESTS}", "reply-to:q", body=body))

    def closed(self, within_s: float = LATE_S) -> bool:
        self.socket.settimeout(within_s)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def raw() -> Iterator[Callable[[Served], Raw]]:
    opened: list[Raw] = []

    def connect(served: Served) -> Raw:
        opened.append(Raw(served))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def wait_until(true: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + LATE_S
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"


class Gate:
    """A verb that waits until it is let go."""

    def __init__(self) -> None:
        self.open, self.waiting = threading.Event(), 0

    def __call__(self, **_all: Any) -> Any:
        self.waiting += 1
        assert self.open.wait(LATE_S)
        return []


def test_requests_beyond_those_in_flight_are_answered_1100_and_others_go_on(
    raw: Callable[[Served], Raw],
) -> None:
    gate = Gate()
    functions = {"Host.getVMList": gate, "VM.thaw": lambda **_all: None}
    with serving(functions=functions, max_in_flight=2) as served:
        client, other = raw(served), raw(served)
        for one in (client, other):
            one.subscribe()
        for ident in (1, 2):
            client.ask("Host.getVMList", ident)
        wait_until(lambda: gate.waiting == 2)
        client.ask("Host.getVMList", 3)
        assert (refused := client.reply())["id"] == 3
        assert refused["error"]["code"] == 1100
        # What never waits, what ends a freeze, and what others ask.
        client.ask("Host.ping2", 4)
        assert client.reply()["id"] == 4
        client.ask("VM.thaw", 5, vmID=VM)
        assert client.reply()["id"] == 5
        other.ask("Host.getVMList", 6)
        wait_until(lambda: gate.waiting == 3)
        gate.open.set()
        assert {client.reply()["id"], client.reply()["id"]} == {1, 2}
        assert other.reply()["id"] == 6
        # They count no longer.
        client.ask("Host.getVMList", 7)
        assert client.reply() == {"jsonrpc": "2.0", "id": 7, "result": []}


def test_all_connections_together_have_so_many_in_flight(raw: Callable[[Served], Raw]) -> None:
    gate = Gate()
    with serving(functions={"Host.getVMList": gate}, max_in_flight_total=2) as served:
        clients = [raw(served) for _ in range(3)]
        for number, one in enumerate(clients):
            one.subscribe()
            one.ask("Host.getVMList", number)
            wait_until(lambda number=number: gate.waiting >= min(number + 1, 2))
        assert clients[2].reply()["error"]["code"] == 1100
        gate.open.set()


def test_what_a_connection_leaves_behind_counts_no_longer_when_it_is_done(
    raw: Callable[[Served], Raw],
) -> None:
    gate = Gate()
    with serving(functions={"Host.getVMList": gate}, max_in_flight_total=1) as served:
        gone, other = raw(served), raw(served)
        gone.ask("Host.getVMList", 1)
        wait_until(lambda: gate.waiting == 1)
        gone.close()
        gate.open.set()
        wait_until(lambda: served.server.quota.taken == 0)
        other.subscribe()
        other.ask("Host.getVMList", 2)
        assert other.reply()["result"] == []


def test_a_connection_too_many_is_told_so_and_closed(raw: Callable[[Served], Raw]) -> None:
    with serving(max_connections=2) as served:
        first, _second = raw(served), raw(served)
        wait_until(lambda: len(served.server.connections) == 2)
        third = raw(served)
        assert third.frame().body == b"Too many connections"
        assert third.closed()
        third.close()
        first.close()
        wait_until(lambda: len(served.server.connections) == 1)
        again = raw(served)
        again.subscribe()
        again.ask("Host.ping2", 1)
        assert again.reply()["result"] is True


def test_a_client_that_does_not_read_is_closed_and_holds_up_nobody(
    raw: Callable[[Served], Raw],
) -> None:
    queued = 64 * 1024
    with serving(max_queued_bytes=queued) as served:
        slow, quick = raw(served), raw(served)
        slow.subscribe("jms.queue.events")
        quick.subscribe()
        quick.ask("Host.ping2", 0)
        quick.reply()
        wait_until(lambda: bool(served.server.topics.of("jms.queue.events")))
        params = {"text": "x" * 10_000}
        events = 0
        while served.server.topics.of("jms.queue.events"):
            served.call(lambda: served.server.publish_event("|a|b|c", params))
            events += 1
            # What the kernel holds is bounded, too; a few megabytes on loopback.
            assert events < 3000
            quick.ask("Host.ping2", events)
            assert quick.reply()["id"] == events
        assert slow.closed()
        wait_until(lambda: len(served.server.connections) == 1)


def test_one_answer_may_be_larger_than_what_may_wait(raw: Callable[[Served], Raw]) -> None:
    long = "x" * 300_000
    with serving(max_queued_bytes=64 * 1024) as served:
        client = raw(served)
        client.subscribe()
        client.ask("Host.echo", 1, message=long)
        assert client.reply()["result"] == long


def test_requests_of_who_does_not_read_wait_and_all_are_answered_when_he_does(
    raw: Callable[[Served], Raw],
) -> None:
    """Back-pressure: nothing is lost, and no more is held than may wait."""
    long, count = "x" * 20_000, 400
    body = {"jsonrpc": "2.0", "method": "Host.echo", "params": {"message": long}}
    with serving(max_queued_bytes=256 * 1024) as served:
        client = raw(served)
        client.subscribe()

        def send() -> None:
            for ident in range(count):
                text = json.dumps({**body, "id": ident})
                client.send(frame("SEND", f"destination:{REQUESTS}", "reply-to:q", body=text))

        sending = threading.Thread(target=send)
        sending.start()
        time.sleep(0.5)  # long enough that nothing more goes in
        assert len(served.told) < count
        assert [client.reply()["id"] for _ in range(count)] == list(range(count))
        sending.join(LATE_S)


def test_who_sends_no_first_frame_is_told_so_and_closed(raw: Callable[[Served], Raw]) -> None:
    with serving(handshake_timeout_s=0.3) as served:
        silent = raw(served)
        assert b"no frame within 0.3 s" in silent.frame().body
        assert silent.closed()


def test_who_agreed_on_no_heartbeats_and_asks_nothing_is_told_so_and_closed(
    raw: Callable[[Served], Raw],
) -> None:
    with serving(idle_timeout_s=0.4) as served:
        idle, beating = raw(served), raw(served)
        idle.subscribe()
        beating.send(frame("CONNECT", "accept-version:1.2", "heart-beat:0,24000"))
        assert beating.frame().command == "CONNECTED"
        assert b"idle for 0.4 s" in idle.frame().body
        assert idle.closed()
        beating.send(ping())
        assert not beating.closed(0.5)


def test_who_begins_a_frame_and_does_not_end_it_is_told_so_and_closed(
    raw: Callable[[Served], Raw],
) -> None:
    with serving(idle_timeout_s=0.3) as served:
        client = raw(served)
        client.send(frame("CONNECT", "accept-version:1.2", "heart-beat:0,24000"))
        assert client.frame().command == "CONNECTED"
        client.send(b"SEND\ndestination:x\ncontent-length:1000\n\n")
        assert b"no end of a frame" in client.frame().body
        assert client.closed()


def test_a_batch_of_more_than_a_thousand_is_refused(raw: Callable[[Served], Raw]) -> None:
    with serving() as served:
        client = raw(served)
        client.subscribe("jms.topic.vdsm_responses")
        body = "[" + ",".join(['{"jsonrpc":"2.0","method":"Host.ping2"}'] * 1001) + "]"
        client.send(frame("SEND", f"destination:{REQUESTS}", body=body))
        assert client.reply()["error"]["code"] == -32600
        assert served.told == []


@pytest.mark.parametrize("manner", ["closed", "disconnected", "refused"])
def test_a_connection_that_ends_gives_its_memory_back_at_once(manner: str) -> None:
    last = {"closed": b"", "disconnected": frame("DISCONNECT"), "refused": b"RUBBISH\n"}[manner]
    gc.collect()
    # Python's collector looks seldom: what waits for it is as good as kept.
    gc.disable()
    try:
        with serving() as served:
            with socket.create_connection((ADDRESS, served.port), LATE_S) as connection:
                asking = frame("SUBSCRIBE", "destination:q", "id:s") + ping().replace(b"@", b"q")
                connection.sendall(frame("CONNECT", "accept-version:1.2", "host:x") + asking)
                while b"result" not in connection.recv(4096):
                    pass
                (known,) = served.call(lambda: [weakref.ref(c) for c in served.server.connections])
                connection.sendall(last)
            wait_until(lambda: known() is None)
    finally:
        gc.enable()
