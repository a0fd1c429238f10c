"""Volume.create, Volume.rename, Volume.setQos: what must hold, and what is found when asked again.

And what Volume.getInfo, Volume.getQos and Volume.listSnapshots make of what is found.
"""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_domains import VM, FakeDomains, rbd_disk
from tests.fakes.fake_storage import STORAGE_DOMAIN
from tests.fakes.fake_volumes import (
    LAYERS,
    OUR_ADDRESS,
    OURS,
    FullDomain,
    FullDomains,
    FullImages,
    clone,
    image,
    no_reply,
    snapshot,
    watched,
)
from virtceph import errors
from virtceph.ceph.changes import RENAMED_KEY
from virtceph.ceph.clones import Ancestry
from virtceph.ceph.imageinfo import Lock, ParentSpec, Watch
from virtceph.ceph.monitors import PoolLimits
from virtceph.ceph.qos import Qos
from virtceph.host.users import ImageUsers
from virtceph.host.volumeinfo import VolumeInfo, VolumeInfos
from virtceph.host.volumes import NewVolume, Volumes
from virtceph.units import GiB, MiB


@pytest.fixture
def images(domain: FullDomain) -> FullImages:
    return domain.images


@pytest.fixture
def volumes(storage: FullDomains) -> Volumes:
    return Volumes(storage, 12.0)  # type: ignore[arg-type]


@pytest.fixture
def infos(storage: FullDomains, domains: FakeDomains) -> VolumeInfos:
    return VolumeInfos(storage, ImageUsers(domains))  # type: ignore[arg-type]


def wanted(name: str = "new", **other: Any) -> NewVolume:
    how = {"size_bytes": GiB, "object_size_bytes": 4 * MiB, "features": LAYERS, "qos": Qos()}
    return NewVolume(name, **{"data_pool": None, **how, **other})


# --- create ---


def test_an_image_is_created_as_asked(volumes: Volumes, images: FullImages) -> None:
    volumes.create(STORAGE_DOMAIN, wanted())
    made = images.by_name["new"]
    assert (made.size_bytes, made.object_size_bytes, made.features) == (GiB, 4 * MiB, LAYERS)


def test_creating_the_same_again_is_no_error(volumes: Volumes, domain: FullDomain) -> None:
    domain.change("web-root", features=[*LAYERS, "data-pool", "operations"])
    volumes.create(STORAGE_DOMAIN, wanted("web-root"))


@pytest.mark.parametrize(
    "other",
    [
        {"size_bytes": 512},
        {"object_size_bytes": MiB},
        {"features": []},
        {"data_pool": "x"},
        {"qos": Qos(iops=5)},
    ],
)
def test_an_image_of_other_properties_is_in_the_way(
    volumes: Volumes, other: dict[str, Any]
) -> None:
    with pytest.raises(errors.VolumeExists):
        volumes.create(STORAGE_DOMAIN, wanted("web-root", **other))


