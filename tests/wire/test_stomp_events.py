"""Events to engines: relayed by what the daemon keeps, by level, and in the words they have always known."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from tests.wire.serving import CONTRACT, Served, serving
from virtceph.events import DaemonStopping, SecretsRegistered, VMStatus
from virtceph.host.events import Events
from virtceph.rpc.feed import Feed
from virtceph.rpc.relay import Relay

VM = UUID(int=1)


class Relayed:
    """A server, and events that are relayed to whoever is subscribed there."""

    def __init__(self, served: Served, kept: int) -> None:
        self.served = served
        self.events = Events(CONTRACT, kept)
        self.feed = Feed(self.events)
        self._relay = Relay(CONTRACT, self.feed, served.server.publish_event)
        self._task: asyncio.Task[None] | None = None

        async def start() -> None:
            self.feed.start()
            self._task = asyncio.create_task(self._relay.run())
            await asyncio.sleep(0)

        served.run(start())

    def stop(self) -> None:
        async def stop() -> None:
            self.feed.close()
            assert self._task is not None
            await self._task

        self.served.run(stop())


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    with serving() as served:
        made = Relayed(served, kept=1000)
        yield made
        made.stop()


class Listener:
    """A raw client that is subscribed to events."""

    def __init__(self, port: int) -> None:
        import socket

        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(
            b"CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0"
            b"SUBSCRIBE\ndestination:jms.queue.events\nid:e\n\n\0"
        )
        self._rest = b""
        assert self.frame().startswith(b"CONNECTED")

    def frame(self) -> bytes:
        while b"\0" not in self._rest:
            data = self._socket.recv(65536)
            assert data, "closed"
            self._rest += data
        frame, _, self._rest = self._rest.partition(b"\0")
        return frame.lstrip(b"\n")

    def event(self) -> tuple[str, dict[str, Any]]:
        told = json.loads(self.frame().partition(b"\n\n")[2])
        assert told["jsonrpc"] == "2.0"
        assert "id" not in told
        return told["method"], told["params"]

    def close(self) -> None:
        self._socket.close()


def subscribed(relayed: Relayed) -> Listener:
    listener = Listener(relayed.served.port)
    # The subscription is served in its order, before anything that is published from here on.
    while not relayed.served.call(lambda: relayed.served.server.topics.of("jms.queue.events")):
        pass
    return listener


def test_an_event_is_told_in_our_words_and_in_those_of_engines(relayed: Relayed) -> None:
    listener = subscribed(relayed)
    relayed.events.tell(VMStatus(VM, "Down", 0, "it was shut down"))
    method, params = listener.event()
    assert method == f"|virtceph|vm_status|{VM}"
    assert params.pop("notify_time") > 2147483647
    assert params == {
        "vmId": str(VM),
        "status": "Down",
        "exitCode": 0,
        "exitMessage": "it was shut down",
    }
    method, params = listener.event()
    assert method == f"|virt|VM_status|{VM}"
    inner = params[str(VM)]
    assert inner == {"status": "Down", "exitCode": 0, "exitMessage": "it was shut down"}
    assert isinstance(params["notify_time"], int)
    listener.close()


def test_events_come_in_their_order(relayed: Relayed) -> None:
    listener = subscribed(relayed)
    for number in range(300):
        relayed.events.tell(SecretsRegistered([UUID(int=number)]))
    seen = [UUID(listener.event()[1]["uuids"][0]).int for _ in range(300)]
    assert seen == list(range(300))
    listener.close()


def test_an_event_is_told_to_whoever_has_its_level() -> None:
    with serving(admins=(), monitors=("plain:*",)) as served:
        relayed = Relayed(served, kept=100)
        listener = subscribed(relayed)
        relayed.events.tell(SecretsRegistered([VM]))
        relayed.events.tell(DaemonStopping())
        assert listener.event()[0] == "|virtceph|daemon_stopping|no_id"
        listener.close()
        relayed.stop()


def test_what_is_told_before_the_daemon_stops_is_relayed(relayed: Relayed) -> None:
    listener = subscribed(relayed)
    relayed.events.tell(DaemonStopping())
    relayed.stop()
    assert listener.event()[0] == "|virtceph|daemon_stopping|no_id"
    listener.close()


def test_engines_are_told_when_the_daemon_itself_could_not_keep_up() -> None:
    with serving() as served:
        relayed = Relayed(served, kept=16)
        listener = subscribed(relayed)

        def storm() -> None:
            # On the loop itself, so that nothing is relayed meanwhile.
            for _ in range(100):
                relayed.events.tell(DaemonStopping())

        served.call(storm)
        method, params = listener.event()
        assert method == "|virtceph|events_lost|no_id"
        assert (params["cause"], params["count"]) == ("behind", 84)
        assert [listener.event()[0] for _ in range(16)] == ["|virtceph|daemon_stopping|no_id"] * 16
        listener.close()
        relayed.stop()
