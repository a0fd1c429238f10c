"""A clock that stands still until it is told, and a transport that keeps what is written to it."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class FakeTimer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    """As the event loop: `advance` runs what is due meanwhile, each at its time."""

    def __init__(self) -> None:
        self._now_s, self._numbers = 1000.0, itertools.count()
        self._due: list[tuple[float, int, FakeTimer]] = []

    def time(self) -> float:
        return self._now_s

    def call_soon(self, callback: Callable[[], None]) -> FakeTimer:
        return self.call_later(0.0, callback)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(callback)
        heapq.heappush(self._due, (self._now_s + delay_s, next(self._numbers), timer))
        return timer

    def advance(self, seconds: float) -> None:
        end_s = self._now_s + seconds
        while self._due and self._due[0][0] <= end_s + 1e-9:
            due_s, _number, timer = heapq.heappop(self._due)
            self._now_s = max(self._now_s, due_s)
            if timer.callback is not None:
                timer.callback()
        self._now_s = end_s

    @property
    def waiting(self) -> int:
        """How many timers are set."""
        return sum(timer.callback is not None for _due, _number, timer in self._due)


class FakeTransport:
    """`written` has each write by itself, with its time. `queued` is what it says to wait."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.writes: list[tuple[float, bytes]] = []
        self.queued = 0

    def write(self, data: bytes) -> None:
        self.writes.append((self._clock.time(), data))

    def get_write_buffer_size(self) -> int:
        return self.queued

    def taken(self) -> list[bytes]:
        """What was written since it was last asked."""
        written = [data for _when, data in self.writes]
        self.writes.clear()
        return written
