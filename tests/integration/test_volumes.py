"""Volume.clone and what else is done to whole volumes on the real cluster, checked against `rbd`."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
import rbd

from tests.faults.pace import slowness
from tests.faults.waiting import until
from tests.integration.conftest import Rough, Site, remove_if_there
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.stall import stalled
from tests.integration.volumes import (
    blocklisted,
    connected,
    image_id,
    is_full,
    opened,
    orphan_lock,
    rbd_cli,
    rbd_do,
    set_quota,
)
from tests.lab.guest import Guest
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL, POOL2
from virtceph.schema import load_contract

VERBS = [v for v in load_contract().verbs.values() if v.name.startswith("Volume.")]


@pytest.fixture
def other_domain(site: Site) -> Iterator[UUID]:
    """A storage domain of the second pool."""
    with connected(site, pool=POOL2) as domain:
        yield domain


@pytest.fixture
def origin(site: Site, image: str) -> Iterator[str]:
    """An image with something in it, and the snapshot `s`; clones of it are called `…-clone`."""
    with opened(site, image) as handle:
        handle.write(b"before" * 1000, 4 << 20)
    site.volume("createSnapshot", image, snapshotName="s")
    yield image
    for pool in (POOL, POOL2):
        with site.ceph.pool(pool) as ioctx:
            remove_if_there(ioctx, f"{image}-clone")


def content(site: Site, name: str, pool: str = POOL) -> bytes:
    with site.ceph.pool(pool) as ioctx, rbd.Image(ioctx, name, read_only=True) as handle:
        return bytes(handle.read(4 << 20, 6000))


def names(site: Site, pool: str = POOL) -> list[str]:
    with site.ceph.pool(pool) as ioctx:
        return list(rbd.RBD().list(ioctx))


# --- bad input ---


BAD = {
    "UUID": "no-uuid",
    "Name": "a@b",
    "PoolName": "-x",
    "ImageID": "a/b",
    "Path": "x",
    "[Path]": ["x"],
    "ImageFormat": "iso",
    "integer": -1,
    "boolean": "perhaps",
    "string": 7,
    "Qos": {"iops": -1},
    "[ImageFeature]": ["nosuch"],
}
PARAMETERS = [(verb, param) for verb in VERBS for param in verb.params]


@pytest.mark.parametrize(
    ("verb", "param"), PARAMETERS, ids=[f"{v.name} {p.name}" for v, p in PARAMETERS]
)
def test_bad_input_is_refused_by_its_name_and_changes_nothing(
    site: Site, verb: Any, param: Any
) -> None:
    known = {"storageDomainID": site.storage_domain_id, "volumeName": "nosuch", "size": 512}
    known |= {"snapshotName": "nosuch", "newName": "nosuch", "qos": {}, "client": 1}
    known |= {"path": "/nosuch", "paths": ["/a", "/b"], "toSnapshot": "nosuch", "newSize": 512}
    wanted = {p.name: known[p.name] for p in verb.params if p.required}
    before = names(site)
    error = error_of(site.call, verb.name, **{**wanted, param.name: BAD[param.type]})
    assert error.code in (91, -32602)
    assert error.data["field"].startswith(param.name)
    assert error.data["expected"]
    assert names(site) == before


@pytest.mark.parametrize(
    ("qos", "field"),
    [
        ({"iopsBurst": 5}, "qos.iopsBurst"),
        ({"bandwidth": 10, "bandwidthBurst": 9}, "qos.bandwidthBurst"),
        ({"writeIops": 5, "writeIopsBurstTime": 2}, "qos.writeIopsBurstTime"),
        ({"iopsLimit": 5}, "qos.iopsLimit"),
        ({"iopsBurstTime": 0}, "qos.iopsBurstTime"),
        ({"readBandwidth": "1M"}, "qos.readBandwidth"),
    ],
)
def test_limits_that_librbd_would_only_log_about_are_refused(
    site: Site, image: str, qos: dict[str, Any], field: str
) -> None:
    error = error_of(site.volume, "setQos", image, qos=qos)
    assert (error.code, error.data["field"]) == (91, field)
    assert site.volume("getInfo", image)["metadata"] == {}


# --- clone ---


def test_a_clone_is_made_as_the_snapshot_was_and_found_when_asked_again(
    site: Site, origin: str
) -> None:
    asked = {"snapshotName": "s", "newName": f"{origin}-clone"}
    with opened(site, origin) as handle:
        handle.write(b"after!" * 1000, 4 << 20)
    assert site.volume("clone", origin, **asked) is True
    assert site.volume("clone", origin, **asked) is True
    assert content(site, f"{origin}-clone") == b"before" * 1000
    theirs = rbd_cli(site.ceph, "info", f"{POOL}/{origin}-clone")
    assert (theirs["parent"]["image"], theirs["parent"]["snapshot"]) == (origin, "s")
    assert theirs["parent"]["trash"] is False
    # Format 2: what it hangs on need not be protected.
    (snapshot,) = rbd_cli(site.ceph, "snap", "ls", f"{POOL}/{origin}")
    assert snapshot["protected"] == "false"
    assert not [name for name in names(site) if name.startswith(".")]


def test_a_clone_may_lie_in_another_pool_and_another_namespace(
    site: Site, origin: str, other_domain: UUID
) -> None:
    asked = {"snapshotName": "s", "newName": f"{origin}-clone", "newStorageDomainID": other_domain}
    for _ in range(2):
        assert site.volume("clone", origin, **asked) is True
    assert content(site, f"{origin}-clone", POOL2) == b"before" * 1000
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().namespace_create(ioctx, "clones")
    with connected(site, namespace="clones") as tenant:
        assert site.volume("clone", origin, **{**asked, "newStorageDomainID": tenant}) is True
        told = site.volume("getInfo", origin)["clones"]
        assert [(c["pool"], c["namespace"], c["volumeName"]) for c in told] == [
            (POOL, "clones", f"{origin}-clone"),
            (POOL2, "", f"{origin}-clone"),
        ]
        where = {"storageDomainID": tenant, "volumeName": f"{origin}-clone"}
        parent = site.call("Volume.getInfo", **where)["parentVolume"]
        assert (parent["pool"], parent["namespace"], parent["volumeName"]) == (POOL, "", origin)
        site.call("Volume.delete", **where)
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().namespace_remove(ioctx, "clones")


def test_another_image_is_in_the_way_of_a_clone(site: Site, origin: str) -> None:
    site.volume("createSnapshot", origin, snapshotName="t")
    asked = {"newName": f"{origin}-clone"}
    site.volume("clone", origin, snapshotName="s", **asked)
    for snapshot, new_name in (("t", f"{origin}-clone"), ("s", origin)):
        error = error_of(site.volume, "clone", origin, snapshotName=snapshot, newName=new_name)
        assert (error.name, error.data["volumeName"]) == ("VolumeExists", new_name)


def test_what_a_clone_cannot_be_made_of_is_told(site: Site, image: str) -> None:
    error = error_of(site.volume, "clone", image, snapshotName="nosuch", newName="new")
    assert (error.name, error.data["snapshotName"]) == ("NoSuchSnapshot", "nosuch")


def test_a_clone_into_another_cluster_is_refused(site: Site, rough: Rough, origin: str) -> None:
    secret = {"uuid": uuid.uuid4(), "usageType": "ceph", "usageID": f"ovirt/{uuid.uuid4()}"}
    password = rough.site.ceph.create_user(CEPH_USER)
    site.call("Host.registerSecrets", secrets=[{**secret, "password": password}])
    where = {"secretUUID": secret["uuid"], "monitors": rough.site.ceph.monitors}
    with connected(site, **where) as far:
        asked = {"snapshotName": "s", "newName": "new", "newStorageDomainID": far}
        error = error_of(site.volume, "clone", origin, **asked)
    site.call("Host.unregisterSecrets", uuids=[secret["uuid"]])
    assert error.name == "OperationNotSupported"
    assert "another cluster" in error.data["what"]


def test_the_snapshot_of_a_running_vm_is_cloned_and_the_vm_does_not_notice(
    site: Site, vm: Guest
) -> None:
    site.volume("createSnapshot", "shared-a", snapshotName="for-a-clone")
    before = vm.wait_for_records(1)[-1].number
    site.volume("clone", "shared-a", snapshotName="for-a-clone", newName="shared-clone")
    assert vm.wait_for_records(3)[-1].number >= before + 3
    site.volume("delete", "shared-clone")
    site.volume("deleteSnapshot", "shared-a", snapshotName="for-a-clone")


# --- rename ---


def test_a_renamed_volume_is_the_same_and_found_when_asked_again(site: Site, image: str) -> None:
    ident = image_id(site, image)
    for _ in range(2):
        assert site.volume("rename", image, newName=f"{image}-new") is True
    assert image_id(site, f"{image}-new") == ident
    assert image not in rbd_cli(site.ceph, "ls", POOL)
    assert site.volume("rename", f"{image}-new", newName=image) is True
    # Another one of the old name is no lost reply.
    site.volume("create", f"{image}-new", size=1 << 20)
    assert error_of(site.volume, "rename", f"{image}-new", newName=image).name == "VolumeExists"
    site.volume("delete", f"{image}-new")


def test_a_volume_that_somebody_has_open_is_not_renamed(site: Site, image: str) -> None:
    with opened(site, image):
        error = error_of(site.volume, "rename", image, newName=f"{image}-new")
    assert error.name == "VolumeInUse"
    assert image in names(site)


@pytest.mark.parametrize(
    ("verb", "params"), [("rename", {"newName": "new"}), ("rollback", {"snapshotName": "s"})]
)
def test_the_lock_of_one_that_may_be_stalled_is_not_broken_for_anything(
    site: Site, origin: str, verb: str, params: dict[str, str]
) -> None:
    with orphan_lock(site, image_id(site, origin)) as client:
        error = error_of(site.volume, verb, origin, **params)
        assert error.name == "LockOwnerStalled"
        lock = site.volume("getInfo", origin)["lock"]
        assert (lock["client"], lock["watches"], lock["ours"]) == (client, False, False)
        assert lock["address"] not in blocklisted(site.ceph)


def test_a_renaming_that_was_killed_half_way_is_ended_by_the_next(site: Site, image: str) -> None:
    """What librbd leaves when it is killed after its first step, and after its second."""
    ident = image_id(site, image)
    with site.ceph.pool(POOL) as ioctx:
        head = ioctx.read(f"rbd_id.{image}")
        ioctx.write_full(f"rbd_id.{image}-new", head)
        site.volume("rename", image, newName=f"{image}-new")
        assert image_id(site, f"{image}-new") == ident
        ioctx.write_full(f"rbd_id.{image}", head)
        site.volume("rename", image, newName=f"{image}-new")
    assert error_of(site.volume, "getInfo", image).name == "NoSuchVolume"
    assert site.volume("rename", f"{image}-new", newName=image) is True
    assert image_id(site, image) == ident


# --- limits ---


def test_limits_are_set_as_the_rbd_command_sees_them(site: Site, image: str) -> None:
    every = {
        f"{kind}{part}": number
        for number, kind in enumerate(
            ("iops", "readIops", "writeIops", "bandwidth", "readBandwidth", "writeBandwidth"), 10
        )
        for part, number in (("", number * 100), ("Burst", number * 200), ("BurstTime", number))
    }
    site.volume("setQos", image, qos=every)
    assert site.volume("getQos", image) == {"volume": every, "pool": {}}
    theirs = {
        option["name"].removeprefix("rbd_qos_"): int(option["value"])
        for option in rbd_cli(site.ceph, "config", "image", "ls", f"{POOL}/{image}")
        if option["source"] == "image"
    }
    assert len(theirs) == 18
    assert (theirs["iops_limit"], theirs["iops_burst"]) == (1000, 2000)
    assert (theirs["write_bps_limit"], theirs["write_bps_burst_seconds"]) == (1500, 15)
    assert theirs["read_iops_burst_seconds"] == 11
    site.volume("setQos", image, qos={"iops": 0})
    assert site.volume("getInfo", image)["qos"] == {"iops": 0}
    site.volume("setQos", image, qos={})
    assert site.volume("getInfo", image)["metadata"] == {}


def test_limits_of_the_pool_are_told_apart(site: Site, image: str) -> None:
    rbd_do(site.ceph, "config", "pool", "set", POOL, "rbd_qos_write_iops_limit", "5K")
    try:
        site.volume("setQos", image, qos={"iops": 7})
        assert site.volume("getQos", image) == {"volume": {"iops": 7}, "pool": {"writeIops": 5000}}
    finally:
        rbd_do(site.ceph, "config", "pool", "remove", POOL, "rbd_qos_write_iops_limit")


def test_a_volume_is_created_with_its_limits_and_found_with_them(site: Site) -> None:
    asked = {"size": 1 << 20, "qos": {"iops": 500}}
    for _ in range(2):
        assert site.volume("create", "limited", **asked) is True
    assert site.volume("getQos", "limited")["volume"] == {"iops": 500}
    for other in ({"size": 1 << 20}, {"size": 1 << 20, "qos": {"iops": 6}}):
        assert error_of(site.volume, "create", "limited", **other).name == "VolumeExists"
    site.volume("delete", "limited")


def test_a_limit_holds_at_once_for_who_has_the_volume_open_and_is_lifted_at_once(
    site: Site, image: str
) -> None:
    def written_s(count: int) -> float:
        began_s = time.monotonic()
        for number in range(count):
            handle.write(b"x" * 512, number * 4096)
            handle.flush()
        return time.monotonic() - began_s

    with (
        site.ceph.admin(rbd_cache="false") as client,
        client.open_ioctx(POOL) as ioctx,
        rbd.Image(ioctx, image) as handle,
    ):
        handle.write(b"x", 0)
        # Five of them are let through as a burst; the others take a fifth of a second each.
        site.volume("setQos", image, qos={"writeIops": 5})
        limited_s = written_s(40)
        assert limited_s > 4
        site.volume("setQos", image, qos={})
        assert written_s(40) < limited_s / 2


def test_a_running_vm_is_limited_and_writes_on(site: Site, vm: Guest) -> None:
    owner = site.volume("getInfo", "shared-a")["lockOwner"]
    for limits in ({"iops": 5000, "bandwidth": 1 << 30}, {}):
        before = vm.wait_for_records(1)[-1].number
        assert site.volume("setQos", "shared-a", qos=limits) is True
        assert vm.wait_for_records(5)[-1].number >= before + 5
    assert site.volume("getInfo", "shared-a")["lockOwner"] == owner
    assert owner not in blocklisted(site.ceph)


@pytest.mark.parametrize("stalled_before_s", [0, 20])
def test_a_stalled_vm_is_not_cut_off_for_its_limits(
    site: Site, make_guest: Callable[..., Guest], make_image: Any, stalled_before_s: float
) -> None:
    guest = make_guest(disks=[make_image(keep=True)])
    guest.wait_for_records(3)
    name = guest.spec.disks[0].image  # type: ignore[union-attr]
    owner = site.volume("getInfo", name)["lockOwner"]
    with stalled(guest):
        time.sleep(stalled_before_s)
        began_s = time.monotonic()
        error = error_of(site.volume, "setQos", name, qos={"iops": 5000})
        assert error.name == "LockOwnerStalled"
        assert time.monotonic() - began_s < 20
    guest.wait_for_records(5)
    assert owner not in blocklisted(site.ceph)
    assert site.volume("getQos", name)["volume"] == {}


# --- rollback ---


def test_a_volume_is_rolled_back_and_may_be_again(site: Site, origin: str) -> None:
    with opened(site, origin) as handle:
        handle.write(b"after!" * 1000, 4 << 20)
        error = error_of(site.volume, "rollback", origin, snapshotName="s")
    assert (error.name, content(site, origin)) == ("VolumeInUse", b"after!" * 1000)
    for _ in range(2):
        assert site.volume("rollback", origin, snapshotName="s") is True
    assert content(site, origin) == b"before" * 1000
    error = error_of(site.volume, "rollback", origin, snapshotName="nosuch")
    assert error.name == "NoSuchSnapshot"


def test_a_running_vm_is_not_rolled_back(site: Site, vm: Guest) -> None:
    site.volume("createSnapshot", "shared-a", snapshotName="back")
    assert error_of(site.volume, "rollback", "shared-a", snapshotName="back").name == "VolumeInUse"
    vm.wait_for_records(3)
    site.volume("deleteSnapshot", "shared-a", snapshotName="back")


# --- a mirror's secondary ---


@pytest.fixture
def secondary(site: Site, other_domain: UUID) -> Iterator[dict[str, Any]]:
    """A demoted image with the snapshot `s`, as verbs name it."""
    name = f"secondary-{uuid.uuid4().hex[:8]}"
    where = {"storageDomainID": other_domain, "volumeName": name}
    site.call("Volume.create", **where, size=8 << 20)
    site.call("Volume.createSnapshot", **where, snapshotName="s")
    with site.ceph.pool(POOL2) as ioctx:
        rbd.RBD().mirror_mode_set(ioctx, rbd.RBD_MIRROR_MODE_IMAGE)
        with rbd.Image(ioctx, name) as handle:
            handle.mirror_image_enable(rbd.RBD_MIRROR_IMAGE_MODE_SNAPSHOT)
            handle.mirror_image_demote()
        yield where
        with rbd.Image(ioctx, name) as handle:
            handle.mirror_image_promote(True)
            handle.mirror_image_disable(True)
        remove_if_there(ioctx, name)
        rbd.RBD().mirror_mode_set(ioctx, rbd.RBD_MIRROR_MODE_DISABLED)


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        ("createSnapshot", {"snapshotName": "t"}),
        ("deleteSnapshot", {"snapshotName": "s"}),
        ("rollback", {"snapshotName": "s"}),
        ("rename", {"newName": "renamed"}),
        ("setQos", {"qos": {"iops": 5}}),
    ],
)
def test_a_mirrors_secondary_is_told_as_what_it_is(
    site: Site, secondary: dict[str, Any], verb: str, params: dict[str, Any]
) -> None:
    error = error_of(site.call, f"Volume.{verb}", **secondary, **params)
    assert (error.name, error.data["retry"]) == ("VolumeNotPrimary", False)
    info = site.call("Volume.getInfo", **secondary)
    assert (info["mirroring"], info["snapshots"]) == ("secondary", 1)


# --- getInfo, listSnapshots and list ---


def test_an_image_is_told_as_the_rbd_command_tells_it(site: Site, origin: str) -> None:
    ours, theirs = site.volume("getInfo", origin), rbd_cli(site.ceph, "info", f"{POOL}/{origin}")
    (usage,) = [
        one
        for one in rbd_cli(site.ceph, "du", f"{POOL}/{origin}")["images"]
        if one.get("snapshot") == "s"
    ]
    assert ours["used"] == usage["used_size"] == 8 << 20
    assert set(theirs["features"]) == set(ours["features"])
    assert (ours["flags"], theirs["flags"]) == ([], [])
    assert (ours["snapshots"], theirs["snapshot_count"]) == (1, 1)
    assert (ours["depth"], ours["watchers"], ours["vms"], ours["qos"]) == (0, [], [], {})


@pytest.mark.parametrize("what", ["no map", "invalid map"])
def test_use_is_not_told_where_no_valid_map_tells_it(site: Site, image: str, what: str) -> None:
    name = image
    if what == "no map":
        name = f"{image}-plain"
        site.volume("create", name, size=8 << 20, features=["layering", "exclusive-lock"])
    with opened(site, name):
        pass
    if what == "invalid map":
        with site.ceph.pool(POOL) as ioctx:
            both = rbd.RBD_FLAG_OBJECT_MAP_INVALID | rbd.RBD_FLAG_FAST_DIFF_INVALID
            asked = b"".join(n.to_bytes(8, "little") for n in (both, both, (1 << 64) - 2))
            ioctx.execute(f"rbd_header.{image_id(site, name)}", "rbd", "set_flags", asked, 64)
    info = site.volume("getInfo", name)
    assert "used" not in info
    assert info["flags"] == (
        [] if what == "no map" else ["object-map-invalid", "fast-diff-invalid"]
    )
    if what == "no map":
        site.volume("delete", name)


def test_the_use_of_a_running_vms_image_is_told(site: Site, vm: Guest) -> None:
    info = site.volume("getInfo", "shared-a")
    assert 0 < info["used"] <= IMAGE_BYTES
    ((told,), (watcher,)) = info["vms"], info["watchers"]
    assert (told["vmId"], told["name"], told["disk"]) == (vm.uuid, vm.name, "vda")
    assert (watcher["vmId"], watcher["ours"]) == (vm.uuid, False)
    assert info["lock"]["client"] == watcher["client"]
    assert (info["lock"]["watches"], info["lock"]["vmId"]) == (True, vm.uuid)
    # A second client at this address: now either may be the VM.
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, "shared-a"):
        info = site.volume("getInfo", "shared-a")
    assert ["vmId" in one for one in info["watchers"]] == [False, False]


def test_a_chain_of_clones_is_told_from_both_ends(site: Site, origin: str) -> None:
    chain = [origin, f"{origin}-2", f"{origin}-3"]
    for parent, new in itertools.pairwise(chain):
        if parent != origin:
            site.volume("createSnapshot", parent, snapshotName="s")
        site.volume("clone", parent, snapshotName="s", newName=new)
    site.volume("deleteSnapshot", origin, snapshotName="s")
    last = site.volume("getInfo", chain[2])
    assert (last["depth"], last["parent"]) == (2, f"{POOL}/{chain[1]}@s")
    second = site.volume("getInfo", chain[1])
    parent = second["parentVolume"]
    # Its snapshot was deleted, and is kept for it.
    assert (second["depth"], parent["snapshotName"], parent["deleted"]) == (1, "s", True)
    first = site.volume("getInfo", origin)
    assert (first["snapshots"], first["deletedSnapshots"], first["cloneCount"]) == (0, 1, 1)
    (told,) = first["clones"]
    assert (told["snapshotName"], told["volumeName"], told["inTrash"]) == ("s", chain[1], False)
    (snapshot,) = site.volume("listSnapshots", chain[1])
    assert [c["volumeName"] for c in snapshot["clones"]] == [chain[2]]
    for name in reversed(chain[1:]):
        site.volume("delete", name, force=True)


def test_a_clone_in_a_pool_that_may_not_be_read_is_told_all_the_same(
    site: Site, origin: str, other_domain: UUID, connect_as: Callable[..., Any]
) -> None:
    clone = {"snapshotName": "s", "newName": f"{origin}-clone"}
    site.volume("clone", origin, **clone, newStorageDomainID=other_domain)
    where = {"storageDomainID": connect_as(f"profile rbd pool={POOL}"), "volumeName": origin}
    (told,) = site.call("Volume.getInfo", **where)["clones"]
    assert (told["pool"], told["snapshotName"], "volumeName" in told) == (POOL2, "s", False)
    assert told["id"] == image_id(site, f"{origin}-clone", POOL2)
    steps = site.call("Volume.explainDelete", **where)["steps"]
    assert [step["obstacle"] for step in steps] == ["clone", "snapshot"]
    assert error_of(site.call, "Volume.delete", **where, force=True).name == "VolumeNotDeletable"


def test_clones_of_the_old_format_are_told_as_well(site: Site, origin: str) -> None:
    with (
        site.ceph.admin(rbd_default_clone_format="1") as client,
        client.open_ioctx(POOL) as ioctx,
        client.open_ioctx(POOL2) as ioctx2,
    ):
        with rbd.Image(ioctx, origin) as handle:
            handle.protect_snap("s")
        rbd.RBD().clone(ioctx, origin, "s", ioctx2, f"{origin}-clone")
    (snapshot,) = site.volume("listSnapshots", origin)
    assert snapshot["protected"] is True
    assert [(c["pool"], c["volumeName"]) for c in snapshot["clones"]] == [
        (POOL2, f"{origin}-clone")
    ]
    theirs = rbd_cli(site.ceph, "children", f"{POOL}/{origin}@s")
    assert [c["image"] for c in theirs] == [f"{origin}-clone"]
    with site.ceph.pool(POOL2) as ioctx:
        remove_if_there(ioctx, f"{origin}-clone")


def test_an_image_with_hundreds_of_snapshots_and_clones_is_told_soon(
    site: Site, image: str
) -> None:
    clones = [f"{image}-kid-{number}" for number in range(100)]
    with (
        site.ceph.admin(rbd_default_clone_format="2") as client,
        client.open_ioctx(POOL) as ioctx,
        client.open_ioctx(POOL2) as ioctx2,
        ThreadPoolExecutor(8) as threads,
    ):
        with rbd.Image(ioctx, image) as handle:
            list(threads.map(handle.create_snap, [f"s{n}" for n in range(300)]))

        def clone(number: int) -> None:
            rbd.RBD().clone(ioctx, image, f"s{number}", ioctx2, clones[number])

        list(threads.map(clone, range(100)))
        began_s = time.monotonic()
        info, snapshots = site.volume("getInfo", image), site.volume("listSnapshots", image)
        assert time.monotonic() - began_s < 5 * slowness()
        list(threads.map(lambda name: rbd.RBD().remove(ioctx2, name), clones))
    assert (info["snapshots"], info["cloneCount"], len(snapshots)) == (300, 100, 300)
    told = {s["snapshotName"]: [c["volumeName"] for c in s["clones"]] for s in snapshots}
    assert [told[f"s{n}"] for n in range(100)] == [[name] for name in clones]
    site.volume("delete", image, force=True)
    assert image not in names(site)


def at_once(
    site: Site,
    connect: Callable[..., RecordingClient],
    verb: str,
    image: str,
    snapshots: list[list[str]],
) -> None:
    """Have a caller for each list ask for a verb about its snapshots, one after the other."""

    def ask(client: RecordingClient, mine: list[str]) -> None:
        volume = {"storageDomainID": site.storage_domain_id, "volumeName": image}
        for snapshot in mine:
            client.call(verb, **volume, snapshotName=snapshot)

    with ThreadPoolExecutor(len(snapshots)) as threads:
        list(threads.map(ask, [connect(site.daemon) for _ in snapshots], snapshots))


def test_snapshots_of_one_image_that_many_ask_for_at_once_are_all_made(
    site: Site, image: str, connect: Callable[..., RecordingClient]
) -> None:
    """Each takes the image's lock and gives it back, while the next one asks who has it."""
    asked = [[f"s{caller}-{n}" for n in range(10)] for caller in range(3)]
    at_once(site, connect, "Volume.createSnapshot", image, asked)
    made = {s["snapshotName"] for s in site.volume("listSnapshots", image)}
    assert made == {snapshot for snapshots in asked for snapshot in snapshots}
    site.volume("delete", image, force=True)


