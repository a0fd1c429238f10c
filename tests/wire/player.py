"""Plays transcripts: sends what they say, and compares what comes back.

Whoever plays says where the server is; what only a server in the same process can do is skipped elsewhere.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.wire.frames import Got, frame, take

# How long an answer may take: a bound, not a speed.
ANSWER_S = 10.0
# Stands in transcripts for a name that no other play has.
MARK = "@"
REPLY_HEADERS = ["destination", "content-type", "subscription", "content-length"]
REQUESTS = "jms.topic.vdsm_requests"
_TRIES_MORE = 2


class Pairs(list[tuple[str, Any]]):
    """An object of JSON, its members in their order."""


class Wrong(AssertionError):
    """The server did something else."""


@dataclass(frozen=True)
class Target:
    """A server. `publish` has it tell an event, where it is in this process."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    publish: Callable[[str, dict[str, Any]], None] | None = None
    offers: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Transcript:
    """What is said, and what is to happen. `needs`: what only some servers offer. `differs`: what the
    original does in its place, if it is something else."""

    says: str
    steps: Sequence[Step]
    differs: str = ""
    needs: frozenset[str] = frozenset()
    # Whether others that play at the same time would get in its way.
    alone: bool = False

    @property
    def timed(self) -> bool:
        """Whether it goes by the clock."""
        return any(isinstance(step, Beat | Closed | Pause) for step in self.steps)


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._rest = b""
        self.heard_s = time.monotonic()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def frame(self) -> Got:
        """The next frame; heart-beats before it are passed over."""
        deadline_s = time.monotonic() + ANSWER_S
        while True:
            got, self._rest = take(self._rest)
            if got is not None:
                return got
            self._rest += await self._more(deadline_s - time.monotonic())

    async def _more(self, timeout_s: float) -> bytes:
        try:
            data = await asyncio.wait_for(self._reader.read(65536), max(0.0, timeout_s))
        except TimeoutError:
            raise Wrong(f"nothing came, but {self._rest!r}") from None
        except (ConnectionError, ssl.SSLError) as error:
            raise Wrong(f"the connection broke: {error}") from error
        self.heard_s = time.monotonic()
        if not data:
            raise Wrong(f"the connection was closed, behind {self._rest!r}")
        return data

    async def beat(self) -> float:
        """The seconds from what came last up to a lone end of a line, and nothing else."""
        began_s = self.heard_s
        assert not self._rest, self._rest
        data = await self._more(ANSWER_S)
        if data.strip(b"\n"):
            raise Wrong(f"expected a lone end of a line, got {data!r}")
        return self.heard_s - began_s

    async def ends_of_lines(self, count: int) -> None:
        """Wait for so many lone ends of lines, and nothing else."""
        deadline_s = time.monotonic() + ANSWER_S
        while len(self._rest) < count:
            self._rest += await self._more(deadline_s - time.monotonic())
        if self._rest.strip(b"\n"):
            raise Wrong(f"expected lone ends of lines, got {self._rest!r}")
        self._rest = b""

    async def rest(self, within_s: float) -> bytes:
        """What comes up to the end of the connection."""
        data, deadline_s = self._rest, time.monotonic() + within_s
        while True:
            left_s = max(0.0, deadline_s - time.monotonic())
            try:
                more = await asyncio.wait_for(self._reader.read(65536), left_s)
            except TimeoutError:
                raise Wrong(f"not closed within {within_s} s; got {data!r}") from None
            except (ConnectionError, ssl.SSLError):
                more = b""
            if not more:
                return data
            data += more

    def close(self) -> None:
        self._writer.transport.abort()


@dataclass
class Stage:
    """One play: its connections, and its own names."""

    target: Target
    name: str = field(default_factory=lambda: f"q{uuid.uuid4().hex[:12]}")
    wires: dict[str, Wire] = field(default_factory=dict)

    async def wire(self, on: str) -> Wire:
        """A connection of the play, opened when it is first used."""
        if on not in self.wires:
            opened = await asyncio.open_connection(
                self.target.host, self.target.port, ssl=self.target.tls
            )
            self.wires[on] = Wire(*opened)
        return self.wires[on]

    def own(self, text: str) -> str:
        return text.replace(MARK, self.name)

    def own_bytes(self, data: bytes) -> bytes:
        return data.replace(MARK.encode(), self.name.encode())


class Step:
    """One line of a transcript, on the connection `on`."""

    on: str

    async def play(self, stage: Stage) -> None:
        """Do it. Raises Wrong."""
        raise NotImplementedError


@dataclass(frozen=True)
class Send(Step):
    """Send bytes; `pieces`: so many at a time."""

    data: bytes
    on: str = "a"
    pieces: int = 0

    async def play(self, stage: Stage) -> None:
        data, wire = stage.own_bytes(self.data), await stage.wire(self.on)
        size = self.pieces or len(data)
        for at in range(0, len(data), size):
            await wire.send(data[at : at + size])
            if self.pieces:
                await asyncio.sleep(0)


