"""The watch of storage domains: changes are told once, and nothing waits for a cluster that is away."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_events import Heard
from tests.fakes.waiting import until
from virtceph import errors
from virtceph.ceph.cluster import PoolStats
from virtceph.ceph.monitors import PoolLimits
from virtceph.ceph.spec import PoolSpec
from virtceph.events import (
    PoolFull,
    PoolHasRoom,
    PoolNearlyFull,
    StorageDomainReachable,
    StorageDomainUnreachable,
)
from virtceph.host import storagewatch
from virtceph.host.storagewatch import StorageWatch

IDENT = UUID(int=5)


class FakeDomain:
    """As `host.storage.StorageDomain`. `answer` is what a question to its cluster comes to."""

    def __init__(self, ident: UUID = IDENT) -> None:
        self.settings = SimpleNamespace(storage_domain_id=ident)
        self.pool, self.cluster = PoolSpec("vms"), self
        self.answer: Any = 0.01
        self.asked = self.rooms = 0
        self.stats: Any = PoolStats(1000, 100, "HEALTH_OK", 0.01)
        self.full, self.quota = False, None

    def probe(self) -> float:
        self.asked += 1
        answer = self.answer() if callable(self.answer) else self.answer
        if isinstance(answer, Exception):
            raise answer
        return float(answer)

    def pool_stats(self, _pool: PoolSpec) -> PoolStats:
        self.rooms += 1
        if isinstance(self.stats, Exception):
            raise self.stats
        found: PoolStats = self.stats
        return found

    def limits(self) -> dict[str, PoolLimits]:
        return {"vms": PoolLimits(self.quota, self.full)}

    def uses(self, used: int, capacity: int = 1000) -> None:
        self.stats = PoolStats(capacity, used, "HEALTH_OK", 0.01)


class FakeDomains:
    def __init__(self, *domains: FakeDomain) -> None:
        self.there = list(domains)

    def domains(self) -> list[FakeDomain]:
        return list(self.there)


@pytest.fixture(autouse=True)
def probe(monkeypatch: pytest.MonkeyPatch) -> None:
    # The border to librados: its answers are the domains'.
    monkeypatch.setattr(storagewatch, "probe", lambda cluster, _pool: cluster.probe())


@pytest.fixture
def domain() -> FakeDomain:
    return FakeDomain()


@pytest.fixture
def storage(domain: FakeDomain) -> FakeDomains:
    return FakeDomains(domain)


@pytest.fixture
def watch(storage: FakeDomains, told: Heard) -> Iterator[StorageWatch]:
    # Looked at by hand: the next time of its own is an hour away.
    made = StorageWatch(storage, 3600.0, 0.85, told)  # type: ignore[arg-type]
    yield made
    made.close()


def begin(watch: StorageWatch, domain: FakeDomain) -> None:
    watch.watch(domain)  # type: ignore[arg-type]
    until(lambda: domain.asked)
    until(lambda: watch.found()[0][1].latency_s or not watch.found()[0][1].reachable)


def look(watch: StorageWatch, domain: FakeDomain, *, with_room: bool = False) -> None:
    watch.look(domain, with_room=with_room)  # type: ignore[arg-type]


UNREACHABLE = errors.CephUnavailable("ask an OSD: no answer in time")


def test_a_cluster_that_stops_answering_is_told_once_and_again_when_it_answers(
    watch: StorageWatch, domain: FakeDomain, told: Heard
) -> None:
    begin(watch, domain)
    domain.answer = UNREACHABLE
    for _ in range(3):
        look(watch, domain)
    (lost,) = told.of(StorageDomainUnreachable)
    assert (lost.storage_domain_id, "no answer" in lost.reason) == (IDENT, True)
    ((_, health),) = watch.found()
    assert (health.reachable, health.failures) == (False, 3)
    domain.answer = 0.02
    look(watch, domain)
    look(watch, domain)
    (back,) = told.of(StorageDomainReachable)
    assert back.down_for_s >= 0
    ((_, health),) = watch.found()
    assert (health.reachable, health.latency_s, health.failures) == (True, 0.02, 3)


@pytest.mark.parametrize(
    "error",
    [
        errors.NoSuchPool("vms"),
        errors.CephPermissionDenied("u", "o", "m"),
        errors.CephFailed("o", 5, "r"),
    ],
)
def test_whatever_the_cluster_has_against_an_answer_is_no_answer(
    watch: StorageWatch, domain: FakeDomain, told: Heard, error: errors.VirtcephError
) -> None:
    begin(watch, domain)
    domain.answer = error
    look(watch, domain)
    assert told.of(StorageDomainUnreachable)[0].reason == error.message


def test_a_domain_that_is_disconnected_under_the_question_is_not_told(
    watch: StorageWatch, domain: FakeDomain, storage: FakeDomains, told: Heard
) -> None:
    begin(watch, domain)

    def disconnected() -> Exception:
        storage.there.clear()
        return errors.CephUnavailable("the storage domain was disconnected")

    domain.answer = disconnected
    look(watch, domain)
    assert told.events == []
    assert watch.found() == []


def test_a_pool_that_fills_up_is_told_step_by_step(
    watch: StorageWatch, domain: FakeDomain, told: Heard
) -> None:
    begin(watch, domain)
    for used, full in ((840, False), (850, False), (990, False), (1000, True), (1000, True)):
        domain.uses(used)
        domain.full = full
        look(watch, domain, with_room=True)
    assert told.events == [
        PoolNearlyFull(IDENT, "vms", 850, 1000),
        PoolFull(IDENT, "vms", 1000, 1000),
    ]
    # A little room is no news: it would be told again and again.
    domain.full = False
    for used in (840, 829, 100):
        domain.uses(used)
        look(watch, domain, with_room=True)
    assert told.events[2:] == [
        PoolNearlyFull(IDENT, "vms", 840, 1000),
        PoolHasRoom(IDENT, "vms", 829, 1000),
    ]


def test_a_quota_is_the_capacity_where_it_is_less(
    watch: StorageWatch, domain: FakeDomain, told: Heard
) -> None:
    domain.quota = 200  # type: ignore[assignment]
    domain.uses(180)
    begin(watch, domain)
    until(lambda: told.events)
    assert told.events == [PoolNearlyFull(IDENT, "vms", 180, 200)]


@pytest.mark.parametrize("stats", [errors.NoSuchPool("vms"), PoolStats(0, 0, "HEALTH_OK", 0.0)])
def test_room_that_is_not_known_yet_is_asked_for_again(
    watch: StorageWatch, domain: FakeDomain, stats: Any
) -> None:
    domain.stats = stats
    begin(watch, domain)
    look(watch, domain)
    ((_, health),) = watch.found()
    assert (health.room, domain.rooms >= 2) == (None, True)
    domain.uses(100)
    look(watch, domain)
    ((_, health),) = watch.found()
    assert health.room is not None
    asked = domain.rooms
    look(watch, domain)
    assert domain.rooms == asked  # from now on every sixth time


def test_a_cluster_that_hangs_delays_no_other_and_no_closing(told: Heard) -> None:
    hung, other = FakeDomain(UUID(int=1)), FakeDomain(UUID(int=2))
    go_on = threading.Event()

    def hang() -> float:
        assert go_on.wait(20)
        return 0.1

    hung.answer = hang
    storage = FakeDomains(hung, other)
    watch = StorageWatch(storage, 0.01, 0.85, told)  # type: ignore[arg-type]
    watch.watch(hung)  # type: ignore[arg-type]
    watch.watch(other)  # type: ignore[arg-type]
    until(lambda: other.asked > 5)
    assert hung.asked == 1
    watch.close()
    go_on.set()


def test_the_watch_of_a_domain_ends_with_it(told: Heard) -> None:
    ident = UUID(int=77)
    domain = FakeDomain(ident)
    storage = FakeDomains(domain)
    watch = StorageWatch(storage, 0.01, 0.85, told)  # type: ignore[arg-type]
    watch.watch(domain)  # type: ignore[arg-type]
    until(lambda: domain.asked > 2)
    storage.there.clear()
    name = f"watch-{ident}"
    until(lambda: name not in {thread.name for thread in threading.enumerate()})
    assert not watch._health
