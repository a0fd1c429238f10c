"""Lanes: bounded, fair, and never a slot lost."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

from virtceph.errors import LaneBusy, ShuttingDown
from virtceph.rpc.lanes import Lane, LateError


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario

    asyncio.run(bounded())


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


class Gate:
    """Work that waits until it is let go, and counts how many are inside."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self._open = threading.Event()
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self._open.wait(5)
        with self._lock:
            self.inside -= 1
        return "done"

    def open(self) -> None:
        self._open.set()


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def idle(lane: Lane) -> None:
    await until(lambda: lane.facts()["running"] == lane.facts()["overdue"] == 0)
    assert lane.facts()["waiting"] == 0


def test_no_more_than_its_slots_run_at_once() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 2, 10), Gate()
        tasks = [asyncio.create_task(lane.run(gate, soon())) for _ in range(5)]
        await until(lambda: gate.inside == 2)
        await asyncio.sleep(0.01)
        assert lane.facts() == {"slots": 2, "running": 2, "waiting": 3, "overdue": 0, "refused": 0}
        gate.open()
        assert await asyncio.gather(*tasks) == ["done"] * 5
        assert gate.most == 2
        await idle(lane)

    run(scenario())


def test_one_key_takes_no_more_than_its_share() -> None:
    async def scenario() -> None:
        lane, dead, alive = Lane("x", 3, 10, per_key=1), Gate(), Gate()
        alive.open()
        stuck = [asyncio.create_task(lane.run(dead, soon(), "dead")) for _ in range(3)]
        await until(lambda: dead.inside == 1)
        assert await lane.run(alive, soon(), "alive") == "done"
        assert dead.most == 1
        dead.open()
        await asyncio.gather(*stuck)
        assert dead.most == 1
        await idle(lane)

    run(scenario())


def test_work_without_a_key_is_bound_by_the_slots_alone() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 2, 0, per_key=1), Gate()
        tasks = [asyncio.create_task(lane.run(gate, soon())) for _ in range(2)]
        await until(lambda: gate.inside == 2)
        gate.open()
        await asyncio.gather(*tasks)

    run(scenario())


def test_a_full_queue_is_refused_at_once() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 1, 1), Gate()
        tasks = [asyncio.create_task(lane.run(gate, soon())) for _ in range(2)]
        await until(lambda: lane.facts()["waiting"] == 1)
        with pytest.raises(LaneBusy):
            await lane.run(gate, soon())
        assert lane.facts()["refused"] == 1
        gate.open()
        await asyncio.gather(*tasks)
        await idle(lane)

    run(scenario())


def test_who_waits_until_the_deadline_is_refused_and_his_work_never_runs() -> None:
    async def scenario() -> None:
        lane, gate, ran = Lane("x", 1, 5), Gate(), []
        first = asyncio.create_task(lane.run(gate, soon()))
        await until(lambda: gate.inside == 1)
        with pytest.raises(LaneBusy):
            await lane.run(lambda: ran.append(1), soon(0.02))
        assert lane.facts()["waiting"] == 0
        gate.open()
        await first
        await idle(lane)
        assert ran == []

    run(scenario())


def test_late_work_is_counted_and_keeps_its_slot_until_it_ends() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 1, 5), Gate()
        with pytest.raises(LateError):
            await lane.run(gate, soon(0.02))
        assert (lane.facts()["running"], lane.facts()["overdue"]) == (1, 1)
        with pytest.raises(LaneBusy):
            await lane.run(gate, soon(0.02))
        gate.open()
        await idle(lane)
        assert await lane.run(gate, soon()) == "done"

    run(scenario())


def test_late_work_that_fails_frees_its_slot_too() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 1, 5), Gate()

        def fail() -> None:
            gate()
            raise ValueError

        with pytest.raises(LateError):
            await lane.run(fail, soon(0.02))
        gate.open()
        await idle(lane)

    run(scenario())


@pytest.mark.parametrize("error", [ValueError, TimeoutError])
def test_an_error_of_the_work_reaches_its_asker(error: type[Exception]) -> None:
    async def scenario() -> None:
        lane = Lane("x", 1, 5)

        def fail() -> None:
            raise error

        with pytest.raises(error):
            await lane.run(fail, soon())
        await idle(lane)

    run(scenario())


@contextlib.contextmanager
def late_by_nothing() -> Iterator[None]:
    """What is waited for is done, and its time is over, in one turn of the loop."""

    async def wait_for(inner: Awaitable[Any], _timeout: float) -> Any:
        await inner
        raise TimeoutError

    original, asyncio.wait_for = asyncio.wait_for, wait_for  # type: ignore[assignment]
    try:
        yield
    finally:
        asyncio.wait_for = original


def test_a_slot_handed_over_just_at_the_deadline_is_given_back() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 1, 5), Gate()
        first = asyncio.create_task(lane.run(gate, soon()))
        await until(lambda: gate.inside == 1)
        with late_by_nothing():
            second = asyncio.create_task(lane.run(gate, soon()))
            await until(lambda: lane.facts()["waiting"] == 1)
        gate.open()
        await first
        with pytest.raises(LaneBusy):
            await second
        await idle(lane)

    run(scenario())


def test_work_that_ends_just_at_its_deadline_is_answered() -> None:
    async def scenario() -> None:
        lane = Lane("x", 1, 5)

        with late_by_nothing():
            assert await lane.run(lambda: "in time", soon()) == "in time"

    run(scenario())


def test_first_come_first_served() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 1, 10), Gate()
        order: list[int] = []
        tasks = [asyncio.create_task(lane.run(gate, soon()))]
        for number in range(5):
            await asyncio.sleep(0)
            work = functools.partial(order.append, number)
            tasks.append(asyncio.create_task(lane.run(work, soon())))  # type: ignore[arg-type]
        await until(lambda: lane.facts()["waiting"] == 5)
        gate.open()
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2, 3, 4]

    run(scenario())


def test_a_cancelled_asker_loses_no_slot_wherever_he_is() -> None:
    """Cancelled while waiting, at the very turn, and while the work runs."""

    async def scenario() -> None:
        lane = Lane("x", 2, 50, per_key=1)
        for turn in range(40):
            gate = Gate()
            tasks = [
                asyncio.create_task(lane.run(gate, soon(), key)) for key in ("a", "a", "b", "b")
            ]
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            if turn % 2:
                gate.open()
            tasks[turn % 4].cancel()
            await asyncio.sleep(0)
            gate.open()
            await asyncio.gather(*tasks, return_exceptions=True)
            await idle(lane)
        assert await lane.run(lambda: "alive", soon(), "a") == "alive"

    run(scenario())


def test_a_wait_that_is_cancelled_leaves_the_queue() -> None:
    async def scenario() -> None:
        lane, gate = Lane("x", 1, 1), Gate()
        first = asyncio.create_task(lane.run(gate, soon()))
        await until(lambda: gate.inside == 1)
        second = asyncio.create_task(lane.run(gate, soon()))
        await until(lambda: lane.facts()["waiting"] == 1)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert lane.facts()["waiting"] == 0
        gate.open()
        await first
        await idle(lane)

    run(scenario())


def test_a_closed_lane_says_so_and_keeps_its_count() -> None:
    async def scenario() -> None:
        lane = Lane("x", 1, 1)
        lane.close()
        with pytest.raises(ShuttingDown):
            await lane.run(lambda: None, soon())
        assert lane.facts()["running"] == 0

    run(scenario())
