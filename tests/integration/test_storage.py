"""Storage domains and volumes on the real cluster, checked against librbd and the `rbd` CLI."""

from __future__ import annotations

import contextlib
import json
import struct
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.conftest import Site, domain_settings, secret_info
from tests.integration.filled import filled
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.stall import stalled
from tests.integration.volumes import dead_owner, rbd_cli
from tests.lab.ceph import command
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from tests.lab.stack import POOL, POOL2
from virtceph.client import ServerError
from virtceph.schema import load_contract
from virtceph.sensitive import Sensitive

# The form of a cephx key, and nobody's: type 1, a time, and 16 bytes.
CEPHX_KEY = struct.pack("<hIIh", 1, 1, 0, 16) + b"k" * 16


# --- storage domains ---


def test_connecting_tells_the_cluster_and_what_the_user_may_do(site: Site) -> None:
    answer = site.call("StorageDomain.connect", **domain_settings(site))
    assert answer["fsid"] == site.ceph.fsid
    assert answer["caps"] == {"read": True, "write": True, "blocklist": True}


def test_a_connected_domain_is_listed_without_its_key(site: Site) -> None:
    (listed,) = [
        d for d in site.call("StorageDomain.list")
        if d["storageDomainID"] == str(site.storage_domain_id)
    ]  # fmt: skip
    assert listed["pool"] == POOL
    assert listed["secretUUID"] == str(site.secret_uuid)
    assert "key" not in listed


def test_stats_tell_room_health_and_latency(site: Site) -> None:
    site.ceph.wait_for_statistics()
    stats = site.call("StorageDomain.getStats", storageDomainID=site.storage_domain_id)
    assert stats["reachable"] is True
    assert 0 < stats["used"] < stats["capacity"]
    assert stats["health"].startswith("HEALTH_")


def test_connecting_otherwise_under_the_same_id_is_refused(site: Site) -> None:
    error = error_of(site.call, "StorageDomain.connect", **domain_settings(site, pool=POOL2))
    assert (error.name, error.data["field"]) == ("StorageDomainExists", "pool")


def test_an_unregistered_key_is_told(site: Site) -> None:
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), secretUUID=uuid.uuid4())
    assert error_of(site.call, "StorageDomain.connect", **settings).name == "NoSuchSecret"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"pool": "nosuch"}, "NoSuchPool"),
        ({"namespace": "nosuch"}, "NoSuchNamespace"),
        ({"user": "nosuch"}, "KeyRejected"),
    ],
)
def test_a_domain_that_is_not_there_is_told_as_what_it_is(
    site: Site, change: dict[str, Any], name: str
) -> None:
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), **change)
    assert error_of(site.call, "StorageDomain.connect", **settings).name == name
    assert str(settings["storageDomainID"]) not in str(site.call("StorageDomain.list"))


def test_monitors_that_do_not_answer_are_told_in_time(site: Site) -> None:
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), monitors=["127.0.0.1:1"])
    error = error_of(site.call, "StorageDomain.connect", **settings)
    assert (error.name, error.data["retry"]) == ("CephUnavailable", True)


@pytest.mark.parametrize("key", [CEPHX_KEY, b"no key at all", b"\x01\x00" + b"k" * 26])
def test_a_wrong_key_is_told(site: Site, key: bytes) -> None:
    secret = secret_info(uuid.uuid4(), Sensitive(key))
    site.call("Host.registerSecrets", secrets=[secret])
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), secretUUID=secret["uuid"])
    assert error_of(site.call, "StorageDomain.connect", **settings).name == "KeyRejected"
    site.call("Host.unregisterSecrets", uuids=[secret["uuid"]])


@pytest.mark.parametrize(
    ("osd", "mon", "operation"),
    [
        ("allow r pool=nosuch", "profile rbd", "list images"),
        ("allow rx pool=rbd", "profile rbd", "write to the pool"),
        ("allow rwx pool=rbd", "allow r", "blocklist dead clients"),
    ],
)
def test_a_missing_capability_is_named(
    connect_as: Callable[..., Any], osd: str, mon: str, operation: str
) -> None:
    error = error_of(connect_as, osd, mon)
    assert (error.name, error.data["operation"]) == ("CephPermissionDenied", operation)


