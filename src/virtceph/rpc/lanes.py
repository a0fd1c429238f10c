"""Lanes: small bounded pools of threads, so that one hung guest or cluster holds up only its like.

The one crossing between asyncio and the plain code below. A thread cannot be stopped: one that is
past its deadline goes on, occupies its slot and is counted as overdue.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from virtceph.errors import LaneBusy, ShuttingDown

T = TypeVar("T")


class LateError(Exception):
    """The work was not done by its deadline; its thread still runs."""


@dataclass
class _Waiter:
    key: str | None
    turn: asyncio.Future[None]


class Lane:
    """One pool. Used from one event loop; `per_key` bounds the slots that one key may take."""

    def __init__(self, name: str, slots: int, queue: int, per_key: int | None = None) -> None:
        self.name, self._slots, self._queue = name, slots, queue
        self._per_key = per_key or slots
        self._threads = ThreadPoolExecutor(slots, f"lane-{name}")
        self._running = 0
        self._by_key: Counter[str] = Counter()
        self._waiting: deque[_Waiter] = deque()
        self._overdue = 0
        self._refused = 0

    async def run(self, work: Callable[[], T], deadline_s: float, key: str | None = None) -> T:
        """Run `work` in a thread, waiting for a slot if need be.

        Raises:
            LaneBusy: the queue is full, or no slot came free before `deadline_s` (monotonic).
            LateError: the work began and was not done by `deadline_s`.
            ShuttingDown: the lane is closed.
        """
        if not self._has_room(key):
            await self._wait_for_turn(key, deadline_s)
        else:
            self._take(key)
        try:
            future = self._threads.submit(work)
        except RuntimeError:  # closed
            self._give_back(key)
            raise ShuttingDown from None
        loop = asyncio.get_running_loop()

        def give_back(_future: Future[T]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the daemon has ended
                loop.call_soon_threadsafe(self._give_back, key)

        future.add_done_callback(give_back)
        return await self._result(future, deadline_s)

    async def _result(self, future: Future[T], deadline_s: float) -> T:
        wrapped = asyncio.wrap_future(future)
        try:
            return await asyncio.wait_for(
                asyncio.shield(wrapped), max(0.0, deadline_s - time.monotonic())
            )
        except TimeoutError:
            if wrapped.done():
                return wrapped.result()  # done just now, or the work itself raised it
            self._overdue += 1
            wrapped.add_done_callback(self._no_longer_overdue)
            raise LateError from None

    async def _wait_for_turn(self, key: str | None, deadline_s: float) -> None:
        if len(self._waiting) >= self._queue:
            self._refused += 1
            raise LaneBusy(self.name)
        waiter = _Waiter(key, asyncio.get_running_loop().create_future())
        self._waiting.append(waiter)
        try:
            await asyncio.wait_for(waiter.turn, max(0.0, deadline_s - time.monotonic()))
        except BaseException as error:
            self._leave(waiter)
            if not isinstance(error, TimeoutError):
                raise
            self._refused += 1
            raise LaneBusy(self.name) from None

    def _leave(self, waiter: _Waiter) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
        elif waiter.turn.done() and not waiter.turn.cancelled():
            # The slot was handed over just as the wait ended.
            self._give_back(waiter.key)

    def _has_room(self, key: str | None) -> bool:
        return self._running < self._slots and (key is None or self._by_key[key] < self._per_key)

    def _take(self, key: str | None) -> None:
        self._running += 1
        if key is not None:
            self._by_key[key] += 1

    def _give_back(self, key: str | None) -> None:
        self._running -= 1
        if key is not None:
            self._by_key[key] -= 1
            if not self._by_key[key]:
                del self._by_key[key]
        for waiter in list(self._waiting):
            if self._has_room(waiter.key) and not waiter.turn.done():
                self._waiting.remove(waiter)
                self._take(waiter.key)
                waiter.turn.set_result(None)

    def _no_longer_overdue(self, future: asyncio.Future[Any]) -> None:
        self._overdue -= 1
        if not future.cancelled():
            future.exception()  # told nobody: the asker has had his answer

    def facts(self) -> dict[str, int]:
        """Slots, and how many are running, waiting, overdue, and were refused."""
        return {
            "slots": self._slots,
            "running": self._running,
            "waiting": len(self._waiting),
            "overdue": self._overdue,
            "refused": self._refused,
        }

    def close(self) -> None:
        """Take no more work. Does not wait."""
        self._threads.shutdown(wait=False, cancel_futures=True)
