"""What is fed with bytes that nobody would send, and what must hold whatever they are.

Each target is called with bytes, and raises when something does not hold. The verbs behind them do nothing:
what is looked at is everything from the bytes to a verb's decoded parameters, and back.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import CoroutineType
from typing import Any
from uuid import UUID

from tests.fakes.fake_loop import FakeClock, FakeTransport
from tests.wire.frames import take
from virtceph import errors
from virtceph.rpc import envelope as envelopes
from virtceph.rpc.callers import OVER_HTTP, OVER_STOMP, Caller, Manner
from virtceph.rpc.calls import Asking
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.quota import Quota
from virtceph.rpc.sender import Sender
from virtceph.rpc.session import Session
from virtceph.rpc.stomp import Frame, FrameError, FrameLimits, FrameReader
from virtceph.rpc.topics import Topics
from virtceph.schema import load_contract
from virtceph.schema.examples import example_params
from virtceph.schema.spec import FieldSpec, leaf_type
from virtceph.verbs.registry import load_verbs

CONTRACT = load_contract()
CALLER = Caller("cert:CN=fuzz", "admin", "127.0.0.1:1")
LIMITS = FrameLimits(frame_bytes=2048, head_bytes=512, headers=16)
_INTERNAL = -32603
# In turns of this many, memory in use may not have grown by more objects than that.
_TURN, _GROWTH = 4000, 20_000

Target = Callable[[bytes], None]


class Here:
    """As a lane: serves in this thread, at once."""

    async def run(self, work: Callable[[], Any], _deadline_s: float, _key: str | None) -> Any:
        return work()


def _busy(**_all: Any) -> Any:
    # Any verb may answer this; so nothing of what it is given is ever done.
    raise errors.LaneBusy("fuzz")


def dispatcher() -> Dispatcher:
    """One over the real contract, whose verbs do nothing."""
    load_verbs(CONTRACT)  # for the classes of the parameters
    known: dict[str, Callable[..., Any]] = {
        "Host.ping2": lambda: None,
        "Host.echo": lambda message: message,
    }
    functions = {name: known.get(name, _busy) for name in CONTRACT.verbs}
    lanes: Mapping[str, Any] = {
        name: Here() for name in ("libvirt", "agent", "disk", "ceph", "rescue")
    }
    return Dispatcher(CONTRACT, functions, lanes)


class Bodies:
    """Bodies of requests, in one manner."""

    def __init__(self, manner: Manner) -> None:
        self._dispatcher, self._manner = dispatcher(), manner
        self._loop = asyncio.new_event_loop()

    def reply(self, body: bytes) -> Any:
        """What is replied, which must fit what was asked."""
        outcome = self._dispatcher.begin(body, Asking(CALLER, self._manner))
        if type(outcome) is CoroutineType:
            outcome = self._loop.run_until_complete(outcome)
        check_reply(body, outcome, any_id=self._manner.as_engines_expect)
        return outcome

    def __call__(self, data: bytes) -> None:
        self.reply(data)


def check_reply(body: bytes, reply: Any, *, any_id: bool) -> None:
    """No reply without a request, none to a notification, each id as it was; and never our own bug."""
    sent = envelopes.load(envelopes.dump(reply))
    replies = [] if sent is None else sent if isinstance(sent, list) else [sent]
    for one in replies:
        assert set(one) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}), one
        assert "error" not in one or one["error"]["code"] != _INTERNAL, one
    expected = _expected(body, any_id)
    assert Counter(json.dumps(one["id"]) for one in replies) == expected, (expected, sent)


def _expected(body: bytes, any_id: bool) -> Counter[str]:
    """The ids that are to be answered, as text."""
    try:
        asked = envelopes.load(body)
    except ValueError:
        return Counter(["null"])
    requests = asked if isinstance(asked, list) else [asked]
    if not requests or len(requests) > 1000:
        return Counter(["null"])
    found: Counter[str] = Counter()
    for one in requests:
        if envelopes.fault_of(one, any_id=any_id) is not None:
            found["null"] += 1
        elif "id" in one:
            found[json.dumps(one["id"])] += 1
    return found


class Parameters:
    """Parameters of each verb, for both decoders. The first byte says which verb; the rest is JSON, or says
    what to make of the parameters that it has."""

    def __init__(self) -> None:
        self._bodies = [Bodies(manner) for manner in (OVER_HTTP, OVER_STOMP)]
        self.verbs = sorted(CONTRACT.verbs)

    def __call__(self, data: bytes) -> None:
        if not data:
            return
        verb = CONTRACT.verbs[self.verbs[data[0] % len(self.verbs)]]
        params = data[1:]
        if not params.startswith((b"{", b"[")):
            made = Making(params).of_fields(verb.params)
            params = json.dumps(made).encode()
        name = verb.name.encode()
        body = b'{"jsonrpc":"2.0","id":1,"method":"%b","params":%b}' % (name, params)
        for bodies in self._bodies:
            bodies.reply(body)


class Making:
    """Values made of bytes: mostly of the kind that is wanted, so that they get far."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def of_fields(self, specs: Iterable[FieldSpec]) -> dict[str, Any]:
        """An object with some of these fields."""
        return {spec.name: self._of(spec.type, 0) for spec in specs if self._byte() % 8}

    def _of(self, type_name: str, depth: int) -> Any:
        choice = self._byte()
        if choice >= 0xE0:
            return [None, True, -1, 1.5, "", [], {}, "x", 2**63][self._byte() % 9]
        if type_name.startswith("["):
            return [self._of(leaf_type(type_name), depth + 1) for _ in range(choice % 3)]
        if type_name in CONTRACT.objects and depth < 4:
            fields = CONTRACT.objects[type_name].fields
            return {f.name: self._of(f.type, depth + 1) for f in fields if self._byte() % 8}
        if type_name in CONTRACT.enums:
            values = CONTRACT.enums[type_name].values
            return values[choice % len(values)]
        made: dict[str, Callable[[], Any]] = {
            "boolean": lambda: bool(choice & 1),
            "integer": lambda: int.from_bytes(self._bytes(choice % 9), signed=True),
            "number": lambda: int.from_bytes(self._bytes(choice % 5)) / 7,
            "UUID": lambda: str(UUID(bytes=self._bytes(16).ljust(16, b"\0"))),
        }
        return made.get(type_name, lambda: self._bytes(choice % 40).decode(errors="replace"))()

    def _byte(self) -> int:
        found = self._bytes(1)
        return found[0] if found else 0

    def _bytes(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        self._at += count
        return found


class Frames:
    """Bytes of a connection: read whole and in pieces alike, and served by a session."""

    def __init__(self) -> None:
        self._bodies = Bodies(OVER_STOMP)
        self._topics = Topics()

    def __call__(self, data: bytes) -> None:
        # The first byte says how large the pieces are.
        size, data = (data[0] % 64 + 1, data[1:]) if data else (1, data)
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        (frames, wrong), (again, wrong_again) = _read([data]), _read(pieces)
        # What is wrong first may depend on how much has come.
        assert (frames, bool(wrong)) == (again, bool(wrong_again)), (wrong, wrong_again)
        self._serve(pieces, frames)

    def _serve(self, pieces: list[bytes], frames: list[Frame]) -> None:
        clock, ended = FakeClock(), list[str]()
        transport = FakeTransport(clock)
        sender = Sender(
            transport, clock, 64 * 1024, on_full=_nothing, on_room=_nothing, on_overflow=_nothing
        )
        session = Session(
            CALLER, sender, self._topics, self._ask, ended.append,
            quota=Quota(4, Quota(8)), frame_limits=LIMITS, max_subscriptions=4,
        )  # fmt: skip
        for piece in pieces:
            session.received(piece)
            clock.advance(0.01)
        clock.advance(1.0)
        session.close()
        sent = b"".join(transport.taken())
        assert self._topics.of("") == []
        assert not self._topics._of, "subscriptions of a connection that is gone"
        assert not clock.waiting, "timers of a connection that is gone"
        check_sent(sent, frames)

    def _ask(self, body: bytes, _asking: Asking, done: Callable[[Any], None]) -> None:
        done(self._bodies.reply(body))


def _nothing() -> None:
    """Room, or none: there is no socket."""


def _read(pieces: list[bytes]) -> tuple[list[Frame], str]:
    """The frames of what came, and why no more could be read."""
    reader, found = FrameReader(LIMITS), list[Frame]()
    try:
        for piece in pieces:
            reader.add(piece)
            while (frame := reader.next()) is not None:
                found.append(frame)
    except FrameError as error:
        return found, str(error)
    assert len(reader._source) - reader._at <= LIMITS.frame_bytes + 1024, "more is kept than may be"
    return found, ""


def check_sent(sent: bytes, asked: list[Frame]) -> None:
    """All that was sent is frames, and there are no more than can have been asked for."""
    if sent.startswith(b"HTTP/1.1 400"):
        return
    counts: Counter[str] = Counter()
    while True:
        got, sent = take(sent)
        if got is None:
            break
        counts[got.command] += 1
    assert not sent.strip(b"\n"), sent
    sends = sum(frame.command == "SEND" for frame in asked)
    # A message to others may reach each of four subscriptions, and what cannot be read is an ERROR.
    assert counts["MESSAGE"] <= 4 * sends, counts
    assert sum(counts.values()) - counts["MESSAGE"] <= len(asked) + 1, counts


class Bounded:
    """A target whose calls may leave nothing behind."""

    def __init__(self, target: Target) -> None:
        self._target, self._calls, self._first = target, 0, 0

    def __call__(self, data: bytes) -> None:
        self._target(data)
        self._calls += 1
        if self._calls % _TURN:
            return
        gc.collect()
        blocks = sys.getallocatedblocks()
        self._first = self._first or blocks
        assert blocks - self._first < _GROWTH, (self._calls, self._first, blocks)


TARGETS: dict[str, Callable[[], Target]] = {
    "frames": Frames,
    "bodies": lambda: Bodies(OVER_HTTP),
    "parameters": Parameters,
}


def examples() -> dict[str, list[bytes]]:
    """Where each target begins: what clients really send."""
    # Imported here: the tables import the player, which the fuzzer has no need to look into.
    from tests.wire.player import Send
    from tests.wire.tables import ALL
    from tests.wire.test_http_transcripts import TRANSCRIPTS

    sent = {step.data for transcript in ALL for step in transcript.steps if isinstance(step, Send)}
    bodies = [body.encode() if isinstance(body, str) else body for body, _ in TRANSCRIPTS.values()]
    parameters = [
        bytes([number]) + json.dumps(example_params(CONTRACT, CONTRACT.verbs[name])).encode()
        for number, name in enumerate(sorted(CONTRACT.verbs))
    ]
    return {
        "frames": [b"\x3f" + data for data in sorted(sent) if len(data) < LIMITS.frame_bytes],
        "bodies": bodies,
        "parameters": parameters,
    }