# Enough to pass the check at connecting, and nothing more.
PROBE_ONLY = "allow rx pool=rbd, allow rwx pool=rbd object_prefix .virtceph-caps-probe"


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        ("create", {"size": 1 << 20}),
        ("delete", {}),
        ("createSnapshot", {"snapshotName": "new"}),
        ("deleteSnapshot", {"snapshotName": "old"}),
        ("rollback", {"snapshotName": "old"}),
        ("clone", {"snapshotName": "old", "newName": "new-clone"}),
        ("rename", {"newName": "new-name"}),
        ("setQos", {"qos": {"iops": 5}}),
        ("trash", {}),
    ],
)
def test_a_step_without_its_capability_is_told_and_changes_nothing(
    site: Site, connect_as: Callable[..., Any], image: str, verb: str, params: dict[str, Any]
) -> None:
    if params.get("snapshotName") == "old":
        site.volume("createSnapshot", image, snapshotName="old")
    before = site.volume("listSnapshots", image)
    domain = connect_as(PROBE_ONLY)
    name = f"new-{image}" if verb == "create" else image
    error = error_of(site.call, f"Volume.{verb}", storageDomainID=domain, volumeName=name, **params)
    assert error.name == "CephPermissionDenied"
    assert site.volume("listSnapshots", image) == before


# Names can be listed, and no image can be opened.
NAMES_ONLY = (
    "allow rx pool=rbd object_prefix rbd_directory, "
    "allow rx pool=rbd object_prefix rbd_trash, "
    "allow rwx pool=rbd object_prefix .virtceph-caps-probe"
)


READING = ("getInfo", "list", "listSnapshots", "getQos", "explainDelete", "evict")


@pytest.mark.parametrize("verb", READING)
def test_a_user_that_may_not_read_images_is_told(
    site: Site, connect_as: Callable[..., Any], image: str, verb: str
) -> None:
    params = {"storageDomainID": connect_as(NAMES_ONLY)}
    if verb != "list":
        params["volumeName"] = image
    if verb == "evict":
        params["client"] = 1
    assert error_of(site.call, f"Volume.{verb}", **params).name == "CephPermissionDenied"


def test_unregistering_a_key_closes_its_storage_domains(
    site: Site, connect_as: Callable[..., Any]
) -> None:
    domain = connect_as("profile rbd")
    (listed,) = [d for d in site.call("StorageDomain.list") if d["storageDomainID"] == str(domain)]
    site.call("Host.unregisterSecrets", uuids=[listed["secretUUID"]])
    assert error_of(site.call, "Volume.list", storageDomainID=domain).name == "NoSuchStorageDomain"


def test_disconnecting_twice_is_no_error(site: Site, connect_as: Callable[..., Any]) -> None:
    domain = connect_as("profile rbd")
    assert site.call("StorageDomain.disconnect", storageDomainID=domain) is True
    assert site.call("StorageDomain.disconnect", storageDomainID=domain) is True


def test_a_namespace_is_a_place_of_its_own(site: Site) -> None:
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().namespace_create(ioctx, "tenant")
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), namespace="tenant")
    site.call("StorageDomain.connect", **settings)
    domain = {"storageDomainID": settings["storageDomainID"]}
    site.call("Volume.create", **domain, volumeName="inside", size=1 << 20)
    assert [v["volumeName"] for v in site.call("Volume.list", **domain)] == ["inside"]
    assert error_of(site.volume, "getInfo", "inside").name == "NoSuchVolume"
    site.call("Volume.delete", **domain, volumeName="inside")
    site.call("StorageDomain.disconnect", **domain)


# --- volumes ---


VERBS = load_contract().verbs.values()
# Those of VMs have tests of their own.
OF_STORAGE = [verb for verb in VERBS if not verb.name.startswith("VM.")]


@pytest.mark.parametrize("verb", [v for v in OF_STORAGE if "NoSuchStorageDomain" in v.errors])
def test_an_unknown_storage_domain_is_told_by_every_verb(
    site: Site, diffs: Path, verb: Any
) -> None:
    unknown = uuid.uuid4()
    error = error_of(site.call, verb.name, **filled(verb, site, diffs, storageDomainID=unknown))
    assert (error.name, error.data["storageDomainID"]) == ("NoSuchStorageDomain", str(unknown))