@dataclass(frozen=True)
class Exactly(Step):
    """The next frame is this, byte for byte."""

    raw: bytes
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        got = await (await stage.wire(self.on)).frame()
        expect("frame", got.raw, stage.own_bytes(self.raw))


@dataclass(frozen=True)
class Error(Step):
    """The next frame is an ERROR with this text, and no header but its length."""

    text: str
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        got = await (await stage.wire(self.on)).frame()
        expect("command", got.command, "ERROR")
        expect("text", got.body.decode(), self.text)
        expect("headers", got.headers, (("content-length", str(len(got.body))),))


@dataclass(frozen=True)
class Message(Step):
    """The next frame is a client's message, forwarded: these headers, in any order, and this body."""

    headers: tuple[str, ...]
    body: bytes
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        got = await (await stage.wire(self.on)).frame()
        expect("command", got.command, "MESSAGE")
        expect("body", got.body, self.body)
        headers = sorted(f"{name}:{value}" for name, value in got.headers)
        wanted = [*map(stage.own, self.headers), f"content-length:{len(self.body)}"]
        expect("headers", headers, sorted(wanted))


@dataclass(frozen=True)
class Reply(Step):
    """The next frame is a reply: `result`, or an error with `code`, or with one of several."""

    id: Any
    result: Any = True
    code: int | Sequence[int] | None = None
    on: str = "a"
    to: str = MARK
    sub: str = "s"
    # Of an error.
    message: str = ""

    async def play(self, stage: Stage) -> None:
        got = await (await stage.wire(self.on)).frame()
        check_envelope(got, stage.own(self.to), stage.own(self.sub))
        self.compare(json.loads(got.body, object_pairs_hook=Pairs), stage)

    def compare(self, pairs: Any, stage: Stage) -> None:
        """Compare a reply, as pairs, with what it is to be."""
        names = [name for name, _value in pairs]
        expect("members", names, ["jsonrpc", "id", "error" if self.code else "result"])
        expect("jsonrpc", pairs[0][1], "2.0")
        # As JSON: to Python 1 == 1.0 == True.
        wanted = stage.own(json.dumps(self.id))
        expect("id", json.dumps(_plain(pairs[1][1])), wanted)
        outcome = _plain(pairs[2][1])
        if self.code is None:
            expect("result", outcome, json.loads(stage.own(json.dumps(self.result))))
            return
        codes = [self.code] if isinstance(self.code, int) else self.code
        expect("members of the error", sorted(outcome), ["code", "message"])
        expect("code", outcome["code"] in codes, True, outcome)
        expect("message", isinstance(outcome["message"], str), True, outcome)
        if self.message:
            expect("message", outcome["message"], self.message)


@dataclass(frozen=True)
class Replies(Step):
    """The next frame is an array of these replies, in any order of their own."""

    replies: tuple[Reply, ...]
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        got = await (await stage.wire(self.on)).frame()
        check_envelope(got, stage.own(self.replies[0].to), stage.own(self.replies[0].sub))
        came = json.loads(got.body, object_pairs_hook=Pairs)
        expect("number of replies", len(came), len(self.replies))
        for reply, pairs in zip(self.replies, came, strict=True):
            reply.compare(pairs, stage)


@dataclass(frozen=True)
class Event(Step):
    """The next frame is an event for the subscription `sub`; it tells when it was."""

    method: str
    params: dict[str, Any]
    sub: str = "e"
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        got = await (await stage.wire(self.on)).frame()
        check_envelope(got, "jms.queue.events", stage.own(self.sub))
        body = json.loads(got.body)
        expect("members", sorted(body), ["jsonrpc", "method", "params"])
        expect("method", body["method"], stage.own(self.method))
        # Engines split it so, and take no other.
        expect("parts of the method", len(body["method"].split("|")), 4)
        when = body["params"].pop("notify_time")
        expect("notify_time", isinstance(when, int) and when > 2147483647, True, when)
        expect("params", body["params"], self.params)


@dataclass(frozen=True)
class Alive(Step):
    """The connection serves on; and nothing else came before."""

    on: str = "a"

    async def play(self, stage: Stage) -> None:
        wire, own = await stage.wire(self.on), f"alive-{uuid.uuid4().hex[:8]}"
        body = f'{{"jsonrpc":"2.0","method":"Host.ping2","params":{{}},"id":"{own}"}}'
        asking = frame("SEND", f"destination:{REQUESTS}", f"reply-to:{own}", body=body)
        await wire.send(frame("SUBSCRIBE", f"destination:{own}", f"id:{own}") + asking)
        got = await wire.frame()
        check_envelope(got, own, own)
        reply = json.loads(got.body)
        # Paced connections may be given it in an array.
        expect("reply", reply, {"jsonrpc": "2.0", "id": own, "result": True})
        await wire.send(frame("UNSUBSCRIBE", f"id:{own}"))


