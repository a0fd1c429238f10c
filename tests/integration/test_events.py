"""Every event, on the real cluster, libvirt and guest: when it happens, once, with the right facts."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import rbd

from tests.faults.waiting import until
from tests.integration.conftest import Rough, Site, remove_if_there, secret_info
from tests.integration.datawork import MiB, ended, ended_well, result_of, start
from tests.integration.recorder import Recording, RecordingClient, error_of
from tests.integration.told import Told
from tests.integration.volumes import connected, dead_owner, is_full, set_quota
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from tests.lab.stack import POOL, POOL2
from virtceph.client.client import Client
from virtceph.client.events import events
from virtceph.schema import load_contract
from virtceph.sensitive import Sensitive


@pytest.fixture
def guest(thawed: Guest) -> Guest:
    return thawed


@pytest.fixture
def rough_told(rough: Rough, told_by: dict[int, Told]) -> Told:
    return told_by[rough.site.daemon.pid]


# --- guests ---


def test_a_freeze_and_its_thaw_are_told(site: Site, guest: Guest, told: Told) -> None:
    mark = told.mark()
    freeze = site.call("VM.freeze", vmID=guest.uuid, timeout=30)
    frozen = told.wait("vm_frozen", mark, vmId=guest.uuid)["params"]
    assert frozen["windowID"] == freeze["windowID"]
    assert (frozen["owner"], frozen["filesystems"]) == ("unix:root", freeze["filesystems"])
    assert 0 < frozen["expiresIn"] <= 30
    thaw = site.call("VM.thaw", vmID=guest.uuid)
    thawed = told.wait("vm_thawed", mark, windowID=freeze["windowID"])["params"]
    assert (thawed["cause"], thawed["caller"], thawed["intact"]) == ("verb", "unix:root", True)
    assert thawed["frozenFor"] == thaw["frozenFor"]
    assert len(told.since(mark, "vm_frozen", "vm_thawed")) == 2


def test_a_lease_that_runs_out_on_a_guest_that_cannot_be_thawed_is_told_until_it_is(
    site: Site, guest: Guest, told: Told
) -> None:
    mark = told.mark()
    site.call("VM.freeze", vmID=guest.uuid, timeout=10)
    guest.domain.suspend()
    told.wait("vm_status", mark, vmId=guest.uuid, status="Paused")
    told.wait("lease_expired", mark, vmId=guest.uuid)
    stuck = told.wait("vm_not_thawed", mark, vmId=guest.uuid)["params"]
    assert (stuck["tries"], "running" in stuck["reason"] or "paused" in stuck["reason"]) == (
        1,
        True,
    )
    guest.domain.resume()
    thawed = told.wait("vm_thawed", mark, vmId=guest.uuid)["params"]
    assert (thawed["cause"], thawed["intact"]) == ("lease", False)
    told.wait("vm_status", mark, vmId=guest.uuid, status="Up")


def test_a_reset_under_a_freeze_is_told_as_its_end(
    site: Site, make_guest: Callable[..., Guest], make_image: Any, told: Told
) -> None:
    # One of the test's own: after a reset it holds before it mounts anything.
    guest = make_guest(disks=[make_image(keep=True)])
    guest.wait_for_agent()
    mark = told.mark()
    site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    guest.domain.reset()
    assert told.wait("vm_thawed", mark, vmId=guest.uuid)["params"]["cause"] == "guest"


def test_a_vm_that_starts_and_ends_is_told_with_how_it_ended(
    make_guest: Callable[..., Guest], told: Told
) -> None:
    mark = told.mark()
    made = make_guest()
    told.wait("vm_status", mark, vmId=made.uuid, status="Up")
    made.destroy()
    down = told.wait("vm_status", mark, vmId=made.uuid, status="Down")["params"]
    assert (down["exitCode"], down["exitMessage"]) == (0, "it was destroyed")
    states = [
        e["params"]["status"]
        for e in told.since(mark, "vm_status")
        if e["params"]["vmId"] == made.uuid
    ]
    assert states[0] == "Up"
    assert states.count("Down") == 1


def test_a_guest_that_somebody_unknown_froze_is_told_by_a_daemon_that_starts(
    guest: Guest, start_daemon: Callable[..., Daemon], told_by: dict[int, Told]
) -> None:
    guest.domain.fsFreeze()
    try:
        daemon = start_daemon("daemon-finds", overrides={"secrets": {"usage_prefix": "finds/"}})
        found = told_by[daemon.pid].wait("vm_found_frozen", vmId=guest.uuid)
        assert found["params"]["thawed"] is False
        daemon.kill()
    finally:
        guest.domain.fsThaw()


def test_a_daemon_that_was_killed_tells_again_what_it_left_frozen(
    guest: Guest, start_daemon: Callable[..., Daemon], told_by: dict[int, Told]
) -> None:
    overrides = {"secrets": {"usage_prefix": "killed/"}}
    daemon = start_daemon("daemon-killed", overrides=overrides)
    with Client(str(daemon.socket), timeout_s=60) as client:
        freeze = client.call("VM.freeze", vmID=guest.uuid, timeout=60)
        told = told_by[daemon.pid]
        last = told.wait("vm_frozen", windowID=freeze["windowID"])
        daemon.kill()
    daemon = start_daemon("daemon-killed", overrides=overrides)
    told = told_by[daemon.pid]
    again = told.wait("vm_frozen", windowID=freeze["windowID"])["params"]
    assert (again["adopted"], again["owner"]) == (True, "unix:root")
    # Whoever heard the one before is told that there may be more he did not hear.
    first, *rest = events(str(daemon.socket), last["cursor"], follow=False)
    assert (first["event"], first["params"]) == ("events_lost", {"cause": "restart"})
    assert rest[0]["event"] == "daemon_started"
    daemon.stop()
    assert told.wait("daemon_stopping")
    assert told.wait("vm_thawed")["params"]["cause"] == "stop"


# --- snapshots ---


def of_snapshots(told: Told, mark: int) -> list[str]:
    return [
        e["event"]
        for e in told.since(mark, "snapshot_done", "snapshot_inconsistent", "snapshot_failed")
    ]


def test_a_consistent_set_is_told_and_so_are_its_restoring_and_its_end(
    site: Site, make_guest: Callable[..., Guest], make_image: Any, told: Told
) -> None:
    guest = make_guest(disks=[make_image(keep=True), make_image(keep=True)])
    guest.wait_for_agent()
    mark, name, job = told.mark(), f"n{uuid.uuid4().hex[:6]}", str(uuid.uuid4())
    asked = {"vmID": guest.uuid, "snapshotName": name}
    site.call("VM.createConsistentSnapshot", **asked, jobUUID=job)
    ended_well(site, job)
    done = told.wait("snapshot_done", mark, vmId=guest.uuid)["params"]
    assert (done["jobID"], done["snapshotName"]) == (job, name)
    assert (done["consistency"], done["disks"]) == ("filesystem", ["vda", "vdb"])
    assert of_snapshots(told, mark) == ["snapshot_done"]
    told.wait("job_status", mark, id=job, status="running")
    told.wait("job_status", mark, id=job, status="done", progress=100)
    # The daemon's own freeze is told like any other.
    assert told.wait("vm_frozen", mark, vmId=guest.uuid)["params"]["owner"] == f"job:{job}"
    assert told.wait("vm_thawed", mark, vmId=guest.uuid)["params"]["intact"] is True
    restore = str(uuid.uuid4())
    site.call(
        "VM.restoreConsistentSnapshot", **asked, into="clones", clonePrefix="c-", jobUUID=restore
    )
    ended_well(site, restore)
    restored = told.wait("snapshot_set_restored", mark, snapshotName=name)["params"]
    assert restored["into"] == "clones"
    assert len(restored["volumes"]) == 2
    site.call("VM.pruneConsistentSnapshots", vmID=guest.uuid, keepLast=1)
    assert not told.since(mark, "snapshot_set_deleted")
    gone = str(uuid.uuid4())
    site.call("VM.deleteConsistentSnapshot", **asked, jobUUID=gone)
    ended_well(site, gone)
    deleted = told.wait("snapshot_set_deleted", mark, snapshotName=name)["params"]
    assert (deleted["setID"], deleted["pruned"]) == (restored["setID"], False)
    for volume in restored["volumes"]:
        site.volume("delete", volume)


def test_a_snapshot_that_nobody_froze_is_told_as_inconsistent(
    site: Site, guest: Guest, told: Told
) -> None:
    mark, job = told.mark(), str(uuid.uuid4())
    drive = {"disk": "vda", "snapshotName": f"s{uuid.uuid4().hex[:6]}"}
    site.call("VM.snapshot", vmID=guest.uuid, snapDrives=[drive], frozen=True, jobUUID=job)
    ended_well(site, job)
    inconsistent = told.wait("snapshot_inconsistent", mark, jobID=job)["params"]
    assert (inconsistent["consistency"], inconsistent["disks"]) == ("crash", ["vda"])
    # The name is taken now.
    again = str(uuid.uuid4())
    site.call("VM.snapshot", vmID=guest.uuid, snapDrives=[drive], jobUUID=again)
    assert ended(site, again)["status"] == "failed"
    failed = told.wait("snapshot_failed", mark, jobID=again)["params"]
    assert drive["snapshotName"] in failed["reason"] or "exists" in failed["reason"]
    status = told.wait("job_status", mark, id=again, status="failed")["params"]
    assert status["error"]["code"] == 48
    site.volume("deleteSnapshot", "shared-a", snapshotName=drive["snapshotName"])


def test_a_snapshot_under_a_callers_freeze_is_told_at_the_thaw(
    site: Site, guest: Guest, told: Told
) -> None:
    mark, job = told.mark(), str(uuid.uuid4())
    drive = {"disk": "vda", "snapshotName": f"s{uuid.uuid4().hex[:6]}"}
    site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    site.call("VM.snapshot", vmID=guest.uuid, snapDrives=[drive], frozen=True, jobUUID=job)
    assert ended(site, job)["result"]["consistency"] == "pending"
    assert of_snapshots(told, mark) == []
    site.call("VM.thaw", vmID=guest.uuid)
    told.wait("snapshot_done", mark, jobID=job)
    assert of_snapshots(told, mark) == ["snapshot_done"]
    until(lambda: error_of_note(site, drive["snapshotName"]), 30)
    site.volume("deleteSnapshot", "shared-a", snapshotName=drive["snapshotName"])


def error_of_note(site: Site, snapshot: str) -> bool:
    """Whether the verdict is noted on the image by now: what deletes it before that races with it."""
    listed = site.volume("listSnapshots", "shared-a")
    return any(
        s["snapshotName"] == snapshot and s.get("consistency") == "filesystem" for s in listed
    )


# --- disks ---


def test_disks_that_come_go_and_grow_are_told(
    site: Site, make_guest: Callable[..., Guest], make_image: Any, told: Told
) -> None:
    guest, volume = make_guest(disks=[make_image(keep=True)]), f"plug-{uuid.uuid4().hex[:8]}"
    guest.wait_for_agent()
    site.volume("create", volume, size=32 * MiB)
    mark = told.mark()
    named = {"storageDomainID": site.storage_domain_id, "volumeName": volume}
    plugged = site.call("VM.hotplugDisk", vmID=guest.uuid, **named)["disk"]
    event = told.wait("disk_plugged", mark, vmId=guest.uuid)["params"]
    assert (event["disk"], event["volumeName"]) == (plugged, volume)
    until(lambda: sees(guest, plugged), 60)
    site.call("VM.diskSizeExtend", vmID=guest.uuid, disk=plugged, newSize=48 * MiB)
    grown = told.wait("disk_extended", mark, vmId=guest.uuid)["params"]
    assert (grown["disk"], grown["volumeName"], grown["size"]) == (plugged, volume, 48 * MiB)
    told.wait("volume_changed", mark, volumeName=volume, action="extended", size=48 * MiB)
    site.call("VM.hotunplugDisk", vmID=guest.uuid, disk=plugged)
    assert told.wait("disk_unplugged", mark, vmId=guest.uuid)["params"]["disk"] == plugged
    site.call("Volume.delete", **named)


def sees(guest: Guest, target: str) -> bool:
    return guest.command(f"sh test -e /sys/block/{target} && echo yes || echo no") == "yes"


# --- volumes ---


@pytest.fixture
def names(site: Site) -> Iterator[Callable[[], str]]:
    """Names of volumes, which are gone after the test."""
    made: list[str] = []

    def new() -> str:
        made.append(f"ev-{uuid.uuid4().hex[:8]}")
        return made[-1]

    yield new
    for pool in (POOL, POOL2):
        with site.ceph.pool(pool) as ioctx:
            for name in reversed(made):
                remove_if_there(ioctx, name)


def test_everything_that_is_done_to_a_volume_is_told(
    site: Site, names: Callable[[], str], folder: Path, told: Told
) -> None:
    mark, sd = told.mark(), site.storage_domain_id
    one, two, three, four, five = (names() for _ in range(5))
    site.volume("create", one, size=16 * MiB)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, one) as image:
        image.write(b"data" * MiB, 0)
    site.volume("setQos", one, qos={"iops": 1000})
    site.volume("createSnapshot", one, snapshotName="s")
    site.volume("rollback", one, snapshotName="s")
    site.volume("clone", one, snapshotName="s", newName=two)
    result_of(site, "flatten", storageDomainID=sd, volumeName=two)
    site.volume("rename", two, newName=three)
    site.volume("extendSize", three, newSize=24 * MiB)
    result_of(site, "copy", storageDomainID=sd, volumeName=one, newName=four)
    path = str(folder / "disk.raw")
    result_of(site, "export", storageDomainID=sd, volumeName=four, path=path)
    result_of(site, "import", storageDomainID=sd, volumeName=five, path=path)
    site.volume("createSnapshot", five, snapshotName="a")
    site.volume("createSnapshot", one, snapshotName="t")
    site.volume("deleteSnapshot", five, snapshotName="a")
    site.volume("trash", three)
    site.call("Volume.restore", storageDomainID=sd, volumeName=three)
    site.volume("trash", three)
    site.call("Volume.purge", storageDomainID=sd)
    site.volume("delete", five)
    done = [
        (e["params"]["action"], e["params"]["volumeName"])
        for e in told.since(told_up_to(told, mark, five), "volume_changed")
    ]
    assert done == [
        ("created", one),
        ("limited", one),
        ("snapshot-made", one),
        ("rolled-back", one),
        ("cloned", two),
        ("flattened", two),
        ("renamed", three),
        ("extended", three),
        ("copied", four),
        ("imported", five),
        ("snapshot-made", five),
        ("snapshot-made", one),
        ("snapshot-deleted", five),
        ("trashed", three),
        ("restored", three),
        ("trashed", three),
        ("purged", three),
        ("deleted", five),
    ]
    cloned = told.wait("volume_changed", mark, action="cloned")["params"]
    assert (cloned["fromVolume"], cloned["snapshotName"]) == (one, "s")
    copied = told.wait("volume_changed", mark, action="copied")["params"]
    assert copied["fromStorageDomainID"] == str(sd)
    assert told.wait("volume_changed", mark, action="imported")["params"]["size"] == 16 * MiB


def told_up_to(told: Told, mark: int, last: str) -> int:
    """The mark, once all is heard that was told up to the deletion of a volume."""
    told.wait("volume_changed", mark, action="deleted", volumeName=last)
    return mark


def test_a_volume_that_is_moved_or_patched_is_told(
    site: Site, names: Callable[[], str], folder: Path, told: Told
) -> None:
    mark, sd = told.mark(), site.storage_domain_id
    one, other = names(), names()
    site.volume("create", one, size=16 * MiB)
    with connected(site, pool=POOL2) as elsewhere:
        result_of(site, "move", storageDomainID=sd, volumeName=one, newStorageDomainID=elsewhere)
        moved = told.wait("volume_changed", mark, action="moved")["params"]
        assert (moved["storageDomainID"], moved["volumeName"]) == (str(elsewhere), one)
        assert (moved["fromStorageDomainID"], moved["fromVolume"]) == (str(sd), one)
        result_of(site, "move", storageDomainID=elsewhere, volumeName=one, newStorageDomainID=sd)
    told.wait("storage_domain_disconnected", mark, storageDomainID=elsewhere, cause="asked")
    site.volume("createSnapshot", one, snapshotName="a")
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, one) as image:
        image.write(b"more" * 1024, 0)
    site.volume("createSnapshot", one, snapshotName="b")
    diffs = {"a": {}, "b": {"fromSnapshot": "a"}}
    for to, since in diffs.items():
        path = str(folder / f"{to}.diff")
        asked = {"storageDomainID": sd, "volumeName": one, "toSnapshot": to, "path": path}
        result_of(site, "exportDiff", **asked, **since)
        result_of(site, "importDiff", storageDomainID=sd, volumeName=other, path=path)
    actions = [e["params"]["action"] for e in told.since(mark, "volume_changed")
               if e["params"]["volumeName"] == other]  # fmt: skip
    told.wait("volume_changed", mark, action="patched", volumeName=other, snapshotName="b")
    assert actions[0] == "imported"


def test_how_far_a_job_is_is_told_now_and_then(
    site: Site, names: Callable[[], str], told: Told
) -> None:
    one, copy = names(), names()
    site.volume("create", one, size=256 * MiB)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, one) as image:
        for offset in range(0, 256 * MiB, 4 * MiB):
            image.write(b"x" * (4 * MiB), offset)
    mark = told.mark()
    job = start(site, "copy", storageDomainID=site.storage_domain_id, volumeName=one, newName=copy)
    progress = told.wait("job_progress", mark, id=job)["params"]
    assert progress["bytesTotal"] == 256 * MiB
    assert 0 <= progress["bytesDone"] <= 256 * MiB
    began = ended(site, job)["started"]
    told.wait("job_status", mark, id=job, status="done")
    heard = [e for e in told.since(mark, "job_progress") if e["params"]["id"] == job]
    assert len(heard) <= time.time() - began + 2


def test_a_client_that_is_evicted_is_told(site: Site, names: Callable[[], str], told: Told) -> None:
    name = names()
    site.volume("create", name, size=MiB)
    client = dead_owner(site, name)
    mark = told.mark()
    assert error_of(site.volume, "evict", name, client=client).name == "EvictionNotConfirmed"
    done = site.volume("evict", name, client=client, confirm=True)
    event = told.wait("client_evicted", mark, volumeName=name)["params"]
    assert (event["client"], event["address"]) == (client, done["address"])
    assert len(told.since(mark, "client_evicted")) == 1


# --- keys ---


def test_keys_are_told_by_their_names_and_never_by_their_values(
    site: Site, told: Told, recording: Recording
) -> None:
    mark, value = told.mark(), Sensitive(uuid.uuid4().bytes + uuid.uuid4().bytes)
    secret = secret_info(uuid.uuid4(), value)
    site.call("Host.registerSecrets", secrets=[secret])
    registered = told.wait("secrets_registered", mark)["params"]
    assert registered == {"uuids": [str(secret["uuid"])]}
    site.call("Host.unregisterSecrets", uuids=[secret["uuid"]])
    assert told.wait("secrets_unregistered", mark)["params"] == registered
    assert value.reveal_base64() not in "".join(recording.replies)


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_a_libvirt_that_goes_and_comes_back_is_told_and_so_are_the_keys(
    rough: Rough, rough_told: Told, end: str
) -> None:
    mark = rough_told.mark()
    getattr(rough.libvirtd, end)()
    rough_told.wait("libvirt_lost", mark)
    rough.libvirtd.restart()
    back = rough_told.wait("libvirt_back", mark)["params"]
    assert back["downFor"] > 0
    lost = rough_told.wait("secrets_lost", mark)["params"]["uuids"]
    restored = rough_told.wait("secrets_restored", mark)["params"]
    assert lost == restored["uuids"]
    assert str(rough.site.secret_uuid) in lost
    assert restored["failed"] == []
    order = [e["event"] for e in rough_told.since(mark)
             if e["event"].startswith(("libvirt_", "secrets_"))]  # fmt: skip
    assert order == ["libvirt_lost", "secrets_lost", "secrets_restored", "libvirt_back"]


# --- storage ---


def test_a_cluster_whose_osd_stops_is_told_and_told_again_when_it_serves(
    rough: Rough, rough_told: Told
) -> None:
    mark, domain = rough_told.mark(), rough.site.storage_domain_id
    rough.site.ceph.suspend_osd()
    try:
        gone = rough_told.wait("storage_domain_unreachable", mark, storageDomainID=domain)
        assert "OSD" in gone["params"]["reason"]
        # Nothing else waits for that.
        began_s = time.monotonic()
        rough.site.call("Host.ping2")
        rough.site.call("StorageDomain.list")
        assert time.monotonic() - began_s < 5
    finally:
        rough.site.ceph.resume_osd()
    back = rough_told.wait("storage_domain_reachable", mark, storageDomainID=domain)["params"]
    assert back["downFor"] > 0
    time.sleep(2)
    told = [e["event"] for e in rough_told.since(mark, "storage_domain_unreachable",
                                                 "storage_domain_reachable")]  # fmt: skip
    assert told == ["storage_domain_unreachable", "storage_domain_reachable"]


def test_a_cluster_whose_monitor_stops_is_told(rough: Rough, rough_told: Told) -> None:
    mark, domain = rough_told.mark(), rough.site.storage_domain_id
    rough.site.ceph.suspend_mon()
    try:
        gone = rough_told.wait("storage_domain_unreachable", mark, storageDomainID=domain)
        assert "monitors" in gone["params"]["reason"]
    finally:
        rough.site.ceph.resume_mon()
    rough_told.wait("storage_domain_reachable", mark, storageDomainID=domain)


def test_a_pool_that_fills_up_and_is_emptied_is_told(rough: Rough, rough_told: Told) -> None:
    site, pool = rough.site, "filling"
    site.ceph.create_pool(pool)
    site.ceph.create_image(pool, "fill", 64 * MiB)
    with connected(site, pool=pool) as domain:
        mark = rough_told.mark()
        write(site, pool, 18 * MiB)
        set_quota(site.ceph, pool, 20 * MiB)
        nearly = rough_told.wait("pool_nearly_full", mark, 120, storageDomainID=domain)["params"]
        assert (nearly["pool"], nearly["capacity"]) == (pool, 20 * MiB)
        assert 17 * MiB <= nearly["used"] < 20 * MiB
        set_quota(site.ceph, pool, 8 * MiB)
        until(lambda: is_full(site.ceph, pool), 60)
        rough_told.wait("pool_full", mark, 120, storageDomainID=domain)
        set_quota(site.ceph, pool, 0)
        until(lambda: not is_full(site.ceph, pool), 60)
        rough_told.wait("pool_has_room", mark, 120, storageDomainID=domain)
    with site.ceph.pool(pool) as ioctx:
        remove_if_there(ioctx, "fill")


def write(site: Site, pool: str, size: int) -> None:
    with site.ceph.pool(pool) as ioctx, rbd.Image(ioctx, "fill") as image:
        for offset in range(0, size, MiB):
            image.write(b"z" * MiB, offset)


def test_a_domain_that_is_connected_is_told_with_its_cluster(site: Site, told: Told) -> None:
    mark = told.mark()
    with connected(site, pool=POOL2, name="other") as domain:
        event = told.wait("storage_domain_connected", mark, storageDomainID=domain)["params"]
        assert (event["name"], event["pool"], event["namespace"]) == ("other", POOL2, "")
        assert UUID(event["fsid"]) == UUID(site.ceph.fsid)


# --- reading them ---


def test_who_comes_back_hears_what_he_missed_and_nothing_twice(
    site: Site, guest: Guest, told: Told
) -> None:
    mark = told.mark()
    site.call("VM.freeze", vmID=guest.uuid, timeout=30)
    cursor = told.wait("vm_frozen", mark)["cursor"]
    site.call("VM.thaw", vmID=guest.uuid)
    told.wait("vm_thawed", mark)
    path = str(site.daemon.socket)
    missed = list(events(path, cursor, ["vm_frozen", "vm_thawed"], follow=False))
    assert [event["event"] for event in missed] == ["vm_thawed"]
    assert list(events(path, missed[0]["cursor"], ["vm_thawed"], follow=False)) == []


def test_cursors_of_one_daemon_grow_without_a_gap(site: Site) -> None:
    heard = list(events(str(site.daemon.socket), "0", follow=False))
    cursors = [event["cursor"].partition("-") for event in heard]
    assert len({run for run, _, _ in cursors}) == 1
    numbers = [int(number) for _, _, number in cursors]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    times = [event["time"] for event in heard]
    assert all(abs(moment - time.time()) < 86400 for moment in times)


def test_a_daemon_with_a_small_memory_says_what_it_forgot(
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    recording: Recording,
) -> None:
    overrides = {"secrets": {"usage_prefix": "small/"}, "events": {"kept": 16}}
    daemon = start_daemon("daemon-small", overrides=overrides)
    client = connect(daemon)
    first = next(iter(events(str(daemon.socket), "0", follow=False)))
    assert first["event"] == "daemon_started"
    for number in range(20):
        secret = {
            "uuid": str(UUID(int=number + 1)),
            "usageType": "ceph",
            "usageID": f"small/{number}",
            "password": Sensitive(b"x" * 20),
        }
        client.call("Host.registerSecrets", secrets=[secret])
    lost, *rest = events(str(daemon.socket), first["cursor"], follow=False)
    assert lost["params"] == {"cause": "forgotten", "count": 4}
    assert len(rest) == 16
    recording.heard(lost)
    daemon.kill()


def test_every_event_of_the_contract_is_brought_about_here(recording: Recording) -> None:
    """With the rest of this file; a part of it alone brings about a part of them."""
    missing = set(load_contract().events) - recording.events
    if len(missing) > 10:
        pytest.skip("only part of the tests of events was run")
    assert sorted(missing) == []