@pytest.mark.parametrize("verb", [v for v in OF_STORAGE if "NoSuchVolume" in v.errors])
def test_an_unknown_volume_is_told_by_every_verb(site: Site, diffs: Path, verb: Any) -> None:
    error = error_of(site.call, verb.name, **filled(verb, site, diffs))
    assert (error.name, error.data["volumeName"]) == ("NoSuchVolume", "nosuch")


def test_a_volume_is_made_as_asked_and_the_rbd_command_sees_it_so(site: Site) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    asked = {"size": 12345856, "objectSize": 1 << 20, "features": ["layering", "exclusive-lock"]}
    assert site.volume("create", name, **asked) is True
    theirs = rbd_cli(site.ceph, "info", f"{POOL}/{name}")
    ours = site.volume("getInfo", name)
    assert (theirs["size"], theirs["object_size"]) == (12345856, 1 << 20)
    assert (ours["size"], ours["objectSize"]) == (12345856, 1 << 20)
    assert set(theirs["features"]) == set(ours["features"]) == set(asked["features"])
    assert ours["id"] == theirs["id"]
    site.volume("delete", name)
    assert name not in rbd_cli(site.ceph, "ls", POOL)


def test_creating_again_finds_the_same_volume_and_refuses_another(site: Site, image: str) -> None:
    assert site.volume("create", image, size=32 << 20) is True
    assert error_of(site.volume, "create", image, size=64 << 20).name == "VolumeExists"
    assert site.volume("getInfo", image)["size"] == 32 << 20


@pytest.mark.parametrize("size", [0, -1, 1 << 60, 511, (1 << 20) + 1, 1 << 50])
def test_an_impossible_size_is_refused(site: Site, size: int) -> None:
    error = error_of(site.volume, "create", "impossible", size=size)
    assert (error.code, error.data["field"]) == (91, "size")


@pytest.mark.parametrize(
    ("field", "value"),
    [("objectSize", 5000), ("features", ["fast-diff"]), ("features", ["nosuch"])],
)
def test_an_impossible_layout_is_refused(site: Site, field: str, value: Any) -> None:
    error = error_of(site.volume, "create", "impossible", size=1 << 20, **{field: value})
    assert error.code == 91
    assert error.data["field"].startswith(field)


def test_a_data_pool_is_used_and_an_unknown_one_told(site: Site) -> None:
    error = error_of(site.volume, "create", "apart", size=1 << 20, dataPool="nosuch")
    assert (error.name, error.data["pool"]) == ("NoSuchPool", "nosuch")
    site.volume("create", "apart", size=1 << 20, dataPool=POOL2)
    assert site.volume("getInfo", "apart")["dataPool"] == POOL2
    assert site.volume("create", "apart", size=1 << 20, dataPool=POOL2) is True
    site.volume("delete", "apart")


def test_the_list_is_paged_in_the_order_of_names(site: Site) -> None:
    names = [f"page-{n}" for n in range(5)]
    for name in names:
        site.volume("create", name, size=1 << 20)
    domain = {"storageDomainID": site.storage_domain_id}
    page = site.call("Volume.list", **domain, after="page-", limit=3)
    assert [v["volumeName"] for v in page] == names[:3]
    page = site.call("Volume.list", **domain, after=names[2], limit=2)
    assert page == [{"volumeName": n, "size": 1 << 20} for n in names[3:]]
    for name in names:
        site.volume("delete", name)


def test_snapshots_are_made_listed_and_deleted_as_the_rbd_command_sees_them(
    site: Site, image: str
) -> None:
    for name in ("first", "second"):
        assert site.volume("createSnapshot", image, snapshotName=name) is True
    ours = site.volume("listSnapshots", image)
    theirs = rbd_cli(site.ceph, "snap", "ls", f"{POOL}/{image}")
    assert [(s["snapshotName"], s["id"], s["size"]) for s in ours] == [
        (s["name"], s["id"], s["size"]) for s in theirs
    ]
    assert error_of(site.volume, "createSnapshot", image, snapshotName="first").name == (
        "SnapshotExists"
    )
    error = error_of(site.volume, "delete", image)
    assert (error.name, error.data["snapshots"]) == ("VolumeHasSnapshots", ["first", "second"])
    assert site.volume("deleteSnapshot", image, snapshotName="first") is True
    assert error_of(site.volume, "deleteSnapshot", image, snapshotName="first").name == (
        "NoSuchSnapshot"
    )
    assert [s["snapshotName"] for s in site.volume("listSnapshots", image)] == ["second"]


