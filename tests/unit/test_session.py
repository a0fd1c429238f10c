"""The protocol of one connection, without a socket. What every client sees is in tests/wire; here is what
takes a fake clock or a fake dispatcher to see."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.fake_loop import FakeClock, FakeTransport
from tests.wire.frames import Got, frame, take
from virtceph.rpc.callers import OVER_STOMP, Caller
from virtceph.rpc.calls import Asking
from virtceph.rpc.patience import Patience
from virtceph.rpc.quota import Quota
from virtceph.rpc.sender import Sender
from virtceph.rpc.session import Heartbeats, Session
from virtceph.rpc.stomp import FrameLimits
from virtceph.rpc.topics import Topics

REQUESTS = "jms.topic.vdsm_requests"
FIRST_FRAME_S, IDLE_S = 10.0, 100.0


class Line:
    """One connection: what it was answered, what was asked of the dispatcher, why it was ended."""

    def __init__(self, topics: Topics | None = None, level: str = "admin") -> None:
        self.clock = FakeClock()
        self.transport = FakeTransport(self.clock)
        self.asked: list[tuple[bytes, Asking, Callable[[Any], None]]] = []
        self.ended: list[str] = []
        self.topics = topics or Topics()
        self.sender = Sender(
            self.transport,
            self.clock,
            100_000,
            on_full=lambda: None,
            on_room=self._room,
            on_overflow=lambda: self.ended.append("overflow"),
        )
        self.session = Session(
            Caller("cert:CN=x", level),
            self.sender,
            self.topics,
            lambda *asked: self.asked.append(asked),
            self._end,
            quota=Quota(10),
            frame_limits=FrameLimits(),
            max_subscriptions=5,
        )
        self.patience = Patience(
            self.session,
            self.sender,
            self.clock,
            self.session.refuse,
            first_frame_s=FIRST_FRAME_S,
            idle_s=IDLE_S,
        )

    def _end(self, reason: str) -> None:
        self.ended.append(reason)
        self.patience.close()
        self.session.close()

    def _room(self) -> None:
        self.patience.reading_again()
        self.session.go_on()

    def gets(self, data: bytes) -> list[Got]:
        """What is answered to bytes."""
        self.session.received(data)
        self.patience.heard()
        return self.came()

    def came(self) -> list[Got]:
        """What was written since, but for ends of lines."""
        found, data = [], b"".join(self.transport.taken())
        while True:
            got, data = take(data)
            if got is None:
                return found
            found.append(got)

    def connect(self, heartbeat: str = "0,0") -> None:
        (got,) = self.gets(frame("CONNECT", "accept-version:1.2", f"heart-beat:{heartbeat}"))
        assert got.command == "CONNECTED"

    def subscribe(self, destination: str = "q", ident: str = "s") -> None:
        assert self.gets(frame("SUBSCRIBE", f"destination:{destination}", f"id:{ident}")) == []

    def ask(self, *lines: str, body: str = "{}") -> Callable[[Any], None]:
        """Send a request; what is to be called with its reply."""
        data = frame("SEND", f"destination:{REQUESTS}", *lines, body=body)
        assert self.gets(data) == []
        return self.asked[-1][2]


@pytest.fixture
def line() -> Line:
    return Line()


# --- requests and replies ---


def test_a_request_is_asked_as_its_caller_with_his_word_for_the_flow(line: Line) -> None:
    line.ask("ovirtCorrelationId:f1", body="[]")
    body, asking, _done = line.asked[-1]
    assert body == b"[]"
    assert (asking.caller.name, asking.manner, asking.flow) == ("cert:CN=x", OVER_STOMP, "f1")
    assert asking.quota is line.session.quota


def test_a_long_word_for_the_flow_is_cut(line: Line) -> None:
    line.ask("ovirtCorrelationId:" + "f" * 1000)
    assert len(line.asked[-1][1].flow) == 64


def test_replies_go_to_the_queues_that_their_own_requests_named(line: Line) -> None:
    line.subscribe("q1", "s1")
    line.subscribe("q2", "s2")
    first, second = line.ask("reply-to:q1"), line.ask("reply-to:q2")
    second({"jsonrpc": "2.0", "id": 1, "result": "second"})
    first({"jsonrpc": "2.0", "id": 1, "result": "first"})
    got = line.came()
    assert [(g.header("subscription"), json.loads(g.body)["result"]) for g in got] == [
        ("s2", "second"),
        ("s1", "first"),
    ]


def test_a_reply_after_the_end_of_its_connection_is_dropped(line: Line) -> None:
    line.subscribe()
    done = line.ask("reply-to:q")
    line.session.close()
    done({"jsonrpc": "2.0", "id": 1, "result": True})
    assert line.came() == []


def test_no_reply_is_given_where_there_is_none(line: Line) -> None:
    line.subscribe()
    line.ask("reply-to:q")(None)
    assert line.came() == []


def test_an_error_without_an_id_goes_to_the_default_queue_only(line: Line) -> None:
    """A client that has only a queue of its own would look there for a call with this id, and break."""
    error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "x"}}
    line.subscribe()
    line.ask("reply-to:q")(error)
    assert line.came() == []
    line.subscribe("jms.topic.vdsm_responses", "r")
    line.ask("reply-to:q")(error)
    (got,) = line.came()
    assert got.header("subscription") == "r"
    # A result may have the id null.
    line.ask("reply-to:q")({"jsonrpc": "2.0", "id": None, "result": True})
    assert line.came()[0].header("subscription") == "s"


def test_a_connection_that_names_a_host_is_paced_from_then_on(line: Line) -> None:
    line.gets(frame("CONNECT", "accept-version:1.2"))
    assert not line.sender.paced
    line.gets(frame("CONNECT", "accept-version:1.2", "host:x"))
    line.gets(frame("CONNECT", "accept-version:1.2"))
    assert line.sender.paced


def test_subscriptions_end_with_their_connection(line: Line) -> None:
    other = Line(line.topics)
    other.subscribe("q", "o")
    line.subscribe()
    line.session.close()
    (got,) = other.gets(frame("SEND", "destination:q", body="hi"))
    assert (got.command, got.header("subscription")) == ("MESSAGE", "o")


def test_a_message_reaches_other_connections_and_only_those(line: Line) -> None:
    others = [Line(line.topics) for _ in range(3)]
    for number, other in enumerate(others):
        other.subscribe(("a", "a.b", "a.b.c")[number])
    assert line.gets(frame("SEND", "destination:a.b", body="hi")) == []
    assert [len(other.came()) for other in others] == [1, 1, 0]


# --- reading goes on when there is room ---


def test_what_came_while_there_was_no_room_is_served_when_there_is(line: Line) -> None:
    line.subscribe()
    line.sender.transport_full()
    data = frame("SEND", f"destination:{REQUESTS}", body="1")
    line.session.received(data + data)
    assert line.asked == []
    line.sender.transport_has_room()
    assert len(line.asked) == 2


def test_no_more_is_served_than_there_is_room_for(line: Line) -> None:
    line.session.received(frame("SUBSCRIBE", "destination:q", "id:s"))
    data = frame("SEND", f"destination:{REQUESTS}", body="1")
    real = line.asked.append

    def fills(asked: Any) -> None:
        real(asked)
        line.sender.transport_full()

    line.session._ask = lambda *asked: fills(asked)  # type: ignore[method-assign]
    line.session.received(data * 3)
    assert len(line.asked) == 1


# --- the end ---


@pytest.mark.parametrize("data", [b"NOSUCH\n\n\0", frame("MESSAGE"), b"SEND\na:b:c\n\n\0"])
def test_what_is_malformed_is_told_and_ends_the_connection(line: Line, data: bytes) -> None:
    line.subscribe()
    (got,) = line.gets(data + frame("DISCONNECT", "receipt:1"))
    assert got.command == "ERROR"
    assert got.body.startswith(b"Malformed frame: ")
    assert len(line.ended) == 1
    # Nothing behind it is served.
    assert line.gets(frame("DISCONNECT", "receipt:1")) == []


def test_a_paced_connection_is_told_before_it_ends(line: Line) -> None:
    line.gets(frame("CONNECT", "accept-version:1.2", "host:x"))
    (got,) = line.gets(b"NOSUCH\n\n\0")
    assert got.command == "ERROR"


# --- heart-beats and patience ---


@pytest.mark.parametrize(
    ("offer", "heartbeats"),
    [
        ("0,0", (0, 0)),
        ("1000,24000", (1000, 24000)),
        ("1,999", (1000, 1000)),
        ("0,1", (0, 1000)),
        (" 5000 , 6000 ", (5000, 6000)),
        ("999999999,0", (999999999, 0)),
        *((rubbish, (0, 0)) for rubbish in (
            "", ",", "5000", "5000,", ",5000", "a,b", "1,2,3", "-1,5000", "+1,5", "1e3,5", "²,5",
            "5000,٣", "9999999999,5000", "0x10,1",
        )),
    ],
)  # fmt: skip
def test_what_is_offered_is_understood_or_nothing(offer: str, heartbeats: tuple[int, int]) -> None:
    assert Heartbeats.read(offer) == Heartbeats(*heartbeats)


@given(st.text(max_size=30))
def test_any_offer_can_be_answered(offer: str) -> None:
    found = Heartbeats.read(offer)
    assert found.answer() == f"{found.wants_ms},{found.sends_ms}"


def ended_at(line: Line, within_s: float) -> float | None:
    """After how many seconds from now the connection is ended, if it is."""
    began_s = line.clock.time()
    while not line.ended and line.clock.time() < began_s + within_s:
        line.clock.advance(0.01)
    return round(line.clock.time() - began_s, 2) if line.ended else None


def test_a_client_that_agreed_on_heartbeats_is_given_up_when_none_comes_in_time(line: Line) -> None:
    line.connect("2000,0")
    for _ in range(5):
        line.clock.advance(1.9)
        line.gets(b"\n")
    assert (took_s := ended_at(line, 10)) is not None
    assert 2.0 <= took_s <= 2.1
    assert "no heart-beat within 2000 ms" in line.ended[0]


def test_a_heartbeat_that_came_while_the_daemon_stood_still_counts(line: Line) -> None:
    """After a standstill timers come before what is to be read."""
    line.connect("1000,0")
    line.clock.advance(0.5)
    line.clock._now_s += 60.0
    line.clock.advance(0.01)
    assert line.ended == []
    line.gets(b"\n")
    assert ended_at(line, 0.9) is None
    assert ended_at(line, 2) is not None


def test_a_client_whose_requests_are_not_read_is_not_given_up_for_its_silence(line: Line) -> None:
    line.connect("1000,0")
    line.sender.transport_full()
    line.clock.advance(20)
    assert line.ended == []
    line.sender.transport_has_room()
    line.clock.advance(0.9)
    assert line.ended == []
    line.clock.advance(0.3)
    assert len(line.ended) == 1


def test_a_client_that_never_reads_again_is_given_up(line: Line) -> None:
    line.connect("0,1000")
    line.sender.transport_full()
    assert (took_s := ended_at(line, 3 * IDLE_S)) is not None
    assert IDLE_S <= took_s <= 2 * IDLE_S + 1
    assert "nothing was read" in line.ended[0]


def test_a_first_frame_has_to_come_in_time(line: Line) -> None:
    line.clock.advance(5)
    line.gets(b"\n\nSEND\n")
    assert (took_s := ended_at(line, 20)) is not None
    assert FIRST_FRAME_S - 5 <= took_s <= FIRST_FRAME_S - 4.8
    assert "no frame within 10 s" in line.ended[0]


def test_who_agreed_on_no_heartbeats_is_given_up_when_it_asks_nothing(line: Line) -> None:
    line.connect()
    line.clock.advance(IDLE_S - 1)
    line.gets(b"\n")
    assert (took_s := ended_at(line, 3 * IDLE_S)) is not None
    assert IDLE_S <= took_s <= IDLE_S + 1
    assert "idle" in line.ended[0]


def test_who_waits_for_an_answer_is_not_idle(line: Line) -> None:
    line.connect()
    assert line.session.quota.take()
    line.clock.advance(5 * IDLE_S)
    assert line.ended == []
    line.session.quota.give_back()
    assert ended_at(line, 2 * IDLE_S) is not None


@pytest.mark.parametrize("heartbeat", ["0,24000", "5000,0"])
def test_who_agreed_on_heartbeats_may_ask_nothing(line: Line, heartbeat: str) -> None:
    line.connect(heartbeat)
    for _ in range(200):
        line.clock.advance(4)
        line.gets(b"\n")
    assert line.ended == []


def test_a_frame_that_is_begun_has_to_be_ended(line: Line) -> None:
    line.connect("0,24000")
    line.clock.advance(5 * IDLE_S)
    assert line.ended == []
    line.gets(b"SEND\n")
    took_s = 0
    while not line.ended and took_s < 3 * IDLE_S:
        # A byte now and then is not enough.
        line.clock.advance(1)
        took_s += 1
        line.gets(b"a")
    assert IDLE_S <= took_s <= 2 * IDLE_S + 1
    assert "no end of a frame" in line.ended[0]


def test_whole_frames_are_progress_even_when_another_is_always_begun(line: Line) -> None:
    line.connect("0,24000")
    data = frame("SUBSCRIBE", "destination:q", "id:s") + frame("UNSUBSCRIBE", "id:s")
    line.gets(b"SUBS")
    for _ in range(10):
        line.clock.advance(IDLE_S / 2)
        line.gets(data[4:] + data[:4])
    assert line.ended == []
