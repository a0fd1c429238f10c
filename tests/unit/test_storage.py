"""Storage domains: connected once, and gone with their key."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from pytest_mock import MockerFixture

from tests.fakes.fake_events import Heard
from tests.fakes.fake_storage import STORAGE_DOMAIN, FakeImages, FakeWorker, FakeWorkers
from tests.fakes.waiting import until
from virtceph import errors
from virtceph.ceph.cluster import Caps, PoolStats
from virtceph.ceph.monmap import Monitor
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.events import StorageDomainConnected as Connected
from virtceph.events import StorageDomainDisconnected as Disconnected
from virtceph.host import names
from virtceph.host import storage as module
from virtceph.host.names import SnapshotNames
from virtceph.host.storage import StorageDomains
from virtceph.host.storageinfo import Settings
from virtceph.sensitive import Sensitive
from virtceph.virt.xml import RbdSource

SECRET, FSID = UUID(int=5), UUID(int=6)
MONITORS = ("v1:10.0.1.1:6789", "10.0.1.2:3300")


class FakeCluster:
    """As `ceph.cluster.Cluster`; `caps` and `stats` are what the cluster answers."""

    caps = Caps(True, True, None)
    stats: Any = PoolStats(100, 40, "HEALTH_OK", 0.01)
    mon_map: tuple[Monitor, ...] = (Monitor("a", "10.0.1.3:6789", "10.0.1.3:3300"),)
    addresses: frozenset[str] = frozenset()
    made: list[FakeCluster]

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec, self.fsid, self.closed = spec, FSID, False
        FakeCluster.made.append(self)

    def check(self, _pool: PoolSpec) -> Caps:
        if isinstance(self.caps, Exception):
            raise self.caps
        return self.caps

    def pool_stats(self, _pool: PoolSpec) -> PoolStats:
        if isinstance(self.stats, Exception):
            raise self.stats
        found: PoolStats = self.stats
        return found

    def monitors(self) -> tuple[Monitor, ...]:
        self.addresses = frozenset(a for monitor in self.mon_map for a in monitor.addresses())
        return self.mon_map

    def close(self) -> None:
        self.closed = True


class FakePool:
    made: list[FakePool]

    def __init__(self, *_all: object) -> None:
        self.closed, self.dead = False, set[int]()
        FakePool.made.append(self)

    def pids(self) -> list[int]:
        return [1]

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def ceph(monkeypatch: pytest.MonkeyPatch, mocker: MockerFixture) -> None:
    # librados needs a cluster even to say no: these two classes are the border.
    mocker.patch.object(module, "Cluster", FakeCluster)
    mocker.patch.object(module, "WorkerPool", FakePool)
    monkeypatch.setattr(FakeCluster, "made", [], raising=False)
    monkeypatch.setattr(FakePool, "made", [], raising=False)


@pytest.fixture
def keys() -> dict[UUID, Sensitive]:
    return {SECRET: Sensitive(b"key")}


@pytest.fixture
def domains(keys: dict[UUID, Sensitive], told: Heard) -> StorageDomains:
    def key_of(uuid: UUID) -> Sensitive:
        if uuid not in keys:
            raise errors.NoSuchSecret(uuid)
        return keys[uuid]

    return StorageDomains(key_of, op_timeout_s=5.0, workers=2, tell=told)


def settings(**other: Any) -> Settings:
    usual = {
        "storage_domain_id": STORAGE_DOMAIN,
        "name": "vms",
        "monitors": MONITORS,
        "user": "cinder",
        "secret_uuid": SECRET,
        "pool": "vms",
        "namespace": "",
    }
    return Settings(**{**usual, **other})


def test_a_domain_is_connected_with_its_key_and_listed(domains: StorageDomains) -> None:
    report = domains.connect(settings())
    assert (report.fsid, report.caps.write) == (FSID, True)
    assert FakeCluster.made[0].spec.key == Sensitive(b"key")
    (listed,) = domains.connected()
    assert (listed.pool, listed.fsid) == ("vms", FSID)


def test_connecting_again_is_the_same_connection(domains: StorageDomains) -> None:
    first = domains.connect(settings())
    assert domains.connect(settings()) == first
    assert len(FakeCluster.made) == 1


@pytest.mark.parametrize("field", ["name", "monitors", "user", "secret_uuid", "pool", "namespace"])
def test_the_same_id_with_other_settings_is_refused(domains: StorageDomains, field: str) -> None:
    domains.connect(settings())
    other: Any = {"monitors": ("x:1",), "secret_uuid": UUID(int=9)}.get(field, "other")
    with pytest.raises(errors.StorageDomainExists) as caught:
        domains.connect(settings(**{field: other}))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("caps", "missing"),
    [
        (Caps(True, False, None), "osd 'profile rbd'"),
        (Caps(True, True, False), "mon 'profile rbd'"),
    ],
)
def test_a_user_who_may_too_little_is_refused_and_nothing_is_left(
    domains: StorageDomains, monkeypatch: pytest.MonkeyPatch, caps: Caps, missing: str
) -> None:
    monkeypatch.setattr(FakeCluster, "caps", caps)
    with pytest.raises(errors.CephPermissionDenied, match=missing):
        domains.connect(settings())
    assert FakeCluster.made[0].closed
    assert domains.connected() == []


def test_a_key_that_is_not_registered_is_told(domains: StorageDomains) -> None:
    with pytest.raises(errors.NoSuchSecret):
        domains.connect(settings(secret_uuid=UUID(int=9)))
    assert FakeCluster.made == []


def test_a_key_that_goes_while_its_domain_is_connected_takes_the_domain_with_it(
    domains: StorageDomains, keys: dict[UUID, Sensitive], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unregister(cluster: FakeCluster, _pool: PoolSpec) -> Caps:
        keys.clear()
        domains.drop_secrets({SECRET})  # finds nothing yet
        return cluster.caps

    monkeypatch.setattr(FakeCluster, "check", unregister)
    with pytest.raises(errors.NoSuchSecret):
        domains.connect(settings())
    assert domains.connected() == []
    assert FakeCluster.made[0].closed
    assert FakePool.made[0].closed


def test_dropping_a_secret_closes_its_domains_and_no_others(
    domains: StorageDomains, keys: dict[UUID, Sensitive]
) -> None:
    other = UUID(int=9)
    keys[other] = Sensitive(b"other")
    domains.connect(settings())
    domains.connect(settings(storage_domain_id=UUID(int=3), secret_uuid=other))
    domains.drop_secrets({other})
    until(lambda: FakeCluster.made[1].closed, 2)
    assert [listed.storage_domain_id for listed in domains.connected()] == [STORAGE_DOMAIN]


def test_disconnecting_an_unknown_domain_is_no_error(domains: StorageDomains) -> None:
    domains.disconnect(STORAGE_DOMAIN)
    with pytest.raises(errors.NoSuchStorageDomain):
        domains.get(STORAGE_DOMAIN)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (errors.CephUnavailable("no answer in time"), "no answer in time"),
        (errors.NoSuchPool("vms"), "Pool does not exist: vms"),
    ],
)
def test_a_cluster_that_does_not_answer_and_a_pool_that_is_gone_are_answers(
    domains: StorageDomains, monkeypatch: pytest.MonkeyPatch, failure: Exception, reason: str
) -> None:
    domains.connect(settings())
    monkeypatch.setattr(FakeCluster, "stats", failure)
    stats = domains.stats(STORAGE_DOMAIN)
    assert (stats.reachable, stats.reason) == (False, reason)


def test_stats_tell_room_health_and_latency(domains: StorageDomains) -> None:
    domains.connect(settings())
    stats = domains.stats(STORAGE_DOMAIN)
    assert (stats.reachable, stats.capacity_bytes, stats.used_bytes) == (True, 100, 40)


@pytest.mark.parametrize(
    ("source", "owned"),
    [
        (RbdSource("vms", "", "x", ("10.0.1.2:3300",)), True),
        (RbdSource("vms", "", "x", ("10.0.1.1:6789", "other:1")), True),
        (RbdSource("vms", "", "x", ()), True),
        (RbdSource("vms", "", "x", ("10.9.9.9:6789",)), False),
        (RbdSource("vms", "space", "x", ()), False),
        (RbdSource("other", "", "x", ()), False),
    ],
)
def test_a_disk_belongs_to_the_domain_of_its_pool_and_monitors(
    domains: StorageDomains, source: RbdSource, owned: bool
) -> None:
    domains.connect(settings())
    assert (domains.of(source) is not None) is owned


def test_domains_of_one_cluster_share_its_slots(domains: StorageDomains) -> None:
    domains.connect(settings())
    domains.connect(settings(storage_domain_id=UUID(int=3), monitors=MONITORS[::-1]))
    assert domains.cluster_key(str(STORAGE_DOMAIN)) == domains.cluster_key(str(UUID(int=3)))
    assert domains.cluster_key(str(UUID(int=4))) == str(UUID(int=4))
    assert domains.cluster_key("no id") == "no id"


def test_close_closes_everything(domains: StorageDomains) -> None:
    domains.connect(settings())
    domains.close()
    assert FakeCluster.made[0].closed
    assert FakePool.made[0].closed


def test_a_replaced_key_renews_the_connection_at_the_next_connect(
    domains: StorageDomains, keys: dict[UUID, Sensitive]
) -> None:
    domains.connect(settings())
    domains.connect(settings())
    assert len(FakeCluster.made) == 1
    keys[SECRET] = Sensitive(b"another")
    domains.connect(settings())
    assert [c.spec.key for c in FakeCluster.made] == [Sensitive(b"key"), Sensitive(b"another")]
    until(lambda: FakeCluster.made[0].closed and FakePool.made[0].closed, 2)
    assert not FakeCluster.made[1].closed


def test_a_disk_without_monitors_is_nobodys_where_two_clusters_have_its_pool(
    domains: StorageDomains,
) -> None:
    domains.connect(settings())
    domains.connect(settings(storage_domain_id=UUID(int=99)))
    source = RbdSource("vms", "", "web-root", ())
    assert domains.of(source) is not None
    FakeCluster.made[1].fsid = UUID(int=77)
    assert domains.of(source) is None


def test_a_new_connection_is_told_of_before_its_caller_is_answered(
    keys: dict[UUID, Sensitive],
) -> None:
    told: list[tuple[str, int]] = []
    domains = StorageDomains(
        keys.__getitem__,
        op_timeout_s=5.0,
        workers=2,
        on_connected=lambda domain: told.append((str(domain.pool), len(domains.connected()))),
    )
    domains.connect(settings())
    domains.connect(settings())
    assert told == [("vms", 1)]


def test_a_domain_is_found_by_cluster_pool_and_namespace(domains: StorageDomains) -> None:
    domains.connect(settings(namespace="blue"))
    assert domains.find(str(FSID), "vms", "blue") is domains.get(STORAGE_DOMAIN)
    for other in ((str(UUID(int=9)), "vms", "blue"), (str(FSID), "vms", ""), ("", "vms", "blue")):
        assert domains.find(*other) is None


@pytest.mark.parametrize("stats", [FakeCluster.stats, errors.NoSuchPool("vms")])
def test_monitors_that_answer_are_enough_whatever_they_know_of_the_pool(
    domains: StorageDomains, monkeypatch: pytest.MonkeyPatch, stats: Any
) -> None:
    domains.connect(settings())
    monkeypatch.setattr(FakeCluster, "stats", stats)
    domains.get(STORAGE_DOMAIN).require_monitors()


def test_monitors_that_do_not_answer_are_told(
    domains: StorageDomains, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains.connect(settings())
    monkeypatch.setattr(FakeCluster, "stats", errors.CephUnavailable("no answer in time"))
    with pytest.raises(errors.CephUnavailable):
        domains.get(STORAGE_DOMAIN).require_monitors()


def test_a_snapshot_that_was_given_up_is_removed_by_a_worker_when_it_is_seen(
    domains: StorageDomains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_SWEEP_S", 0.5)
    monkeypatch.setattr(names, "_LOOK_AGAIN_S", 0.01)
    domains.connect(settings())
    domain: Any = domains.get(STORAGE_DOMAIN)
    domain.images = images = FakeImages("web-root")
    domain.workers = FakeWorkers(FakeWorker(images))
    domain.give_up(SnapshotNames(), "web-root", "nightly", 1.0)
    images.by_name["web-root"] |= {"nightly": None, "other": None}
    until(lambda: "nightly" not in images.by_name["web-root"], 2)
    assert list(images.by_name["web-root"]) == ["other"]


def test_a_disk_that_names_any_monitor_of_the_cluster_is_the_domains(
    domains: StorageDomains,
) -> None:
    """The monitors that the domain was connected with may be others by now."""
    domains.connect(settings())
    for monitor in ("10.0.1.1:6789", "10.0.1.2:3300", "10.0.1.3:6789", "10.0.1.3:3300"):
        assert domains.of(RbdSource("vms", "", "x", (monitor, "10.9.9.9:6789"))) is not None
    assert domains.of(RbdSource("vms", "", "x", ("10.9.9.9:6789",))) is None


@pytest.mark.parametrize(
    ("monitors", "port"),
    [(("10.0.1.1:6789",), 6789), (("10.0.1.1:3300",), 3300), (("v2:10.0.1.1:3333",), 3300)],
)
def test_a_disk_gets_the_monitors_of_the_moment_by_the_protocol_of_the_domain(
    domains: StorageDomains, monitors: tuple[str, ...], port: int
) -> None:
    domains.connect(settings(monitors=monitors))
    assert domains.get(STORAGE_DOMAIN).monitors_now() == (f"10.0.1.3:{port}",)


def test_all_users_of_a_pool_are_its_owners(domains: StorageDomains) -> None:
    domains.connect(settings())
    domains.connect(settings(storage_domain_id=UUID(int=9), user="other"))
    owners = domains.owners(RbdSource("vms", "", "x", ("10.0.1.1:6789",)))
    assert {owner.settings.user for owner in owners} == {"cinder", "other"}


def test_what_happens_to_a_domain_is_told(
    domains: StorageDomains, keys: dict[UUID, Sensitive], told: Heard
) -> None:
    domains.connect(settings())
    domains.connect(settings())  # as it is
    assert [vars(event) for event in told.of(Connected)] == [
        {
            "storage_domain_id": STORAGE_DOMAIN,
            "domain_name": "vms",
            "pool": "vms",
            "namespace": "",
            "fsid": FSID,
        }
    ]
    keys[SECRET] = Sensitive(b"another")
    domains.connect(settings())
    domains.disconnect(STORAGE_DOMAIN)
    domains.disconnect(STORAGE_DOMAIN)  # gone already
    domains.connect(settings())
    domains.drop_secrets({SECRET})
    causes = [event.cause for event in told.of(Disconnected)]
    assert causes == ["replaced", "asked", "secret"]
    assert len(told.of(Connected)) == 3
