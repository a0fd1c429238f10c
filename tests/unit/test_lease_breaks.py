"""What ends or breaks a freeze from outside: the clock, libvirt, the guest itself; and who is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import VM, FakeDomains
from tests.fakes.fake_events import Heard
from tests.fakes.waiting import until as until_at_most
from virtceph import errors
from virtceph.host import pauses as pause_module
from virtceph.host import records as record_module
from virtceph.host import rescue
from virtceph.host.leases import Leases
from virtceph.host.pauses import Pauses
from virtceph.host.records import ExpiredLeases, LeaseRecord, LeaseRecords, boottime_s
from virtceph.host.strangers import Strangers
from virtceph.host.windows import Window, due_of
from virtceph.virt.events import DomainEvent, Happened

until = partial(until_at_most, timeout_s=5.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "_BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr(pause_module, "_AGAIN_S", 0.01)
    monkeypatch.setattr(pause_module, "_ADOPTED_AGAIN_S", 0.01)


@pytest.fixture
def book(
    agent: FakeAgent,
    domains: FakeDomains,
    records: LeaseRecords,
    expired: ExpiredLeases,
    told: Heard,
) -> Iterator[Leases]:
    made = Leases(domains, agent, agent, 0.2, records, expired, 120.0, told)  # type: ignore[arg-type]
    yield made
    agent.wake()
    domains.state = "Up"
    made.close(2)


@pytest.fixture
def pause_records(tmp_path: Path) -> LeaseRecords:
    return LeaseRecords(tmp_path / "pauses")


@pytest.fixture
def pauses(domains: FakeDomains, pause_records: LeaseRecords) -> Pauses:
    return Pauses(domains, pause_records)  # type: ignore[arg-type]


# --- the clock ---


def test_after_a_lease_ran_out_its_caller_is_told_until_the_next_thaw(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 0.05)
    until(lambda: not agent.frozen)
    with pytest.raises(errors.SnapshotFailed, match="the lease ran out"):
        book.require_not_expired(VM)
    book.thaw(VM, force=False)
    book.require_not_expired(VM)


def test_a_lease_that_ran_out_is_told_before_the_guest_could_be_thawed(
    book: Leases, agent: FakeAgent
) -> None:
    agent.in_thaw = lambda: setattr(agent, "mood", "silent")
    book.freeze(VM, 0.05)
    until(lambda: _is_expired(book))
    assert agent.frozen


def test_the_next_freeze_or_a_reset_ends_the_mark(book: Leases, agent: FakeAgent) -> None:
    for ending in (
        lambda: book.freeze(VM, 60),
        lambda: book.happened(DomainEvent(VM, Happened.RESET)),
        lambda: book.happened(DomainEvent(VM, Happened.STOPPED)),
    ):
        if agent.frozen:
            book.thaw(VM, force=False)
        book.freeze(VM, 0.02)
        until(lambda: not agent.frozen and book.window_of(VM) is None)
        assert _is_expired(book)
        ending()
        assert not _is_expired(book)


def test_the_mark_ends_by_itself(expired: ExpiredLeases, monkeypatch: pytest.MonkeyPatch) -> None:
    expired.add(VM, "the lease ran out")
    assert expired.reason(VM) == "the lease ran out 0 s ago"
    monkeypatch.setattr(record_module, "_EXPIRED_KEPT_S", -1.0)
    assert expired.reason(VM) is None
    monkeypatch.undo()
    assert expired.reason(VM) is None


def test_a_thaw_in_time_leaves_no_mark(book: Leases) -> None:
    book.freeze(VM, 60)
    book.thaw(VM, force=False)
    assert not _is_expired(book)


def test_a_lease_longer_than_this_host_allows_is_refused(book: Leases, agent: FakeAgent) -> None:
    with pytest.raises(errors.InvalidParameter, match="at most 120 seconds"):
        book.freeze(VM, 121)
    assert not agent.froze
    book.freeze(VM, 60)
    with pytest.raises(errors.InvalidParameter, match="timeout"):
        book.extend(VM, 121)


def _is_expired(book: Leases) -> bool:
    try:
        book.require_not_expired(VM)
    except errors.SnapshotFailed:
        return True
    return False


# --- what libvirt tells ---


def test_an_agent_that_went_away_meanwhile_breaks_the_freeze_and_nothing_else(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 60)
    book.happened(DomainEvent(VM, Happened.AGENT_LOST))
    assert agent.frozen
    thaw = book.thaw(VM, force=False)
    assert (thaw.filesystems, thaw.intact) == (2, False)
    assert "agent" in thaw.reason


def test_a_device_that_is_unplugged_meanwhile_breaks_the_freeze_and_nothing_else(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 60)
    book.happened(DomainEvent(VM, Happened.DEVICE_REMOVED, "virtio-disk1"))
    assert agent.frozen
    thaw = book.thaw(VM, force=False)
    assert (thaw.filesystems, thaw.intact) == (2, False)
    assert "a device was unplugged" in thaw.reason


def test_a_lost_libvirt_breaks_every_open_freeze(book: Leases, agent: FakeAgent) -> None:
    book.freeze(VM, 60)
    book.libvirt_lost("it was restarted")
    assert agent.frozen
    assert not book.thaw(VM, force=False).intact


@pytest.mark.parametrize("what", [Happened.RESET, Happened.MIGRATING])
def test_a_reset_or_migrating_guest_is_thawed_at_once(
    book: Leases, agent: FakeAgent, domains: FakeDomains, what: Happened
) -> None:
    domains.migrating = what is Happened.MIGRATING
    book.freeze(VM, 60)
    window = book.window_of(VM)
    assert window is not None
    book.happened(DomainEvent(VM, what))
    until(lambda: window.result is not None)
    assert not agent.frozen
    assert window.result is not None
    assert (window.result.intact, window.result.reason.startswith(what.value)) == (False, True)


def test_memory_that_is_saved_is_no_migration(book: Leases) -> None:
    book.freeze(VM, 60)
    book.happened(DomainEvent(VM, Happened.MIGRATING))
    assert book.thaw(VM, force=False).intact


@pytest.mark.parametrize("what", [Happened.STOPPED, Happened.LEFT])
def test_a_vm_that_is_gone_ends_its_lease_at_once(
    book: Leases, agent: FakeAgent, what: Happened
) -> None:
    book.freeze(VM, 60)
    agent.mood = "gone"
    book.happened(DomainEvent(VM, what))
    until(lambda: book.window_of(VM) is None)


def test_a_reset_during_the_freeze_leaves_nothing_frozen(book: Leases, agent: FakeAgent) -> None:
    agent.in_freeze = lambda: book.happened(DomainEvent(VM, Happened.RESET))
    with pytest.raises(errors.FreezeFailed):
        book.freeze(VM, 60)
    agent.in_freeze = lambda: None
    until(lambda: not agent.frozen and book.window_of(VM) is None)


def test_a_guest_that_can_be_reached_again_is_thawed_without_waiting(
    book: Leases, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "_BACKOFF_S", (3600.0,))
    agent.in_thaw = lambda: setattr(agent, "mood", "paused")
    book.freeze(VM, 0.02)
    window = book.window_of(VM)
    assert window is not None
    until(lambda: window.next_try_s > time.monotonic() + 60)
    agent.in_thaw, agent.mood = lambda: None, "well"
    book.happened(DomainEvent(VM, Happened.RESUMED))
    until(lambda: not agent.frozen)


def test_events_about_other_vms_change_nothing(book: Leases) -> None:
    book.freeze(VM, 60)
    for what in Happened:
        book.happened(DomainEvent(uuid4(), what))
    assert book.thaw(VM, force=False).intact


def test_guests_that_do_not_thaw_leave_threads_to_those_that_do() -> None:
    now_s = time.monotonic()

    def window(tries: int, rescued: bool = False) -> Window:
        return Window(uuid4(), "x", now_s - 1, state="thawing", tries=tries, rescued=rescued)

    hung, fresh = [window(3) for _ in range(20)], [window(0) for _ in range(9)]
    due = due_of([*hung, *fresh], now_s)
    assert [w for w in due if not w.tries] == fresh
    assert len([w for w in due if w.tries]) == 4
    busy = [window(3, rescued=True) for _ in range(4)]
    assert due_of([*hung, *busy], now_s) == []


# --- guests without a lease ---


@pytest.mark.parametrize(
    ("policy", "thawed"), [("report", False), ("thaw", True), ("ignore", False)]
)
def test_a_guest_found_frozen_by_nobody_known_is_treated_as_configured(
    book: Leases,
    agent: FakeAgent,
    domains: FakeDomains,
    caplog: pytest.LogCaptureFixture,
    policy: str,
    thawed: bool,
) -> None:
    agent.frozen = True
    strangers = Strangers(domains, agent, book, policy)  # type: ignore[arg-type]
    strangers.look_at_all()
    until(lambda: policy == "ignore" or "frozen by nobody known here" in caplog.text)
    if thawed:
        until(lambda: not agent.frozen and book.window_of(VM) is None)
    time.sleep(0.05)
    assert agent.frozen is not thawed
    strangers.close()


@pytest.mark.parametrize("state", ["connected", "disconnected"])
def test_a_guest_that_arrives_frozen_is_thawed_although_its_agent_is_not_yet_told_of(
    book: Leases, agent: FakeAgent, domains: FakeDomains, state: str
) -> None:
    domains.domain = replace(domains.domain, agent=state)
    agent.frozen = True
    Strangers(domains, agent, book, "report").arrived(VM)  # type: ignore[arg-type]
    until(lambda: not agent.frozen and book.window_of(VM) is None)


def test_our_own_leases_are_no_strangers(
    book: Leases, agent: FakeAgent, domains: FakeDomains
) -> None:
    book.freeze(VM, 60)
    Strangers(domains, agent, book, "thaw").arrived(VM)  # type: ignore[arg-type]
    time.sleep(0.1)
    assert agent.frozen
    assert book.thaw(VM, force=False).intact


def test_libvirts_own_time_out_is_put_back_when_a_lease_is_over(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 60)
    book.status(VM)
    assert not agent.put_backs
    book.thaw(VM, force=False)
    assert agent.put_backs == 1
    book.status(VM)
    assert agent.put_backs == 2


# --- pauses ---


def test_a_pause_is_on_disk_before_the_vm_stops_and_gone_when_it_runs(
    pauses: Pauses, domains: FakeDomains, pause_records: LeaseRecords
) -> None:
    on_disk: list[int] = []
    suspend = domains.suspend

    def look_and_suspend(vm_id: UUID) -> None:
        on_disk.append(len(pause_records.load()))
        suspend(vm_id)

    domains.suspend = look_and_suspend  # type: ignore[method-assign]
    with pauses.paused(VM, 30):
        assert domains.state == "Paused"
        (record,) = pause_records.load()
        assert 30 < record.left_s() < 60
    assert on_disk == [1]
    assert domains.state == "Up"
    assert not pause_records.load()


def test_a_vm_that_was_paused_stays_paused(pauses: Pauses, domains: FakeDomains) -> None:
    domains.state = "Paused"
    with pauses.paused(VM, 30):
        pass
    assert domains.state == "Paused"


def test_a_vm_runs_again_although_the_work_broke_and_libvirt_was_away(
    pauses: Pauses, domains: FakeDomains
) -> None:
    domains.resume_failures = 2
    with pytest.raises(RuntimeError), pauses.paused(VM, 30):
        raise RuntimeError
    assert domains.state == "Up"


def test_a_pause_that_does_not_end_is_told_and_left_to_the_guard(
    pauses: Pauses, domains: FakeDomains, pause_records: LeaseRecords
) -> None:
    domains.resume_failures = 99
    with pytest.raises(errors.SnapshotFailed, match="still paused"), pauses.paused(VM, 30):
        pass
    assert pause_records.load()


def test_a_pause_that_cannot_be_recorded_is_not_begun(
    pauses: Pauses, domains: FakeDomains, tmp_path: Path
) -> None:
    (tmp_path / "pauses").write_text("in the way")
    with pytest.raises(errors.SnapshotFailed, match="recorded"), pauses.paused(VM, 30):
        pytest.fail("paused without a record")
    assert domains.state == "Up"


def test_a_vm_that_was_paused_although_libvirt_did_not_say_so_runs_again(
    pauses: Pauses, domains: FakeDomains, pause_records: LeaseRecords
) -> None:
    def pause_and_be_lost(_vm_id: UUID) -> None:
        domains.state = "Paused"
        raise errors.LibvirtUnavailable("libvirtd went away")

    domains.suspend = pause_and_be_lost  # type: ignore[method-assign]
    with pytest.raises(errors.SnapshotFailed, match="went away"), pauses.paused(VM, 30):
        pytest.fail("worked without a pause")
    assert domains.state == "Up"
    assert not pause_records.load()


def test_a_vm_left_paused_by_a_daemon_before_runs_again(
    pauses: Pauses, domains: FakeDomains, pause_records: LeaseRecords
) -> None:
    domains.state, domains.resume_failures = "Paused", 3
    pause_records.put(LeaseRecord(VM, uuid4(), "virtcephd", time.time(), boottime_s() + 600))
    assert pauses.adopt() == [VM]
    until(lambda: domains.state == "Up" and not pause_records.load())


def test_nobody_waits_for_a_stranger(book: Leases, agent: FakeAgent, domains: FakeDomains) -> None:
    gate = threading.Event()
    agent.looks_frozen = lambda *_: gate.wait(5)  # type: ignore[method-assign,assignment]
    began_s = time.monotonic()
    Strangers(domains, agent, book, "report").look_at_all()  # type: ignore[arg-type]
    assert time.monotonic() - began_s < 1
    gate.set()


def test_a_thaw_after_the_lease_ran_out_says_so(book: Leases, agent: FakeAgent) -> None:
    book.freeze(VM, 0.05)
    until(lambda: not agent.frozen and book.window_of(VM) is None)
    thaw = book.thaw(VM, force=False)
    assert (thaw.intact, thaw.reason) == (False, "the lease ran out 0 s ago")


def test_a_status_tells_the_lease_as_it_is_after_the_guest_was_asked(
    book: Leases, agent: FakeAgent
) -> None:
    book.freeze(VM, 0.1)
    agent.is_frozen = lambda *_: time.sleep(0.3) or True  # type: ignore[method-assign,func-returns-value]
    status = book.status(VM)
    del agent.is_frozen
    assert status.lease is None or status.lease.state == "thawing"