@dataclass(frozen=True)
class Closed(Step):
    """The server closes the connection, after `after_s` at the earliest; at most an ERROR comes before, or
    with `error` one that begins so."""

    on: str = "a"
    after_s: float = 0.0
    within_s: float = ANSWER_S
    error: str = ""

    async def play(self, stage: Stage) -> None:
        wire = await stage.wire(self.on)
        began_s = time.monotonic()
        got, rest = take(await wire.rest(self.within_s))
        took_s = time.monotonic() - began_s
        if self.error:
            told = "" if got is None else got.body.decode()
            expect("the error's text", told.startswith(self.error), True, told)
        expect("what comes before", got is None or got.command == "ERROR", True, got)
        expect("what comes behind", rest.strip(b"\n"), b"")
        expect("not too early", took_s >= self.after_s, True, took_s)


@dataclass(frozen=True)
class Last(Step):
    """The server closes the connection, and the last that it sends is this."""

    data: bytes
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        came = await (await stage.wire(self.on)).rest(ANSWER_S)
        expect("the last that comes", came, self.data)


@dataclass(frozen=True)
class Beat(Step):
    """A lone end of a line comes, so long after what came last."""

    low_s: float
    high_s: float
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        took_s = await (await stage.wire(self.on)).beat()
        expect("a heart-beat in time", self.low_s <= took_s <= self.high_s, True, took_s)


@dataclass(frozen=True)
class Kicks(Step):
    """So many lone ends of lines come, long before any heart-beat would."""

    count: int
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        await (await stage.wire(self.on)).ends_of_lines(self.count)


@dataclass(frozen=True)
class Leave(Step):
    """Break the connection off, as clients do that end."""

    on: str = "a"

    async def play(self, stage: Stage) -> None:
        (await stage.wire(self.on)).close()


@dataclass(frozen=True)
class Pause(Step):
    """Wait."""

    seconds: float
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        await asyncio.sleep(self.seconds)


@dataclass(frozen=True)
class Publish(Step):
    """The server tells an event. (Only where it is in this process.)"""

    method: str
    params: dict[str, Any]
    on: str = "a"

    async def play(self, stage: Stage) -> None:
        assert stage.target.publish is not None
        stage.target.publish(stage.own(self.method), self.params)


def check_envelope(got: Got, destination: str, subscription: str) -> None:
    """A MESSAGE with JSON: which headers, in which order. Raises Wrong."""
    expect("command", got.command, "MESSAGE")
    expect("headers", [name for name, _value in got.headers], REPLY_HEADERS)
    expect("destination", got.header("destination"), destination)
    expect("content-type", got.header("content-type"), "application/json")
    expect("subscription", got.header("subscription"), subscription)
    head = len(got.raw) - len(got.body) - 1
    expect("a head of less than 1024 bytes", head < 1024, True, head)


def expect(what: str, got: Any, wanted: Any, told: Any = None) -> None:
    """Raise Wrong where they differ."""
    if got != wanted:
        raise Wrong(f"{what}: {got if told is None else told!r}, expected {wanted!r}")


def _plain(value: Any) -> Any:
    """The value as JSON has it, without the order of members."""
    if isinstance(value, Pairs):
        return {name: _plain(inner) for name, inner in value}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


async def play(transcript: Transcript, target: Target) -> str | None:
    """Play one; None when all was as it says, else what was not."""
    stage = Stage(target)
    try:
        for number, step in enumerate(transcript.steps, 1):
            try:
                await step.play(stage)
            except (Wrong, OSError, AssertionError, ValueError) as error:
                return f"step {number} ({type(step).__name__}): {error}"
    finally:
        for wire in stage.wires.values():
            wire.close()
    return None


async def play_all(
    transcripts: Sequence[Transcript], target: Target, at_once: int = 1
) -> dict[str, str | None]:
    """Play those that the target can be asked, by what they say. What goes by the clock, and was otherwise,
    is played again by itself: on a busy machine it is the player who is late."""
    slots = asyncio.Semaphore(at_once)

    async def one(transcript: Transcript) -> str | None:
        async with slots:
            return await play(transcript, target)

    chosen = [t for t in transcripts if t.needs <= target.offers]
    together = [t for t in chosen if not t.alone]
    outcomes = await asyncio.gather(*map(one, together))
    found = {t.says: outcome for t, outcome in zip(together, outcomes, strict=True)}
    for transcript in chosen:
        if transcript.alone:
            found[transcript.says] = await one(transcript)
    for transcript in (t for t in chosen if t.timed):
        for _ in range(_TRIES_MORE):
            if found[transcript.says] is not None:
                found[transcript.says] = await one(transcript)
    return found
