"""What is told of freezes by events: each once, in order, and with the cause of its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import VM, FakeDomains
from tests.fakes.fake_events import Heard
from tests.fakes.waiting import until
from virtceph import errors, request
from virtceph.events import LeaseExpired, VMFoundFrozen, VMFrozen, VMNotThawed, VMThawed
from virtceph.host import rescue
from virtceph.host.leases import Leases
from virtceph.host.records import ExpiredLeases, LeaseRecords
from virtceph.host.strangers import Strangers
from virtceph.virt.events import DomainEvent, Happened


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescue, "_BACKOFF_S", (0.01,))


@pytest.fixture
def book(
    agent: FakeAgent,
    domains: FakeDomains,
    records: LeaseRecords,
    expired: ExpiredLeases,
    told: Heard,
) -> Iterator[Leases]:
    as_caller("alice")
    made = Leases(domains, agent, agent, 0.2, records, expired, tell=told)  # type: ignore[arg-type]
    yield made
    agent.wake()
    domains.state = "Up"
    made.close(2)


def as_caller(caller: str) -> None:
    request.enter(request.Request("1", caller, float("inf")))


def ended(told: Heard) -> VMThawed:
    until(lambda: bool(told.of(VMThawed)))
    (event,) = told.of(VMThawed)
    return event


def test_a_freeze_and_its_thaw_are_told_with_who_did_it(book: Leases, told: Heard) -> None:
    freeze = book.freeze(VM, 60)
    book.freeze(VM, 60)  # the same
    (frozen,) = told.of(VMFrozen)
    assert (frozen.vm_id, frozen.window_id) == (VM, freeze.window_id)
    assert (frozen.owner, frozen.filesystems, frozen.adopted) == ("alice", 2, False)
    assert 59 < frozen.expires_in_s <= 60
    book.thaw(VM, force=False)
    thawed = ended(told)
    assert (thawed.cause, thawed.caller, thawed.intact) == ("verb", "alice", True)
    assert told.names() == ["vm_frozen", "vm_thawed"]


def test_a_thaw_by_somebody_else_is_told_as_force(book: Leases, told: Heard) -> None:
    book.freeze(VM, 60)
    as_caller("bob")
    book.thaw(VM, force=True)
    thawed = ended(told)
    assert (thawed.owner, thawed.cause, thawed.caller) == ("alice", "force", "bob")


def test_a_thaw_of_what_nobody_froze_is_not_told(book: Leases, told: Heard) -> None:
    book.thaw(VM, force=False)
    assert told.events == []


def test_a_lease_that_runs_out_is_told_before_its_end(book: Leases, told: Heard) -> None:
    book.freeze(VM, 0.05)
    assert (ended(told).cause, ended(told).intact) == ("lease", False)
    assert told.names() == ["vm_frozen", "lease_expired", "vm_thawed"]
    (expired,) = told.of(LeaseExpired)
    assert expired.owner == "alice"


@pytest.mark.parametrize("mood", ["paused", "absent"])
def test_a_freeze_that_did_not_begin_is_not_told(
    book: Leases, agent: FakeAgent, domains: FakeDomains, told: Heard, mood: str
) -> None:
    agent.mood = mood
    with pytest.raises(errors.VirtcephError):
        book.freeze(VM, 60)
    assert told.events == []


def test_a_freeze_that_froze_nothing_is_not_told(
    book: Leases, agent: FakeAgent, told: Heard
) -> None:
    agent.count = 0
    with pytest.raises(errors.NothingFrozen):
        book.freeze(VM, 60)
    assert told.events == []


def test_a_freeze_that_was_not_confirmed_is_told_when_it_is_undone(
    book: Leases, agent: FakeAgent, told: Heard
) -> None:
    agent.in_freeze = lambda: setattr(agent, "mood", "silent")
    with pytest.raises(errors.GuestAgentUnresponsive):
        book.freeze(VM, 0.4)
    agent.wake()
    assert ended(told).cause == "uncertain"
    assert "vm_frozen" not in told.names()


def test_a_guest_that_does_not_thaw_is_told_at_the_first_try_and_ever_less_often(
    book: Leases, agent: FakeAgent, told: Heard
) -> None:
    book.freeze(VM, 0.05)
    agent.mood = "refusing"
    until(lambda: len(told.of(VMNotThawed)) >= 4)
    agent.wake()
    assert ended(told).cause == "lease"
    assert [event.tries for event in told.of(VMNotThawed)][:4] == [1, 2, 4, 8]
    assert told.of(VMNotThawed)[0].reason


@pytest.mark.parametrize(
    ("what", "cause"), [(Happened.RESET, "guest"), (Happened.MIGRATING, "guest")]
)
def test_what_happens_to_the_guest_is_told_as_the_cause(
    book: Leases, domains: FakeDomains, told: Heard, what: Happened, cause: str
) -> None:
    book.freeze(VM, 60)
    domains.migrating = True
    book.happened(DomainEvent(VM, what))
    assert ended(told).cause == cause


def test_a_vm_that_is_gone_is_told_as_the_cause(
    book: Leases, agent: FakeAgent, domains: FakeDomains, told: Heard
) -> None:
    book.freeze(VM, 60)
    domains.state = "gone"
    agent.mood = "gone"
    with pytest.raises(errors.NoSuchVM):
        book.thaw(VM, force=False)
    assert ended(told).cause == "gone"


def test_a_daemon_that_stops_tells_what_it_thaws(book: Leases, told: Heard) -> None:
    book.freeze(VM, 60)
    book.close(2)
    assert ended(told).cause == "stop"


def test_a_daemon_that_starts_tells_what_it_finds_and_what_it_undoes(
    agent: FakeAgent,
    domains: FakeDomains,
    records: LeaseRecords,
    expired: ExpiredLeases,
    told: Heard,
) -> None:
    as_caller("alice")
    before = Leases(domains, agent, agent, 0.2, records, expired)  # type: ignore[arg-type]
    freeze = before.freeze(VM, 0.2)
    # That one is dead: its reaper must not be the one that thaws.
    before._windows._open.clear()
    after = Leases(domains, agent, agent, 0.2, records, expired, tell=told)  # type: ignore[arg-type]
    after.adopt()
    (found,) = told.of(VMFrozen)
    assert (found.window_id, found.owner, found.adopted) == (freeze.window_id, "alice", True)
    assert ended(told).cause == "lease"
    after.close(2)


@pytest.mark.parametrize(("policy", "thawed"), [("report", False), ("thaw", True)])
def test_a_guest_that_nobody_known_froze_is_told(
    book: Leases, agent: FakeAgent, domains: FakeDomains, told: Heard, policy: str, thawed: bool
) -> None:
    agent.frozen = True
    strangers = Strangers(domains, agent, book, policy, told)  # type: ignore[arg-type]
    strangers.look_at_all()
    until(lambda: bool(told.of(VMFoundFrozen)))
    assert told.events[0] == VMFoundFrozen(VM, thawed)
    if thawed:
        assert ended(told).cause == "found"
    strangers.close()
    agent.frozen = False