def test_snapshots_of_one_image_that_many_delete_at_once_are_all_gone(
    site: Site, image: str, connect: Callable[..., RecordingClient]
) -> None:
    names = [[f"s{caller}-{n}" for n in range(8)] for caller in range(3)]
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as handle:
        for name in itertools.chain(*names):
            handle.create_snap(name)
    at_once(site, connect, "Volume.deleteSnapshot", image, names)
    assert site.volume("listSnapshots", image) == []


def test_a_listing_is_right_while_images_come_and_go(
    site: Site, connect: Callable[..., RecordingClient]
) -> None:
    """Each name that stays is listed with its size, and none that never was."""
    domain = {"storageDomainID": site.storage_domain_id}
    stay = {f"stay-{n:02}": (n + 1) << 20 for n in range(20)}
    for name, size in stay.items():
        site.volume("create", name, size=size)
    end_s = time.monotonic() + 4

    def come_and_go(client: RecordingClient, number: int) -> None:
        name = {"volumeName": f"stay-{number:02}-not"}
        while time.monotonic() < end_s:
            client.call("Volume.create", **domain, **name, size=1 << 20)
            client.call("Volume.delete", **domain, **name)

    with ThreadPoolExecutor(3) as threads:
        busy = [threads.submit(come_and_go, connect(site.daemon), n) for n in range(3)]
        while time.monotonic() < end_s:
            page = site.call("Volume.list", **domain, after="stay-", limit=40)
            told = {v["volumeName"]: v["size"] for v in page if v["volumeName"] < "stay-~"}
            passing = {name for name in told if name.endswith("-not")}
            assert {n: s for n, s in told.items() if n not in passing} == stay
            assert passing <= {f"stay-{n:02}-not" for n in range(3)}
        for one in busy:
            one.result(30)
    theirs = rbd_cli(site.ceph, "ls", "-l", POOL)
    ours = site.call("Volume.list", **domain)
    assert [(v["volumeName"], v["size"]) for v in ours] == sorted(
        (one["image"], one["size"]) for one in theirs if "snapshot" not in one
    )
    for name in stay:
        site.volume("delete", name)


