"""The sending side of a connection: heart-beats on time, pace for who needs it, bounds for all."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.fakes.fake_loop import FakeClock, FakeTransport
from tests.wire.frames import take
from virtceph.rpc import stomp
from virtceph.rpc.sender import Sender

HEAD = stomp.head("MESSAGE", [("destination", "q"), ("subscription", "s")])
OTHER_HEAD = stomp.head("MESSAGE", [("destination", "q"), ("subscription", "t")])
CONNECTED = b"CONNECTED\nversion:1.2\n\n\0"
BOUND = 100_000


class Bench:
    """A sender on a clock and a transport of the test's, and what it told."""

    def __init__(self, *, paced: bool = False) -> None:
        self.clock = FakeClock()
        self.transport = FakeTransport(self.clock)
        self.told: list[str] = []
        self.sender = Sender(
            self.transport,
            self.clock,
            BOUND,
            on_full=lambda: self.told.append("full"),
            on_room=lambda: self.told.append("room"),
            on_overflow=lambda: self.told.append("overflow"),
        )
        self.sender.paced = paced

    def reply(self, number: int, head: bytes = HEAD) -> None:
        self.sender.reply(head, b'{"id":%d}' % number)

    def bodies(self) -> list[object]:
        """The JSON of each frame that was written, and nothing for an end of a line."""
        found: list[object] = []
        for data in self.transport.taken():
            got, rest = take(data)
            assert rest == b""
            found.append(None if got is None else json.loads(got.body))
        return found

    def beats(self) -> list[float]:
        """When lone ends of lines were written, from the beginning."""
        return [round(when - 1000, 3) for when, data in self.transport.writes if data == b"\n"]


# --- without pace ---


def test_each_frame_is_one_write_and_at_once() -> None:
    bench = Bench()
    bench.reply(1)
    bench.sender.frame(CONNECTED)
    bench.reply(2)
    one, two = (stomp.with_body(HEAD, b'{"id":%d}' % number) for number in (1, 2))
    assert bench.transport.taken() == [one, CONNECTED, two]
    bench.clock.advance(60)
    assert bench.transport.taken() == []


# --- heart-beats ---


def test_a_heartbeat_comes_whenever_nothing_was_sent_for_its_interval() -> None:
    bench = Bench()
    bench.sender.beat_every(5.0)
    bench.clock.advance(5)
    bench.clock.advance(3)
    bench.reply(1)
    bench.clock.advance(10)
    assert bench.beats() == [5, 13, 18]


def test_an_interval_may_change_or_end() -> None:
    bench = Bench()
    bench.sender.beat_every(5.0)
    bench.clock.advance(3)
    bench.sender.beat_every(2.0)
    bench.clock.advance(2)
    assert bench.beats() == [5]
    bench.sender.beat_every(0)
    bench.clock.advance(60)
    assert bench.beats() == [5]
    assert bench.clock.waiting == 0


def test_a_client_that_does_not_read_is_sent_no_heartbeats() -> None:
    bench = Bench()
    bench.sender.beat_every(1.0)
    bench.sender.transport_full()
    bench.clock.advance(10.5)
    bench.sender.transport_has_room()
    assert bench.beats() == []
    bench.clock.advance(1)
    assert bench.beats() == [11]


# --- pace ---


def test_replies_that_are_ready_together_are_one_array() -> None:
    bench = Bench(paced=True)
    for number in range(16):
        bench.reply(number)
    bench.clock.advance(0.001)
    assert bench.bodies() == [[{"id": number} for number in range(16)]]


def test_a_reply_alone_is_an_object() -> None:
    bench = Bench(paced=True)
    bench.reply(1)
    bench.clock.advance(0.001)
    assert bench.bodies() == [{"id": 1}]


def test_only_replies_to_the_same_subscription_are_one_array_and_the_order_stays() -> None:
    bench = Bench(paced=True)
    bench.reply(1)
    bench.reply(2)
    bench.reply(3, OTHER_HEAD)
    bench.sender.frame(stomp.with_body(HEAD, b'{"method":"an event"}'))
    bench.reply(4)
    bench.clock.advance(0.009)
    expected = [[{"id": 1}, {"id": 2}], {"id": 3}, {"method": "an event"}, {"id": 4}]
    assert bench.bodies() == expected


def test_a_batchs_reply_is_an_array_of_its_own() -> None:
    bench = Bench(paced=True)
    bench.reply(1)
    bench.sender.reply(HEAD, b'[{"id":2},{"id":3}]')
    bench.reply(4)
    bench.clock.advance(0.009)
    assert bench.bodies() == [{"id": 1}, [{"id": 2}, {"id": 3}], {"id": 4}]