def test_a_clone_is_not_what_creating_makes(volumes: Volumes, domain: FullDomain) -> None:
    domain.change("web-root", parent=ParentSpec("vms", "", "golden", "1a", "v1"))
    with pytest.raises(errors.VolumeExists):
        volumes.create(STORAGE_DOMAIN, wanted("web-root"))


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"object_size_bytes": 3 * MiB}, "objectSize"),
        ({"features": ["object-map"]}, "features"),
        ({"features": ["exclusive-lock", "fast-diff"]}, "features"),
        ({"size_bytes": GiB + 1}, "size"),
        ({"size_bytes": 511}, "size"),
        ({"size_bytes": 1 << 50}, "size"),
        ({"qos": Qos(iops_burst=5)}, "qos.iopsBurst"),
        ({"qos": Qos(iops=0, iops_burst=5)}, "qos.iopsBurst"),
        ({"qos": Qos(read_iops=10, read_iops_burst=9)}, "qos.readIopsBurst"),
        ({"qos": Qos(bandwidth_bytes_per_s=9, bandwidth_burst_time_s=2)}, "qos.bandwidthBurstTime"),
    ],
)
def test_impossible_layouts_and_limits_are_refused(
    volumes: Volumes, images: FullImages, other: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        volumes.create(STORAGE_DOMAIN, wanted(**other))
    assert caught.value.field == field
    assert "new" not in images.by_name


def test_an_image_as_large_as_ceph_can_map_is_not_refused(volumes: Volumes) -> None:
    volumes.create(STORAGE_DOMAIN, wanted(size_bytes=256_000_000 * 4 * MiB))
    volumes.create(STORAGE_DOMAIN, wanted("unmapped", size_bytes=1 << 50, features=["layering"]))


@pytest.mark.parametrize("data_pool", [None, "slow"])
def test_an_image_beyond_the_quota_of_the_pool_of_its_data_is_refused(
    volumes: Volumes, domain: FullDomain, data_pool: str | None
) -> None:
    limited = {data_pool or "vms": PoolLimits(GiB, full=False)}
    domain.pools = {"vms": PoolLimits(None, full=False), **limited}
    volumes.create(STORAGE_DOMAIN, wanted("fits", data_pool=data_pool))
    with pytest.raises(errors.InvalidParameter, match="quota of the pool") as caught:
        volumes.create(STORAGE_DOMAIN, wanted(size_bytes=GiB + 512, data_pool=data_pool))
    assert caught.value.field == "size"


def test_a_new_image_is_limited_before_it_is_told(volumes: Volumes, domain: FullDomain) -> None:
    volumes.create(STORAGE_DOMAIN, wanted(qos=Qos(iops=500, iops_burst=900)))
    (call,) = domain.workers.calls
    assert call.operation == "limit"
    assert call.arguments == {"name": "new", "limits": {"iops": 500, "iops_burst": 900}}


def test_a_new_image_that_cannot_be_limited_is_removed(
    volumes: Volumes, domain: FullDomain
) -> None:
    domain.workers.answers["limit"] = errors.CephUnavailable("the OSDs did not answer")
    with pytest.raises(errors.CephUnavailable):
        volumes.create(STORAGE_DOMAIN, wanted(qos=Qos(iops=500)))
    assert domain.workers.asked == ["limit", "remove"]


# --- a full pool ---


@pytest.mark.parametrize(
    "failure",
    [
        errors.PoolFull([], "set the limits"),
        errors.CephUnavailable("set the limits: no answer in time"),
        errors.LockOwnerStalled("web-root", 2.0),
        no_reply,
    ],
)
def test_a_full_pool_is_told_as_what_it_is(
    volumes: Volumes, domain: FullDomain, failure: Any
) -> None:
    domain.pools = {"vms": PoolLimits(None, full=True), "slow": PoolLimits(1, full=False)}
    domain.workers.answers["limit"] = failure
    with pytest.raises(errors.PoolFull) as caught:
        volumes.set_qos(STORAGE_DOMAIN, "web-root", Qos(iops=5))
    assert caught.value.pools == ["vms"]


def test_another_pool_that_is_full_explains_nothing(volumes: Volumes, domain: FullDomain) -> None:
    domain.pools = {"vms": PoolLimits(None, full=False), "slow": PoolLimits(1, full=True)}
    domain.workers.answers["limit"] = errors.CephUnavailable("no answer in time")
    with pytest.raises(errors.CephUnavailable):
        volumes.set_qos(STORAGE_DOMAIN, "web-root", Qos(iops=5))


def test_monitors_that_do_not_answer_hide_no_error(volumes: Volumes, domain: FullDomain) -> None:
    domain.pools = errors.CephUnavailable("the monitors did not answer in time")
    domain.workers.answers["limit"] = errors.LockOwnerStalled("web-root", 2.0)
    with pytest.raises(errors.LockOwnerStalled):
        volumes.set_qos(STORAGE_DOMAIN, "web-root", Qos(iops=5))


# --- rename ---


def renamed(name: str, old: str, **other: Any) -> Any:
    note = {"imageID": f"id-{name}", "from": old, "to": name, **other}
    return image(name, metadata={RENAMED_KEY: json.dumps(note)})


def test_a_renaming_asked_again_finds_what_it_did(volumes: Volumes, domain: FullDomain) -> None:
    domain.images.by_name = {"new": renamed("new", "web-root")}
    domain.workers.answers["rename"] = errors.NoSuchVolume("web-root")
    volumes.rename(STORAGE_DOMAIN, "web-root", "new")


@pytest.mark.parametrize(
    "there",
    [
        {},
        {"new": image("new")},
        {"new": renamed("new", "another")},
        {"new": renamed("new", "web-root", imageID="of the image it was copied from")},
        {"new": renamed("new", "web-root", to="what it was called then")},
        {"new": image("new", metadata={RENAMED_KEY: "no JSON"})},
    ],
)
def test_no_other_image_is_taken_for_the_renamed_one(
    volumes: Volumes, domain: FullDomain, there: dict[str, Any]
) -> None:
    domain.images.by_name = there
    domain.workers.answers["rename"] = errors.NoSuchVolume("web-root")
    with pytest.raises(errors.NoSuchVolume):
        volumes.rename(STORAGE_DOMAIN, "web-root", "new")


def test_a_renaming_to_the_same_name_is_refused(volumes: Volumes, domain: FullDomain) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        volumes.rename(STORAGE_DOMAIN, "web-root", "web-root")
    assert (caught.value.field, domain.workers.calls) == ("newName", [])


def test_a_renaming_without_a_reply_is_to_be_repeated(volumes: Volumes, domain: FullDomain) -> None:
    domain.workers.answers["rename"] = no_reply
    with pytest.raises(errors.CephUnavailable, match="ask again"):
        volumes.rename(STORAGE_DOMAIN, "web-root", "new")


# --- limits ---


def test_limits_that_an_owner_does_not_take_in_time_are_given_up(
    volumes: Volumes, domain: FullDomain
) -> None:
    domain.workers.answers["limit"] = no_reply
    with pytest.raises(errors.LockOwnerStalled) as caught:
        volumes.set_qos(STORAGE_DOMAIN, "web-root", Qos(iops=0))
    assert (caught.value.timeout_s, domain.workers.timeouts_s) == (12.0, [12.0])
    assert domain.workers.calls[0].arguments["limits"] == {"iops": 0}


def test_limits_of_the_volume_and_of_its_pool_are_told_apart(
    volumes: Volumes, domain: FullDomain
) -> None:
    metadata = {"conf_rbd_qos_iops_limit": "1K", "conf_rbd_qos_bps_limit": "0", "other": "x"}
    domain.change("web-root", metadata=metadata)
    domain.images.of_pool = Qos(write_iops=7)
    told = volumes.qos(STORAGE_DOMAIN, "web-root")
    assert told.volume == Qos(iops=1000, bandwidth_bytes_per_s=0)
    assert told.pool == Qos(write_iops=7)


# --- getInfo and listSnapshots ---


def told(infos: VolumeInfos) -> VolumeInfo:
    return infos.info(STORAGE_DOMAIN, "web-root")


def test_an_image_is_told_whole(infos: VolumeInfos, domain: FullDomain) -> None:
    kinds = ("user", "group", "deleted", "user", "mirror")
    states = [snapshot(n, f"s{n}", kind) for n, kind in enumerate(kinds, 1)]
    domain.change("web-root", snapshots=states, group="g", mirroring="primary")
    domain.images.clones_of["web-root"] = [clone(1, "kid"), clone(3, None, "dark")]
    info = told(infos)
    assert (info.size_bytes, info.used_bytes) == (GiB, 64 * MiB)
    assert (info.snapshots, info.group_snapshots, info.deleted_snapshots) == (2, 1, 1)
    assert [(c.snapshot_name, c.pool, c.volume_name) for c in info.clones] == [
        ("s1", "vms", "kid"),
        ("s3", "dark", None),
    ]
    assert (info.clone_count, info.depth, info.parent_volume) == (2, 0, None)


def test_no_answer_has_more_clones_than_anybody_reads(
    infos: VolumeInfos, domain: FullDomain
) -> None:
    domain.change("web-root", snapshots=[snapshot(1, "s")])
    domain.images.clones_of["web-root"] = [clone(1, f"kid-{n}") for n in range(1500)]
    assert (len(told(infos).clones), told(infos).clone_count) == (1000, 1500)


def test_a_deleted_snapshot_of_a_parent_has_the_name_it_had(
    infos: VolumeInfos, domain: FullDomain
) -> None:
    spec = ParentSpec("gold", "ns", "debian", "1a", "d65f1b80-ebe9")
    domain.change("web-root", parent=spec)
    domain.images.ancestry = Ancestry(spec, "v12", True, 3)
    info = told(infos)
    assert info.parent == "gold/ns/debian@d65f1b80-ebe9"
    assert info.parent_volume is not None
    assert (info.parent_volume.snapshot_name, info.parent_volume.deleted) == ("v12", True)
    assert info.depth == 3


def test_parents_that_may_not_be_read_have_no_depth(infos: VolumeInfos, domain: FullDomain) -> None:
    domain.change("web-root", parent=ParentSpec("gold", "", "debian", "1a", "v12"))
    info = told(infos)
    assert info.depth is None
    assert info.parent_volume is not None


def test_the_vm_behind_a_client_is_told_where_it_can_be_no_other(
    infos: VolumeInfos, domain: FullDomain
) -> None:
    domain.change("web-root", **watched(host="10.0.1.2"))
    info = told(infos)
    assert info.vms is not None
    assert [(vm.vm_id, vm.disk) for vm in info.vms] == [(VM, "vda")]
    assert [w.vm_id for w in info.watchers] == [VM]
    assert info.lock is not None
    assert (info.lock.vm_id, info.lock.watches) == (VM, True)


@pytest.mark.parametrize(
    "others",
    [
        [Watch("10.0.1.2:0/1", 1), Watch("10.0.1.2:0/2", 2)],  # two that it could be
        [Watch("10.0.1.3:0/1", 1)],  # on another host
        [Watch(OUR_ADDRESS, OURS)],  # ourselves
    ],
)
def test_no_client_is_called_a_vm_that_may_be_another(
    infos: VolumeInfos, domain: FullDomain, others: list[Watch]
) -> None:
    domain.change("web-root", watchers=others)
    assert [w.vm_id for w in told(infos).watchers] == [None] * len(others)


def test_a_vm_that_is_off_uses_nothing(
    infos: VolumeInfos, domain: FullDomain, domains: FakeDomains
) -> None:
    domains.state = "Down"
    domain.change("web-root", watchers=[Watch("10.0.1.2:0/1", 1)])
    info = told(infos)
    assert (info.vms, info.watchers[0].vm_id) == ([], None)


def test_a_disk_of_another_pool_or_namespace_is_another_image(
    infos: VolumeInfos, domains: FakeDomains
) -> None:
    disks = (rbd_disk("vda", "web-root", "slow"), rbd_disk("vdb", "web-root", "vms", "tenant"))
    domains.domain = FakeDomains([*disks, rbd_disk("vdc", "web-data")]).domain
    assert told(infos).vms == []


def test_a_libvirt_that_does_not_answer_is_not_taken_for_one_without_vms(
    infos: VolumeInfos, domain: FullDomain, domains: FakeDomains, monkeypatch: pytest.MonkeyPatch
) -> None:
    def states() -> None:
        raise errors.LibvirtUnavailable("it is not running")

    monkeypatch.setattr(domains, "states", states)
    domain.change("web-root", watchers=[Watch("10.0.1.2:0/1", 1)])
    info = told(infos)
    assert (info.vms, info.watchers[0].vm_id) == (None, None)


def test_a_lock_whose_owner_no_longer_watches_is_told_as_such(
    infos: VolumeInfos, domain: FullDomain
) -> None:
    domain.change("web-root", lock=Lock("10.0.1.9:0/1", 4119, "auto 1"))
    info = told(infos)
    assert info.lock is not None
    assert (info.lock.watches, info.lock_owner) == (False, "10.0.1.9:0/1")


def test_snapshots_are_told_with_their_clones(infos: VolumeInfos, domain: FullDomain) -> None:
    states = [snapshot(1, "a", protected=True), snapshot(2, "b"), snapshot(3, "c", "deleted")]
    domain.change("web-root", snapshots=states)
    domain.images.clones_of["web-root"] = [clone(1, "kid"), clone(3, "other")]
    first, second = infos.snapshots(STORAGE_DOMAIN, "web-root")
    assert (first.protected, [c.volume_name for c in first.clones]) == (True, ["kid"])
    assert (second.protected, second.clones) == (False, [])


def test_a_domain_that_is_not_connected_is_told(infos: VolumeInfos) -> None:
    with pytest.raises(errors.NoSuchStorageDomain):
        infos.info(UUID(int=1), "web-root")