def test_a_resized_and_a_migrating_image_are_listed_with_the_size_they_have(
    site: Site, image: str, other_domain: UUID
) -> None:
    def listed(domain: UUID) -> int | None:
        page = site.call("Volume.list", storageDomainID=domain, after=image[:-1], limit=5)
        return next((v["size"] for v in page if v["volumeName"] == image), None)

    with site.ceph.pool(POOL) as ioctx, site.ceph.pool(POOL2) as ioctx2:
        with rbd.Image(ioctx, image) as handle:
            handle.resize(48 << 20)
        assert listed(site.storage_domain_id) == 48 << 20
        rbd.RBD().migration_prepare(ioctx, image, ioctx2, image)
        assert (listed(site.storage_domain_id), listed(other_domain)) == (None, 48 << 20)
        rbd.RBD().migration_abort(ioctx2, image)
    assert (listed(site.storage_domain_id), listed(other_domain)) == (48 << 20, None)


# --- a full pool ---


@pytest.fixture
def full_pool(site: Site) -> Iterator[UUID]:
    """A storage domain whose pool has reached its quota; it has the image `filled`."""
    pool = "small"
    site.ceph.create_pool(pool)
    for name in ("filled", "deleted"):
        site.ceph.create_image(pool, name, 64 << 20)
    with site.ceph.pool(pool) as ioctx, rbd.Image(ioctx, "filled") as handle:
        rbd.RBD().remove(ioctx, "deleted")
        handle.write(b"z" * (8 << 20), 0)
        handle.create_snap("s")
    with connected(site, pool=pool) as domain:
        set_quota(site.ceph, pool, 4 << 20)
        until(lambda: is_full(site.ceph, pool), 60)
        yield domain
    set_quota(site.ceph, pool, 0)
    until(lambda: not is_full(site.ceph, pool), 60)
    with site.ceph.pool(pool) as ioctx:
        remove_if_there(ioctx, "filled")


