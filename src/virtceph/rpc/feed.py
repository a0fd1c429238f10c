"""Events on their way out: who reads them is woken on the event loop, and reads at his own pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from virtceph.host.events import Events, Kept, Loss

_AT_ONCE = 128


class News(NamedTuple):
    """What a reader gets at once: events, and the number of the last one that was looked at. `events` may be
    none, when nothing happened for as long as he wanted to wait."""

    events: list[Kept]
    upto: int


class Feed:
    """The events of the daemon, for readers on its event loop."""

    def __init__(self, events: Events) -> None:
        self.events = events
        self.closing = False
        self._woken = False
        self._fresh = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to wake readers of this loop."""
        self._loop = asyncio.get_running_loop()
        self.events.wake(self._wake)

    def close(self) -> None:
        """Let readers have what is there, and end."""
        self.closing = True
        self._ring()

    def _wake(self) -> None:
        # From any thread, for each event: the loop is called once for all that came before it looks.
        if self._woken or self._loop is None:
            return
        self._woken = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        self._woken = False
        fresh, self._fresh = self._fresh, asyncio.Event()
        fresh.set()

    async def read(
        self, behind: int, loss: Loss | None, pause_s: Callable[[], float], *, follow: bool = True
    ) -> AsyncIterator[News]:
        """Everything behind a number, as it comes; and nothing, when nothing comes for the time that
        `pause_s` says at each wait. A loss is told as an event. Ends with the feed, or, unless it is to
        `follow`, with what is there."""
        while True:
            fresh = self._fresh
            found, lost = self.events.after(behind, _AT_ONCE)
            if lost:
                loss = Loss("behind", lost)
            if loss is not None:
                behind += lost
                found, loss = [self.events.lost(loss, behind), *found], None
            if found:
                behind = found[-1].number
                yield News(found, behind)
            elif self.closing or not follow:
                return
            elif not await _within(fresh, pause_s()):
                yield News([], behind)


async def _within(fresh: asyncio.Event, timeout_s: float) -> bool:
    try:
        async with asyncio.timeout(timeout_s):
            await fresh.wait()
    except TimeoutError:
        return False
    return True