def test_an_array_is_not_longer_than_it_need_be() -> None:
    bench = Bench(paced=True)
    for _ in range(10):
        bench.sender.reply(HEAD, b'{"x":"%b"}' % (b"x" * 9_000))
    bench.clock.advance(0.009)
    sizes = [len(body) if isinstance(body, list) else 1 for body in bench.bodies()]
    assert sum(sizes) == 10
    assert max(sizes) == 8


def test_frames_keep_a_distance_in_which_each_can_be_handled() -> None:
    bench = Bench(paced=True)
    for number in range(4):
        bench.reply(number, HEAD if number % 2 else OTHER_HEAD)
    bench.clock.advance(0.009)
    times = [when for when, _data in bench.transport.writes]
    assert [round(b - a, 4) for a, b in itertools.pairwise(times)] == [0.002] * 3


def test_behind_the_last_frame_ends_of_lines_follow() -> None:
    bench = Bench(paced=True)
    bench.reply(1)
    bench.clock.advance(60)
    assert bench.beats() == [0.01, 0.03, 0.1]


def test_a_frame_puts_them_off() -> None:
    bench = Bench(paced=True)
    bench.reply(1)
    bench.clock.advance(0.02)
    bench.reply(2)
    bench.clock.advance(60)
    assert bench.beats() == [0.01, 0.03, 0.05, 0.12]


def test_there_are_as_many_of_them_as_there_were_frames() -> None:
    """Each makes the client look at one frame more; all may have come to it together."""
    bench = Bench(paced=True)
    for number in range(8):
        bench.reply(number, HEAD if number % 2 else OTHER_HEAD)
    bench.clock.advance(60)
    assert len(bench.beats()) == 8
    bench.reply(1)
    bench.clock.advance(60)
    assert len(bench.beats()) == 11


def test_none_follows_a_frame_without_content_length() -> None:
    bench = Bench(paced=True)
    bench.reply(1)
    bench.sender.frame(CONNECTED, kicks=False)
    bench.clock.advance(60)
    assert bench.transport.taken()[-1] == CONNECTED
    bench.reply(2)
    bench.clock.advance(60)
    assert bench.bodies()[1:] == [None] * 3


@pytest.mark.parametrize("paced_before", [True, False])
def test_what_follows_a_frame_without_content_length_keeps_clear_of_it(paced_before: bool) -> None:
    bench = Bench(paced=paced_before)
    bench.sender.frame(CONNECTED, kicks=False)
    bench.sender.paced = True
    bench.reply(1)
    bench.clock.advance(0.5)
    first, second = (when for when, _data in bench.transport.writes[:2])
    assert round(second - first, 4) >= 0.02


def test_what_waits_for_its_turn_is_written_when_it_is_flushed() -> None:
    bench = Bench(paced=True)
    bench.reply(1)
    bench.reply(2, OTHER_HEAD)
    bench.sender.flush()
    assert bench.bodies() == [{"id": 1}, {"id": 2}]


# --- who does not read ---


def test_a_full_transport_is_told_and_room_is_told() -> None:
    bench = Bench()
    bench.sender.transport_full()
    assert bench.sender.full
    bench.sender.transport_has_room()
    assert not bench.sender.full
    assert bench.told == ["full", "room"]


def test_more_than_may_wait_is_an_overflow() -> None:
    bench = Bench()
    bench.transport.queued = BOUND + 1
    bench.reply(1)  # it is written while the transport takes it
    bench.sender.transport_full()
    bench.transport.queued = BOUND
    bench.reply(2)
    assert len(bench.transport.taken()) == 2
    bench.transport.queued = BOUND + 1
    bench.reply(3)
    assert (bench.told[-1], bench.transport.taken()) == ("overflow", [])


def test_what_waits_for_its_turn_has_the_same_bound() -> None:
    bench = Bench(paced=True)
    while "overflow" not in bench.told:
        bench.sender.frame(stomp.with_body(HEAD, b"x" * 10_000))
        assert len(bench.told) < 100
    bench.clock.advance(60)
    written = sum(len(data) for data in bench.transport.taken())
    assert BOUND <= written < 2 * BOUND
    assert bench.told == ["full", "overflow", "room"]


def test_a_closed_sender_writes_nothing_and_has_no_timers() -> None:
    bench = Bench(paced=True)
    bench.sender.beat_every(1.0)
    bench.reply(1)
    bench.clock.advance(0.05)
    bench.reply(2)
    bench.sender.close()
    bench.transport.taken()
    bench.reply(3)
    bench.sender.frame(CONNECTED)
    bench.sender.flush()
    bench.clock.advance(60)
    assert bench.transport.taken() == []
    assert bench.clock.waiting == 0
