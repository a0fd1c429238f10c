"""What the daemon tells: kept for a while in a ring, for whoever reads on from where he was, and handed at
once to who listens within the daemon.

Telling waits for nobody, and fails in nobody who tells. A cursor is the daemon's start and a number that
grows by one with each event; nothing of it outlives the daemon, and a cursor of another run is known as such.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from virtceph.events import Event, EventsLost, all_events
from virtceph.log import facts
from virtceph.schema import Codec, Contract
from virtceph.units import MiB

log = logging.getLogger(__name__)

# From the oldest that is kept on, without a word on what came before.
BEGINNING = "0"
_CURSOR = re.compile(r"([0-9]{1,20})-([0-9]{1,18})")
# What an event takes beside its parameters.
_OVERHEAD_BYTES = 200

Tell = Callable[[Event], None]


def untold(_event: Event) -> None:
    """Tell nobody."""


class BadCursor(ValueError):
    """A text that is no cursor."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One event as it is kept; `params` are its parameters in JSON."""

    number: int
    name: str
    level: str
    at_s: float
    params: bytes


@dataclass(frozen=True)
class Loss:
    """Why, and how many, events are lost to a reader; None where nobody can tell."""

    cause: str
    count: int | None


class Events:
    """The events of this run of the daemon: at most `kept` of them, of `kept_bytes` in all. Any thread may
    call it; nothing here blocks."""

    def __init__(
        self,
        contract: Contract,
        kept: int = 10_000,
        kept_bytes: int = 8 * MiB,
        clock: Callable[[], float] = time.time,
    ) -> None:
        codec = Codec(contract)
        self._encoders = {
            name: codec.fields_encoder(contract.events[name].params) for name in all_events()
        }
        self._levels = {name: spec.level for name, spec in contract.events.items()}
        self._clock, self.run = clock, f"{clock() * 1000:.0f}"
        self._ring: list[Kept | None] = [None] * kept
        self._most_bytes, self._bytes = kept_bytes, 0
        self._first, self._last = 1, 0
        self._lock = threading.Lock()
        self._listeners: list[Tell] = []
        self._wakers: list[Callable[[], None]] = []
        # How many were told, by their names, and how many could not be.
        self.counts: Counter[str] = Counter()
        self.broken = 0
        # How often a reader was told of a loss, by its cause.
        self.losses: Counter[str] = Counter()

    # --- telling ---

    def tell(self, event: Event) -> None:
        """Keep an event and hand it on. Never raises."""
        try:
            params = self.encode(event)
        except Exception:
            # Of a class that is not as the contract says.
            log.exception("event not told %s", facts(event=type(event).__name__))
            self.broken += 1
            return
        with self._lock:
            self._keep(event.name, params)
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                log.exception("a listener broke %s", facts(event=event.name))
        for wake in self._wakers:
            wake()

    def encode(self, event: Event) -> bytes:
        """The parameters of an event in JSON. Raises TypeError, KeyError where it is not as the contract
        says."""
        return orjson.dumps(self._encoders[event.name](event))

    def _keep(self, name: str, params: bytes) -> None:
        self._last += 1
        self.counts[name] += 1
        self._bytes += len(params) + _OVERHEAD_BYTES
        if self._last - self._first >= len(self._ring):
            self._drop_oldest()
        kept = Kept(self._last, name, self._levels[name], self._clock(), params)
        self._ring[self._last % len(self._ring)] = kept
        while self._bytes > self._most_bytes and self._first < self._last:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        place = self._first % len(self._ring)
        oldest, self._ring[place] = self._ring[place], None
        assert oldest is not None
        self._bytes -= len(oldest.params) + _OVERHEAD_BYTES
        self._first += 1

    def listen(self, listener: Tell) -> None:
        """Call `listener` with each event from now on, in the thread that tells it. It must not block."""
        self._listeners.append(listener)

    def wake(self, waker: Callable[[], None]) -> None:
        """Call `waker` when there is something new. It must not block, nor raise."""
        self._wakers.append(waker)

    # --- reading ---

    @property
    def newest(self) -> int:
        """The number of the newest event."""
        return self._last

    def cursor(self, number: int) -> str:
        """The cursor of an event by its number."""
        return f"{self.run}-{number}"

    def place(self, cursor: str) -> tuple[int, Loss | None]:
        """The number behind which a reader goes on, and what is lost to him.

        Raises:
            BadCursor
        """
        with self._lock:
            first, last = self._first, self._last
        if cursor == BEGINNING:
            return first - 1, None
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise BadCursor(cursor)
        run, number = found[1], int(found[2])
        if run != self.run or number > last:
            return first - 1, Loss("restart", None)
        if number < first - 1:
            return first - 1, Loss("forgotten", first - 1 - number)
        return number, None

    def after(self, number: int, most: int) -> tuple[list[Kept], int]:
        """The events behind a number, `most` at once; and how many between are no longer kept."""
        with self._lock:
            begin = max(number + 1, self._first)
            end = min(self._last, begin + most - 1)
            found = [self._ring[n % len(self._ring)] for n in range(begin, end + 1)]
        return [kept for kept in found if kept is not None], begin - number - 1

    def lost(self, loss: Loss, before: int) -> Kept:
        """The event that tells a reader of a loss; it stands before the event behind `before`."""
        self.losses[loss.cause] += 1
        event = EventsLost(loss.cause, loss.count)
        return Kept(before, event.name, self._levels[event.name], self._clock(), self.encode(event))


def as_json(run: str, kept: Kept) -> bytes:
    """An event as readers get it: its name, cursor, time (seconds since 1970) and parameters."""
    head: dict[str, Any] = {
        "event": kept.name,
        "cursor": f"{run}-{kept.number}",
        "time": round(kept.at_s, 3),
    }
    return orjson.dumps(head)[:-1] + b',"params":' + kept.params + b"}"