def test_a_protected_snapshot_is_not_deleted(site: Site, image: str) -> None:
    site.volume("createSnapshot", image, snapshotName="kept")
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as opened:
        opened.protect_snap("kept")
    error = error_of(site.volume, "deleteSnapshot", image, snapshotName="kept")
    assert error.name == "SnapshotProtected"


def test_a_volume_that_somebody_has_open_is_not_deleted(site: Site, image: str) -> None:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as opened:
        opened.write(b"x", 0)
        told = site.volume("getInfo", image)
        error = error_of(site.volume, "delete", image)
    assert error.name == "VolumeInUse"
    assert error.data["watchers"] == [w["address"] for w in told["watchers"]] != []
    assert told["lockOwner"] in error.data["watchers"]
    assert site.volume("getInfo", image)["size"] == 32 << 20


@pytest.mark.parametrize(
    ("operation", "stalled_before_s"),
    [("createSnapshot", 0), ("deleteSnapshot", 0), ("createSnapshot", 20)],
)
def test_a_stalled_vm_is_neither_waited_for_nor_cut_off(
    site: Site,
    make_guest: Callable[..., Guest],
    make_image: Callable[..., Any],
    operation: str,
    stalled_before_s: float,
) -> None:
    """Also when it has stalled for so long that librbd would break its lock under the request."""
    guest = make_guest(disks=[make_image(keep=True)])
    guest.wait_for_agent()
    guest.wait_for_records(3)
    name = guest.spec.disks[0].image  # type: ignore[union-attr]
    if operation == "deleteSnapshot":
        site.volume("createSnapshot", name, snapshotName="snap")
    before = site.volume("listSnapshots", name)
    owner = site.volume("getInfo", name)["lockOwner"]
    with stalled(guest):
        time.sleep(stalled_before_s)
        error = error_of(site.volume, operation, name, snapshotName="snap")
        assert (error.name, error.data["retry"]) == ("LockOwnerStalled", True)
    # It writes on: nobody broke its lock, nobody put it on the blocklist.
    guest.wait_for_records(5)
    assert site.volume("getInfo", name)["lockOwner"] == owner
    with site.ceph.admin() as client:
        _, listed, _ = client.mon_command(json.dumps({"prefix": "osd blocklist ls"}), b"")
    assert owner not in listed.decode()
    # What was refused is not done later, and asking again is served at once.
    time.sleep(3)
    assert site.volume("listSnapshots", name) == before
    assert site.volume(operation, name, snapshotName="snap") is True


def test_a_lock_that_a_dead_client_left_is_told_and_never_broken_behind_anybodys_back(
    site: Site, image: str
) -> None:
    """Nobody can tell from here whether its owner is dead or stalled; an administrator can."""
    dead_owner(site, image)
    error = error_of(site.volume, "createSnapshot", image, snapshotName="s")
    assert (error.name, error.data["retry"]) == ("LockOwnerStalled", True)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as opened:
        ((client, cookie, _),) = opened.list_lockers()["lockers"]
        opened.break_lock(client, cookie)
    deadline_s = time.monotonic() + 50
    made: Any = None
    while made is not True:
        # The watch of the dead client lasts 30 s.
        assert time.monotonic() < deadline_s
        time.sleep(2)
        with contextlib.suppress(ServerError):
            made = site.volume("createSnapshot", image, snapshotName="s")
    assert [s["snapshotName"] for s in site.volume("listSnapshots", image)] == ["s"]


def test_of_two_makers_of_one_name_one_is_refused(
    site: Site, image: str, connect: Callable[..., RecordingClient]
) -> None:
    clients = [connect(site.daemon) for _ in range(2)]
    params = {"storageDomainID": site.storage_domain_id, "volumeName": image}

    def make(client: RecordingClient, name: str) -> bool | str | None:
        try:
            return bool(client.call("Volume.createSnapshot", **params, snapshotName=name))
        except ServerError as error:
            return error.name

    for number in range(5):
        with ThreadPoolExecutor(2) as threads:
            made = list(threads.map(make, clients, [f"s{number}"] * 2))
        assert sorted(map(str, made)) == ["SnapshotExists", "True"]


