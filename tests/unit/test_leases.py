"""Freeze leases: no guest stays frozen longer than asked for, and no broken freeze is called intact."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import VM, FakeDomains
from tests.fakes.fake_events import Heard
from tests.fakes.waiting import until as until_at_most
from virtceph import errors, request
from virtceph.host import leasebook, leases, rescue
from virtceph.host.leases import Leases, ThawResult
from virtceph.host.records import ExpiredLeases, LeaseRecord, LeaseRecords, boottime_s

until = partial(until_at_most, timeout_s=2.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "_BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr(leases, "_THAW_S", 0.3)
    monkeypatch.setattr(leasebook, "_THAW_UNDER_WAY_S", 0.3)


@pytest.fixture
def book(
    agent: FakeAgent,
    domains: FakeDomains,
    records: LeaseRecords,
    expired: ExpiredLeases,
    told: Heard,
) -> Iterator[Leases]:
    made = Leases(domains, agent, agent, 0.2, records, expired, tell=told)  # type: ignore[arg-type]
    yield made
    agent.in_freeze = agent.in_thaw = lambda: None
    agent.wake()
    domains.state = "Up"
    made.close(2)
    assert not made.frozen_count()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def as_caller(caller: str) -> None:
    request.enter(request.Request("1", caller, float("inf")))


@pytest.fixture(autouse=True)
def alice() -> None:
    as_caller("alice")


def by(caller: str, work: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        as_caller(caller)
        return work()

    return run


def heard(book: Leases) -> list[ThawResult]:
    """What a listener of the open window is told."""
    window = book.window_of(VM)
    assert window is not None
    told: list[ThawResult] = []
    assert book.at_end(window, told.append)
    return told


class Pause:
    """The agent gets that far and waits until it may go on."""

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.entered.set()
        assert self.go_on.wait(5)


def test_a_freeze_that_its_owner_thaws_is_intact(book: Leases, agent: FakeAgent) -> None:
    frozen = book.freeze(VM, 60)
    assert agent.frozen
    assert (frozen.filesystems, round(frozen.expires_in_s)) == (2, 60)
    told = heard(book)
    thawed = book.thaw(VM, force=False)
    assert (thawed.window_id, thawed.filesystems, thawed.intact) == (frozen.window_id, 2, True)
    assert told == [thawed]
    assert not agent.frozen
    assert book.window_of(VM) is None


def test_a_lease_that_runs_out_is_thawed_by_the_daemon_and_not_intact(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 0.05)
    told = heard(book)
    until(lambda: bool(told))
    assert not agent.frozen
    assert (told[0].intact, told[0].reason) == (False, "the lease ran out")
    assert not book.frozen_count()


def test_a_lease_that_runs_out_is_thawed_over_the_rescues_own_connections(
    agent: FakeAgent, domains: FakeDomains, records: LeaseRecords, expired: ExpiredLeases
) -> None:
    rescuer = FakeAgent()
    book = Leases(domains, agent, rescuer, 0.2, records, expired)  # type: ignore[arg-type]
    book.freeze(VM, 0.02)
    until(lambda: not book.frozen_count())
    assert (agent.thaws, rescuer.thaws) == (0, 1)
    book.close(1)


def test_a_thaw_after_the_lease_ran_out_says_that_the_daemon_had_no_freeze(book: Leases) -> None:
    book.freeze(VM, 0.02)
    until(lambda: not book.frozen_count())
    thawed = book.thaw(VM, force=False)
    assert (thawed.window_id, thawed.intact) == (None, False)


def test_a_freeze_that_comes_after_its_time_out_is_thawed(book: Leases, agent: FakeAgent) -> None:
    falls_silent(agent)
    with pytest.raises(errors.GuestAgentUnresponsive):
        book.freeze(VM, 60)
    told = heard(book)
    assert book.status(VM).lease is not None
    agent.wake()
    until(lambda: bool(told))
    assert agent.froze == 1
    assert not agent.frozen
    assert not told[0].intact


def falls_silent(agent: FakeAgent) -> None:
    """Once the file systems are told, and before the freeze."""
    agent.in_freeze = lambda: setattr(agent, "mood", "silent")


def test_an_unconfirmed_freeze_is_never_intact_even_if_nothing_was_frozen(
    book: Leases, agent: FakeAgent
) -> None:
    agent.in_freeze = lambda: setattr(agent, "mood", "lost")
    with pytest.raises(errors.LibvirtUnavailable):
        book.freeze(VM, 60)
    told = heard(book)
    agent.in_freeze = lambda: None
    agent.mood = "well"
    book.thaw(VM, force=False)
    assert [(result.intact, result.reason) for result in told] == [
        (False, "the freeze was not confirmed")
    ]


def test_an_unknown_failure_of_the_freeze_leaves_no_guest_frozen(
    book: Leases, agent: FakeAgent
) -> None:
    def breaks() -> None:
        agent.frozen = True
        raise RuntimeError

    agent.in_freeze = breaks
    with pytest.raises(RuntimeError):
        book.freeze(VM, 60)
    until(lambda: not agent.frozen and not book.frozen_count())


def test_a_refused_freeze_is_thawed_for_the_hooks_of_the_agent(
    book: Leases, agent: FakeAgent
) -> None:
    agent.in_freeze = lambda: setattr(agent, "mood", "refusing")
    with pytest.raises(errors.FreezeFailed):
        book.freeze(VM, 60)
    agent.mood = "well"
    until(lambda: not book.frozen_count())
    assert agent.thaws


@pytest.mark.parametrize(
    ("mood", "error"),
    [
        ("silent", errors.GuestAgentUnresponsive),
        ("paused", errors.FreezePaused),
        ("absent", errors.FreezeNoAgent),
        ("gone", errors.NoSuchVM),
        ("down", errors.VMDown),
    ],
)
def test_a_freeze_that_cannot_begin_leaves_nothing(
    book: Leases, agent: FakeAgent, mood: str, error: type[Exception]
) -> None:
    agent.mood = mood
    with pytest.raises(error):
        book.freeze(VM, 60)
    assert not book.frozen_count()
    assert (agent.froze, agent.thaws) == (0, 0)


@pytest.mark.parametrize(
    ("state", "error"),
    [("Paused", errors.FreezePaused), ("Down", errors.VMDown), ("gone", errors.NoSuchVM)],
)
def test_only_a_running_vm_is_frozen(
    book: Leases, domains: FakeDomains, state: str, error: type[Exception]
) -> None:
    domains.state = state
    with pytest.raises(error):
        book.freeze(VM, 60)


def test_a_guest_without_file_systems_is_not_called_frozen(book: Leases, agent: FakeAgent) -> None:
    agent.count = 0
    with pytest.raises(errors.NothingFrozen):
        book.freeze(VM, 60)
    assert not book.frozen_count()


def test_a_guest_that_another_tool_froze_is_left_frozen(book: Leases, agent: FakeAgent) -> None:
    agent.frozen = True
    with pytest.raises(errors.AlreadyFrozen):
        book.freeze(VM, 60)
    time.sleep(0.03)
    assert agent.frozen
    agent.frozen = False


def test_a_second_freeze_by_its_owner_never_shortens_the_lease(
    book: Leases, agent: FakeAgent
) -> None:
    first = book.freeze(VM, 60)
    second = book.freeze(VM, 10)
    assert second.window_id == first.window_id
    assert second.expires_in_s > 59
    assert book.freeze(VM, 120).expires_in_s > 119
    assert agent.froze == 1


def test_a_lease_that_ran_out_cannot_be_extended(book: Leases, agent: FakeAgent) -> None:
    agent.in_thaw = lambda: setattr(agent, "mood", "silent")
    book.freeze(VM, 0.02)
    until(lambda: agent.mood == "silent")
    with pytest.raises(errors.FreezeFailed, match="still thawing"):
        book.freeze(VM, 60)


def test_a_freeze_by_another_is_refused(book: Leases, pool: ThreadPoolExecutor) -> None:
    book.freeze(VM, 60)
    with pytest.raises(errors.FrozenByAnother) as caught:
        pool.submit(by("bob", lambda: book.freeze(VM, 60))).result()
    assert caught.value.owner == "alice"


def test_a_thaw_by_another_needs_force_and_is_not_intact(
    book: Leases, agent: FakeAgent, pool: ThreadPoolExecutor
) -> None:
    book.freeze(VM, 60)
    with pytest.raises(errors.ThawNeedsForce):
        pool.submit(by("bob", lambda: book.thaw(VM, force=False))).result()
    assert agent.frozen
    thawed = pool.submit(by("bob", lambda: book.thaw(VM, force=True))).result()
    assert isinstance(thawed, ThawResult)
    assert (thawed.intact, thawed.reason) == (False, "bob thawed it by force")


def test_a_thaw_of_fewer_file_systems_than_were_frozen_is_not_intact(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 60)
    agent.thawed_count = 1
    assert book.thaw(VM, force=False).reason == "2 file systems were frozen and 1 thawed"


def test_a_guest_thawed_behind_our_back_is_not_intact(book: Leases, agent: FakeAgent) -> None:
    book.freeze(VM, 60)
    agent.frozen = False
    assert not book.thaw(VM, force=False).intact


def test_an_agent_that_answers_an_error_and_is_thawed_is_not_intact(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 60)
    agent.frozen, agent.mood, agent.reason = False, "refusing", "VSS is limited up to 10 seconds"
    thawed = book.thaw(VM, force=False)
    assert (thawed.intact, thawed.reason) == (False, "VSS is limited up to 10 seconds")


def test_a_failed_thaw_is_tried_again_until_the_guest_is_thawed(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 60)
    agent.mood = "silent"
    with pytest.raises(errors.GuestAgentUnresponsive):
        book.thaw(VM, force=False)
    assert agent.frozen
    agent.wake()
    until(lambda: not agent.frozen and not book.frozen_count())


def test_a_guest_that_is_gone_ends_its_window(book: Leases, agent: FakeAgent) -> None:
    book.freeze(VM, 0.02)
    told = heard(book)
    agent.mood = "gone"
    until(lambda: bool(told))
    assert not book.frozen_count()
    agent.frozen = False


def test_a_thaw_of_a_guest_that_is_gone_ends_its_window(
    book: Leases, agent: FakeAgent, domains: FakeDomains
) -> None:
    book.freeze(VM, 60)
    told = heard(book)
    domains.state, agent.frozen = "Down", False
    with pytest.raises(errors.VMDown):
        book.thaw(VM, force=False)
    assert [result.reason for result in told] == ["the guest is gone"]


def test_close_thaws_every_guest_and_takes_no_new_freeze(
    agent: FakeAgent, domains: FakeDomains, records: LeaseRecords, expired: ExpiredLeases
) -> None:
    made = Leases(domains, agent, agent, 0.2, records, expired)  # type: ignore[arg-type]
    made.freeze(VM, 60)
    told = heard(made)
    made.close(2)
    assert not agent.frozen
    assert told[0].reason == "the daemon stopped"
    with pytest.raises(errors.ShuttingDown):
        made.freeze(VM, 60)


def test_close_says_which_guests_are_left_frozen(
    agent: FakeAgent,
    domains: FakeDomains,
    records: LeaseRecords,
    expired: ExpiredLeases,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = Leases(domains, agent, agent, 0.2, records, expired)  # type: ignore[arg-type]
    made.freeze(VM, 60)
    agent.mood = "silent"
    made.close(0.05)
    assert f"guests left frozen vms={VM}" in caplog.text


def test_a_thaw_is_believed_only_when_the_guest_says_that_it_is_thawed(
    book: Leases, agent: FakeAgent
) -> None:
    agent.idle_thaws = 2
    book.freeze(VM, 0.02)
    told = heard(book)
    until(lambda: bool(told))
    assert agent.thaws == 3
    assert not agent.frozen


def test_rescues_of_one_guest_do_not_pile_up(book: Leases, agent: FakeAgent) -> None:
    running, most = 0, 0
    guard = threading.Lock()

    def slow() -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with guard:
            running -= 1

    book.freeze(VM, 0.02)
    agent.mood, agent.in_thaw = "silent", slow
    time.sleep(0.2)
    assert most == 1


def test_the_daemon_waits_longer_from_try_to_try(
    book: Leases, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "_BACKOFF_S", (0.01, 0.02, 0.04, 0.08))
    tries: list[float] = []
    agent.in_thaw = lambda: tries.append(time.monotonic())
    book.freeze(VM, 0.01)
    agent.mood = "silent"
    until(lambda: len(tries) >= 5)
    gaps = [after - before for before, after in itertools.pairwise(tries)]
    assert gaps[3] > gaps[0]
    assert gaps[3] >= 0.08


def test_a_listener_that_comes_too_late_is_told_so(book: Leases) -> None:
    book.freeze(VM, 60)
    window = book.window_of(VM)
    assert window is not None
    book.thaw(VM, force=False)
    assert not book.at_end(window, lambda _result: None)


def test_every_listener_is_called_once_however_the_window_ends(
    book: Leases, pool: ThreadPoolExecutor
) -> None:
    for _ in range(30):
        book.freeze(VM, 0.004)
        window = book.window_of(VM)
        told: list[ThawResult] = []
        registered = 0
        thaw: Future[object] = pool.submit(by("alice", lambda: book.thaw(VM, force=False)))
        while window is not None and book.at_end(window, told.append):
            registered += 1
        thaw.result()
        until(lambda: not book.frozen_count())
        assert len(told) == registered
        assert len({id(result) for result in told}) <= 1


def test_a_listener_that_breaks_stops_neither_the_thaw_nor_the_others(book: Leases) -> None:
    book.freeze(VM, 60)
    window = book.window_of(VM)
    assert window is not None
    book.at_end(window, lambda _result: 1 / 0)  # type: ignore[arg-type]
    told = heard(book)
    assert book.thaw(VM, force=False).intact
    assert len(told) == 1


def test_a_thaw_that_comes_during_the_freeze_leaves_no_guest_frozen(
    book: Leases, agent: FakeAgent, pool: ThreadPoolExecutor
) -> None:
    pause = agent.in_freeze = Pause()
    freeze = pool.submit(by("alice", lambda: book.freeze(VM, 60)))
    assert pause.entered.wait(2)
    thaw = pool.submit(by("alice", lambda: book.thaw(VM, force=False)))
    time.sleep(0.03)
    pause.go_on.set()
    with pytest.raises(errors.FreezeFailed):
        freeze.result()
    assert isinstance(result := thaw.result(), ThawResult)
    assert not result.intact
    until(lambda: not agent.frozen and not book.frozen_count())


def test_a_thaw_does_not_wait_for_ever_for_a_freeze_and_the_guest_is_thawed_after_it(
    book: Leases, agent: FakeAgent, pool: ThreadPoolExecutor
) -> None:
    pause = agent.in_freeze = Pause()
    freeze = pool.submit(by("alice", lambda: book.freeze(VM, 60)))
    assert pause.entered.wait(2)
    with pytest.raises(errors.GuestAgentUnresponsive):
        book.thaw(VM, force=False)
    pause.go_on.set()
    with pytest.raises(errors.FreezeFailed):
        freeze.result()
    until(lambda: agent.froze == 1 and not agent.frozen and not book.frozen_count())


def test_a_freeze_waits_for_a_thaw_that_would_undo_it(
    book: Leases, agent: FakeAgent, pool: ThreadPoolExecutor
) -> None:
    pause = agent.in_thaw = Pause()
    thaw = pool.submit(by("bob", lambda: book.thaw(VM, force=False)))
    assert pause.entered.wait(2)
    freeze = pool.submit(by("alice", lambda: book.freeze(VM, 60)))
    time.sleep(0.03)
    assert not agent.froze
    pause.go_on.set()
    thaw.result()
    freeze.result()
    assert agent.frozen
    agent.in_thaw = lambda: None
    assert book.thaw(VM, force=False).intact


def test_the_status_tells_what_the_guest_says_and_the_lease(book: Leases, agent: FakeAgent) -> None:
    assert (book.status(VM).guest, book.status(VM).lease) == ("thawed", None)
    book.freeze(VM, 60)
    status = book.status(VM)
    assert status.guest == "frozen"
    assert status.lease is not None
    assert (status.lease.owner, status.lease.state) == ("alice", "frozen")
    agent.mood = "silent"
    status = book.status(VM)
    assert status.guest == "unknown"
    assert "no answer" in (status.reason or "")


# --- records ---


def crashed(
    records: LeaseRecords, left_s: float, filesystems: int = 2, owner: str = "alice"
) -> LeaseRecord:
    """What a daemon that was killed left on disk."""
    record = LeaseRecord(
        VM, UUID(int=5), owner, time.time(), boottime_s() + left_s, filesystems, [("/", ["vda"])]
    )
    records.put(record)
    return record


def test_a_freeze_is_on_disk_before_the_guest_is_asked(
    book: Leases, agent: FakeAgent, records: LeaseRecords
) -> None:
    seen: list[list[LeaseRecord]] = []
    agent.in_freeze = lambda: seen.append(records.load())
    book.freeze(VM, 60)
    assert [(r.vm_id, r.owner, r.filesystems) for r in seen[0]] == [(VM, "alice", 0)]
    (after,) = records.load()
    assert after.filesystems == 2
    assert 55 < after.left_s() <= 60
    book.thaw(VM, force=False)
    assert records.load() == []


def test_a_freeze_that_cannot_be_recorded_is_refused_and_the_guest_not_asked(
    book: Leases, agent: FakeAgent, tmp_path: Path
) -> None:
    (tmp_path / "leases").write_text("in the way")
    with pytest.raises(errors.FreezeFailed, match="cannot be recorded"):
        book.freeze(VM, 60)
    assert not agent.froze
    assert not book.frozen_count()


def test_a_lease_found_on_disk_keeps_its_deadline_and_owner_and_is_not_called_intact(
    book: Leases, agent: FakeAgent, records: LeaseRecords
) -> None:
    agent.frozen = True
    record = crashed(records, 60)
    book.adopt()
    window = book.window_of(VM)
    assert window is not None
    assert (window.id, window.owner) == (record.window_id, "alice")
    assert 55 < window.left_s() <= 60
    assert [fs.mountpoint for fs in window.mounted or []] == ["/"]
    thaw = book.thaw(VM, force=False)
    # Nobody watched the guest while no daemon ran.
    assert (thaw.intact, thaw.reason) == (False, "the daemon was restarted")


@pytest.mark.parametrize(
    ("left_s", "filesystems", "owner"),
    [(-5.0, 2, "alice"), (60.0, 0, "alice"), (60.0, 2, "job:of-the-dead")],
    ids=["overdue", "unconfirmed", "of-a-job"],
)
def test_a_lease_found_that_nobody_will_thaw_in_time_is_thawed_and_not_intact(
    book: Leases,
    agent: FakeAgent,
    records: LeaseRecords,
    left_s: float,
    filesystems: int,
    owner: str,
) -> None:
    agent.frozen = True
    crashed(records, left_s, filesystems, owner)
    (window,) = book.adopt()
    until(lambda: window.result is not None)
    assert not agent.frozen
    assert window.result is not None
    assert not window.result.intact
    until(lambda: not records.load())


def test_an_extended_lease_lasts_longer_and_is_on_disk(book: Leases, records: LeaseRecords) -> None:
    window_id = book.freeze(VM, 5).window_id
    extended = book.extend(VM, 60)
    assert (extended.window_id, extended.expires_in_s > 55) == (window_id, True)
    assert records.load()[0].left_s() > 55
    assert book.extend(VM, 1).expires_in_s > 55


def test_only_its_owner_extends_a_freeze_and_only_while_it_lasts(book: Leases) -> None:
    with pytest.raises(errors.NotFrozen):
        book.extend(VM, 60)
    book.freeze(VM, 60)
    as_caller("bob")
    with pytest.raises(errors.FrozenByAnother):
        book.extend(VM, 600)
    as_caller("alice")
    book.thaw(VM, force=False)
    with pytest.raises(errors.NotFrozen):
        book.extend(VM, 60)


def test_records_of_another_boot_are_removed_and_nonsense_is_left_alone(
    records: LeaseRecords, tmp_path: Path
) -> None:
    crashed(records, 60)
    path = tmp_path / "leases" / f"{VM}.json"
    path.write_text(path.read_text().replace('"boot_id": "', '"boot_id": "not-'))
    (tmp_path / "leases" / "nonsense.json").write_text("[]")
    assert records.load() == []
    assert [p.name for p in (tmp_path / "leases").iterdir()] == ["nonsense.json"]
