"""The guard's own rules: who is thawed, and how often it is tried."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import VM, FakeDomains
from virtceph import guard as guards
from virtceph.guard import GRACE_S, Guard
from virtceph.host.records import (
    EXPIRED,
    PAUSES,
    ExpiredLeases,
    LeaseRecord,
    LeaseRecords,
    boottime_s,
)
from virtceph.process import DAEMON_LOCK, hold_lock


@pytest.fixture
def pauses(tmp_path: Path) -> LeaseRecords:
    return LeaseRecords(tmp_path / PAUSES)


@pytest.fixture
def domains() -> FakeDomains:
    return FakeDomains(state="Paused")


@pytest.fixture
def agent() -> FakeAgent:
    agent = FakeAgent()
    agent.frozen = True
    return agent


@pytest.fixture
def guard(tmp_path: Path, agent: FakeAgent, domains: FakeDomains) -> Guard:
    return Guard(tmp_path, agent, domains)  # type: ignore[arg-type]


def leave(records: LeaseRecords, left_s: float) -> None:
    records.put(LeaseRecord(VM, UUID(int=7), "uid:0", time.time(), boottime_s() + left_s, 2))


def look_until(guard: Guard, condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s
        guard.look()
        time.sleep(0.005)


def test_an_overdue_guest_is_thawed_and_its_record_removed(
    guard: Guard, records: LeaseRecords, agent: FakeAgent
) -> None:
    leave(records, -GRACE_S - 1)
    look_until(guard, lambda: not records.load())
    assert not agent.frozen


def test_what_is_not_overdue_is_left_to_the_daemon(
    guard: Guard, records: LeaseRecords, agent: FakeAgent
) -> None:
    leave(records, -GRACE_S / 2)
    assert guard.look() == 1
    time.sleep(0.05)
    assert agent.frozen
    assert agent.thaws == 0


def test_a_guest_that_stays_frozen_is_asked_again_and_less_and_less_often(
    guard: Guard, records: LeaseRecords, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guards, "_BACKOFF_S", (0.0, 0.02, 3600.0))
    agent.idle_thaws = 1000
    leave(records, -GRACE_S - 1)
    look_until(guard, lambda: agent.thaws == 3)
    for _ in range(20):
        guard.look()
        time.sleep(0.005)
    assert agent.thaws == 3
    assert records.load()


def test_a_guest_that_a_daemon_froze_anew_meanwhile_keeps_its_record(
    guard: Guard, records: LeaseRecords, agent: FakeAgent
) -> None:
    anew = LeaseRecord(VM, UUID(int=8), "uid:0", time.time(), boottime_s() + 60, 2)
    agent.in_thaw = lambda: records.put(anew)
    leave(records, -GRACE_S - 1)
    look_until(guard, lambda: agent.thaws == 1)
    for _ in range(10):
        guard.look()
        time.sleep(0.005)
    assert [record.window_id for record in records.load()] == [anew.window_id]


def test_a_host_that_has_no_thread_to_give_does_not_end_the_guards_work(
    guard: Guard, records: LeaseRecords, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    leave(records, -GRACE_S - 1)
    with monkeypatch.context() as patch:
        patch.setattr(guards.ThreadPoolExecutor, "submit", refuse)
        assert guard.look() == 1
    look_until(guard, lambda: not records.load())
    assert not agent.frozen


def test_a_guest_that_is_gone_needs_no_thaw(
    guard: Guard, records: LeaseRecords, agent: FakeAgent
) -> None:
    agent.mood = "gone"
    leave(records, -GRACE_S - 1)
    look_until(guard, lambda: not records.load())


def test_what_the_guard_thawed_is_told_as_run_out(
    guard: Guard, records: LeaseRecords, tmp_path: Path
) -> None:
    leave(records, -GRACE_S - 1)
    look_until(guard, lambda: not records.load())
    assert "the lease ran out" in (ExpiredLeases(tmp_path / EXPIRED).reason(VM) or "")


@pytest.mark.parametrize(
    ("daemon_runs", "left_s", "runs"), [(True, 60, False), (True, -9, True), (False, 60, True)]
)
def test_a_paused_vm_runs_again_at_its_deadline_or_without_a_daemon(
    guard: Guard,
    pauses: LeaseRecords,
    domains: FakeDomains,
    tmp_path: Path,
    daemon_runs: bool,
    left_s: float,
    runs: bool,
) -> None:
    leave(pauses, left_s)
    if daemon_runs:
        assert hold_lock(tmp_path / DAEMON_LOCK) is not None
    if runs:
        look_until(guard, lambda: not pauses.load())
        assert domains.state == "Up"
        return
    for _ in range(5):
        guard.look()
        time.sleep(0.01)
    assert domains.state == "Paused"
    assert pauses.load()