def test_a_full_pool_is_told_at_once_and_can_be_emptied(site: Site, full_pool: UUID) -> None:
    domain = {"storageDomainID": full_pool}
    filled = {**domain, "volumeName": "filled"}
    began_s = time.monotonic()
    changes = {
        "create": {**domain, "volumeName": "new", "size": 1 << 20},
        "clone": {**filled, "snapshotName": "s", "newName": "new"},
        "rename": {**filled, "newName": "new"},
    }
    for verb, params in changes.items():
        error = error_of(site.call, f"Volume.{verb}", **params)
        assert (error.name, error.data["pools"], error.data["retry"]) == (
            "PoolFull",
            ["small"],
            False,
        )
    # librbd alone waits for room until its time-out, for each of them.
    assert time.monotonic() - began_s < 5 * slowness()
    error = error_of(site.call, "Volume.create", **{**changes["create"], "size": 8 << 20})
    assert (error.code, error.data["field"]) == (91, "size")
    error = error_of(site.call, "Volume.extendSize", **filled, newSize=128 << 20)
    assert (error.code, error.data["field"]) == (91, "newSize")
    assert site.call("Volume.getInfo", **filled)["size"] == 64 << 20
    assert [v["volumeName"] for v in site.call("Volume.list", **domain)] == ["filled"]
    site.call("Volume.setQos", **filled, qos={"iops": 5})
    assert site.call("Volume.deleteSnapshot", **filled, snapshotName="s") is True
    assert site.call("Volume.delete", **filled) is True
    assert site.call("Volume.list", **domain) == []