def test_a_domain_that_is_disconnected_under_its_users_breaks_their_calls_and_nothing_else(
    site: Site, connect: Callable[..., RecordingClient]
) -> None:
    """librados aborts a process whose calls meet a client that is being shut down."""
    settings = domain_settings(site, storageDomainID=uuid.uuid4())
    domain = {"storageDomainID": settings["storageDomainID"]}
    end_s = time.monotonic() + 6
    told: set[str] = set()

    def use(client: RecordingClient) -> None:
        while time.monotonic() < end_s:
            try:
                client.call("Volume.list", **domain)
                client.call("StorageDomain.getStats", **domain)
            except ServerError as error:
                told.add(str(error.name))

    def turn(client: RecordingClient) -> None:
        while time.monotonic() < end_s:
            client.call("StorageDomain.connect", **settings)
            client.call("StorageDomain.disconnect", **domain)

    with ThreadPoolExecutor(4) as threads:
        users = [threads.submit(use, connect(site.daemon)) for _ in range(3)]
        turner = threads.submit(turn, connect(site.daemon))
        for done in (*users, turner):
            done.result(60)
    assert told <= {"NoSuchStorageDomain", "CephUnavailable"}
    assert site.call("Host.ping2") is True


def test_a_key_that_was_replaced_is_used_from_the_next_connect_on(site: Site) -> None:
    secret = secret_info(uuid.uuid4(), Sensitive(b""))
    secret["password"] = site.ceph.create_user("rotates")
    site.call("Host.registerSecrets", secrets=[secret])
    settings = domain_settings(
        site, storageDomainID=uuid.uuid4(), user="rotates", secretUUID=secret["uuid"]
    )
    site.call("StorageDomain.connect", **settings)
    with site.ceph.admin() as client:
        command(client, "auth rm", entity="client.rotates")
    secret["password"] = site.ceph.create_user("rotates")
    site.call("Host.registerSecrets", secrets=[secret])
    site.call("StorageDomain.connect", **settings)
    domain = {"storageDomainID": settings["storageDomainID"], "volumeName": "rotated"}
    site.call("Volume.create", **domain, size=1 << 20)
    site.call("Volume.createSnapshot", **domain, snapshotName="s")
    site.call("Volume.deleteSnapshot", **domain, snapshotName="s")
    site.call("Volume.delete", **domain)
    site.call("Host.unregisterSecrets", uuids=[secret["uuid"]])


def test_a_broken_image_is_told_as_ceph_tells_it(site: Site) -> None:
    with site.ceph.pool(POOL) as ioctx:
        ioctx.write_full("rbd_id.broken", b"\xff\xff\xff\xffnonsense")
        error = error_of(site.volume, "getInfo", "broken")
        ioctx.remove_object("rbd_id.broken")
    assert error.name == "CephFailed"
    assert error.data["errno"] > 0


def test_two_daemons_do_not_hinder_each_other(
    site: Site,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    image: str,
) -> None:
    """A second host's daemon snapshots the same image; both see both snapshots."""
    daemon = start_daemon("second", overrides={"secrets": {"usage_prefix": "second/"}})
    client = connect(daemon)
    secret = secret_info(uuid.uuid4(), Sensitive(b""), usageID="second/key")
    secret["password"] = site.ceph.create_user("second")
    client.call("Host.registerSecrets", secrets=[secret])
    settings = domain_settings(site, user="second", secretUUID=secret["uuid"])
    client.call("StorageDomain.connect", **settings)
    params = {"storageDomainID": site.storage_domain_id, "volumeName": image}
    client.call("Volume.createSnapshot", **params, snapshotName="theirs")
    site.volume("createSnapshot", image, snapshotName="ours")
    names = [s["snapshotName"] for s in client.call("Volume.listSnapshots", **params)]
    assert names == ["theirs", "ours"]
    assert daemon.stop() in (0, None)