def test_a_full_pool_can_be_connected(site: Site, full_pool: UUID) -> None:
    """Looking for the capability to write waits for room, unless librados is told not to."""
    with connected(site, pool="small") as again:
        assert site.call("Volume.list", storageDomainID=again)


def test_a_vm_that_waits_for_room_is_not_called_stalled_and_goes_on_when_there_is(
    site: Site, make_guest: Callable[..., Guest], make_image: Any
) -> None:
    pool = "roomless"
    site.ceph.create_pool(pool)
    disk = make_image(pool=pool, keep=True)
    guest = make_guest(disks=[disk])
    guest.wait_for_records(3)
    with connected(site, pool=pool) as domain:
        where = {"storageDomainID": domain, "volumeName": disk.image}
        owner = site.call("Volume.getInfo", **where)["lockOwner"]
        set_quota(site.ceph, pool, 1 << 20)
        try:
            until(lambda: is_full(site.ceph, pool), 60)
            began_s = time.monotonic()
            error = error_of(site.call, "Volume.createSnapshot", **where, snapshotName="s")
            assert (error.name, error.data["pools"]) == ("PoolFull", [pool])
            assert time.monotonic() - began_s < 25
        finally:
            set_quota(site.ceph, pool, 0)
        guest.wait_for_records(5, timeout_s=90)
        assert owner not in blocklisted(site.ceph)
        assert site.call("Volume.getInfo", **where)["lockOwner"] == owner


@pytest.mark.parametrize("verb", ["delete", "trash"])
def test_a_full_pool_without_a_trash_is_not_told_as_a_volume_that_is_not_there(
    site: Site, full_pool: UUID, verb: str
) -> None:
    """librbd says so: it cannot make the trash."""
    filled = {"storageDomainID": full_pool, "volumeName": "filled"}
    site.call("Volume.deleteSnapshot", **filled, snapshotName="s")
    with site.ceph.pool("small") as ioctx:
        ioctx.set_osdmap_full_try()
        ioctx.remove_object("rbd_trash")
    assert error_of(site.call, f"Volume.{verb}", **filled).name == "PoolFull"
    assert [v["volumeName"] for v in site.call("Volume.list", storageDomainID=full_pool)] == [
        "filled"
    ]
