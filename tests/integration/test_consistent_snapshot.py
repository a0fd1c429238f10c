"""VM.createConsistentSnapshot and its family: made together, listed, deleted, pruned and restored as one."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
import rbd

from tests.integration.conftest import Rough, Site, domain_settings, secret_info
from tests.integration.migrating import migrating
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.stall import stalled
from tests.integration.test_freeze import guest_says
from tests.lab.daemon import Daemon
from tests.lab.domain_xml import FileDisk, GuestSpec, RbdDisk
from tests.lab.guest import Guest
from tests.lab.inspect_image import examine_image
from tests.lab.stack import POOL, POOL2
from tests.lab.template import run_guest
from virtceph.sensitive import Sensitive

MakeGuest = Callable[..., Guest]
MakeImage = Callable[..., RbdDisk]


@pytest.fixture
def name() -> str:
    return f"set-{uuid.uuid4().hex[:8]}"


def run(site: Site, verb: str, vm_id: str, **params: Any) -> dict[str, Any]:
    """Start a job, wait for its end and return it."""
    job_id = uuid.uuid4()
    assert site.call(verb, vmID=vm_id, jobUUID=job_id, **params) is True
    return dict(site.client.wait_for_job(job_id, 150))


def create(site: Site, guest: Guest, name: str, **params: Any) -> dict[str, Any]:
    """The job that makes a set, which is well done. Unless `params` say how long that may take, it is no
    matter: on a busy machine a guest may be frozen, or snapshots under way, for more than the default."""
    asked = {"snapshotName": name, "maxFrozen": 60, **params}
    job = run(site, "VM.createConsistentSnapshot", guest.uuid, **asked)
    assert job["status"] == "done", job
    return job


def error_of_job(site: Site, verb: str, guest: Guest, name: str, **params: Any) -> Any:
    job = run(site, verb, guest.uuid, snapshotName=name, **params)
    assert job["status"] == "failed", job
    return job["error"]["data"]


def listed(site: Site, guest: Guest) -> list[dict[str, Any]]:
    return list(site.call("VM.listConsistentSnapshots", vmID=guest.uuid))


def set_of(site: Site, guest: Guest, name: str) -> dict[str, Any]:
    (found,) = [one for one in listed(site, guest) if one["snapshotName"] == name]
    return found


def images(guest: Guest) -> list[str]:
    return [disk.image for disk in guest.spec.disks if isinstance(disk, RbdDisk)]


def snapshots(site: Site, guest: Guest) -> list[list[str]]:
    return [
        [s["snapshotName"] for s in site.volume("listSnapshots", image)] for image in images(guest)
    ]


def intents(site: Site, guest: Guest) -> list[Path]:
    """What a daemon would have to undo of this guest. Another test's may be kept for a minute and a half."""
    kept = (site.daemon.folder / "state/snapshots").glob("*.json")
    return [path for path in kept if json.loads(path.read_text())["vm_id"] == guest.uuid]


# --- made together ---


def test_a_set_is_made_under_one_freeze_and_noted_on_its_images(
    site: Site, vm: Guest, name: str
) -> None:
    job = create(site, vm, name, description="before the upgrade")
    assert (job["status"], job["job_type"]) == ("done", "virt"), job
    result = job["result"]
    assert (result["consistency"], result["complete"]) == ("filesystem", True)
    assert 0 < result["frozenFor"] < 60
    assert {"prepare", "freeze", "snapshots", "thaw"} == set(result["steps"])
    assert [disk["volumeName"] for disk in result["disks"]] == images(vm)
    assert guest_says(vm) == "thawed"
    assert set_of(site, vm, name) == result
    for image in images(vm):
        (made,) = [
            s for s in site.volume("listSnapshots", image) if s["snapshotName"] == name
        ]  # fmt: skip
        assert made["consistency"] == "filesystem"
    assert intents(site, vm) == []


def test_a_set_called_filesystem_is_clean_and_holds_what_was_acknowledged(
    site: Site, vm: Guest, name: str, tmp_path: Path
) -> None:
    vm.wait_for_records(5)
    before = vm.acknowledged()[-1].number
    assert create(site, vm, name)["result"]["consistency"] == "filesystem"
    counts = []
    for image in images(vm):
        with site.ceph.pool(POOL) as ioctx:
            report = examine_image(ioctx, image, name, tmp_path)
        assert report.clean
        assert not report.needs_recovery
        assert report.records[:before] == list(range(1, before + 1))
        counts.append(len(report.records))
    # The writer writes to one disk after the other; of one instant they differ by one at the most.
    assert max(counts) - min(counts) <= 1


def test_no_image_stays_open_after_the_job(site: Site, vm: Guest, name: str) -> None:
    before = [len(site.volume("getInfo", image)["watchers"]) for image in images(vm)]
    create(site, vm, name)
    assert [len(site.volume("getInfo", image)["watchers"]) for image in images(vm)] == before


def test_a_required_freeze_that_fails_leaves_nothing(
    site: Site, make_guest: MakeGuest, name: str
) -> None:
    guest = make_guest(agent_channel=False)
    told = error_of_job(site, "VM.createConsistentSnapshot", guest, name)
    assert (told["error"], told["step"]) == ("SnapshotFailed", "freeze")
    assert "no guest agent channel" in told["reason"]
    assert snapshots(site, guest) == [[], []]
    assert listed(site, guest) == []
    assert intents(site, guest) == []


def test_a_preferred_freeze_that_fails_is_told(
    site: Site, make_guest: MakeGuest, name: str
) -> None:
    guest = make_guest(agent_channel=False)
    result = create(site, guest, name, freeze="preferred")["result"]
    assert result["consistency"] == "crash"
    assert "no guest agent channel" in result["reason"]
    assert "frozenFor" not in result


def test_a_guest_is_not_asked_when_no_freeze_is_wanted(site: Site, vm: Guest, name: str) -> None:
    result = create(site, vm, name, freeze="no")["result"]
    assert (result["consistency"], result["reason"]) == ("crash", "not frozen, as asked")
    assert "freeze" not in result["steps"]


def test_a_name_that_is_taken_on_one_disk_leaves_nothing_on_the_other(
    site: Site, vm: Guest, name: str
) -> None:
    site.volume("createSnapshot", "shared-b", snapshotName=name)
    before = snapshots(site, vm)
    assert error_of_job(site, "VM.createConsistentSnapshot", vm, name)["step"] == "prepare"
    assert snapshots(site, vm) == before
    assert guest_says(vm) == "thawed"


def test_a_stalled_vm_fails_the_set_and_is_not_cut_off(
    site: Site, make_guest: MakeGuest, make_image: MakeImage, name: str
) -> None:
    guest = make_guest(disks=[make_image(keep=True), make_image(keep=True)])
    guest.wait_for_records(3)
    owners = [site.volume("getInfo", image)["lockOwner"] for image in images(guest)]
    with stalled(guest):
        assert error_of_job(site, "VM.createConsistentSnapshot", guest, name)["step"] == "prepare"
    guest.wait_for_records(5)
    assert snapshots(site, guest) == [[], []]
    assert owners == [site.volume("getInfo", image)["lockOwner"] for image in images(guest)]


def test_what_is_frozen_already_is_not_frozen_again(site: Site, vm: Guest, name: str) -> None:
    with site.client.frozen(vm.uuid, 60.0):
        told = error_of_job(site, "VM.createConsistentSnapshot", vm, name)
        assert guest_says(vm) == "frozen"
    assert told["step"] == "freeze"
    assert name not in [one["snapshotName"] for one in listed(site, vm)]


def test_eight_disks_are_snapshotted_in_one_round(
    site: Site, make_guest: MakeGuest, make_image: MakeImage, name: str
) -> None:
    guest = make_guest(disks=[make_image() for _ in range(8)])
    result = create(site, guest, name, maxFrozen=60)["result"]
    assert (result["consistency"], len(result["disks"])) == ("filesystem", 8)
    assert snapshots(site, guest) == [[name]] * 8


def test_a_set_that_comes_too_late_is_undone_at_once(site: Site, vm: Guest, name: str) -> None:
    # No monitor answers so soon. A worker killed for it would hold up the undo for half a minute.
    asked = {"freeze": "no", "maxFrozen": 0.02}
    for _ in range(10):
        told = error_of_job(site, "VM.createConsistentSnapshot", vm, name, **asked)
        assert told["step"] == "freeze_timeout"
        # On a busy machine it may be over before they are begun.
        if told["reason"] != "the time is over":
            break
    assert "left of its time" in told["reason"]
    assert all(name not in there for there in snapshots(site, vm))
    assert intents(site, vm) == []
    create(site, vm, name)


# --- file disks and memory ---


@pytest.fixture
def mixed(make_guest: MakeGuest, make_image: MakeImage, folder: Path) -> Guest:
    """A guest with an RBD disk and a qcow2 file."""
    base = folder / "base.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "64M"], check=True)
    guest = make_guest(disks=[make_image(), FileDisk(base, "qcow2")])
    guest.wait_for_agent()
    guest.wait_for_records(2)
    return guest


def test_a_file_disk_gets_an_overlay_beside_it_under_the_same_freeze(
    site: Site, mixed: Guest, folder: Path, name: str
) -> None:
    result = create(site, mixed, name)["result"]
    overlay = str(folder / f"base.qcow2.{name}")
    assert result["consistency"] == "filesystem"
    assert "overlays" in result["steps"]
    assert result["disks"][1] == {"disk": "vdb", "path": overlay}
    mixed.wait_for_records(2)
    assert overlay in mixed.domain.XMLDesc()
    told = error_of_job(site, "VM.restoreConsistentSnapshot", mixed, name, into="clones",
                        clonePrefix="x" * 95)  # fmt: skip
    assert (told["error"], told["field"]) == ("InvalidParameter", "clonePrefix")


def test_an_overlay_that_exists_is_not_overwritten(
    site: Site, mixed: Guest, folder: Path, name: str
) -> None:
    (folder / f"base.qcow2.{name}").touch()
    error = error_of(
        site.call, "VM.createConsistentSnapshot", vmID=mixed.uuid, snapshotName=name
    )  # fmt: skip
    assert error.name == "PathExists"


def test_memory_and_disks_are_of_one_instant(
    site: Site, vm: Guest, folder: Path, name: str
) -> None:
    path = folder / "memory"
    result = create(site, vm, name, memoryPath=str(path), freeze="no", maxFrozen=60)["result"]
    assert (result["memoryPath"], result["consistency"]) == (str(path), "crash")
    assert path.stat().st_size > 1 << 20
    assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    vm.wait_for_records(2)


def test_memory_under_a_freeze_leaves_the_guest_running_and_thawed(
    site: Site, vm: Guest, folder: Path, name: str
) -> None:
    path = folder / "frozen-memory"
    job = create(site, vm, name, memoryPath=str(path), maxFrozen=60)
    assert job["status"] == "done", job.get("error")
    assert job["result"]["consistency"] == "filesystem"
    assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert guest_says(vm) == "thawed"


def test_a_memory_path_outside_the_exchange_is_refused(site: Site, vm: Guest, name: str) -> None:
    params = {"vmID": vm.uuid, "snapshotName": name, "memoryPath": "/etc/virtceph-memory"}
    assert error_of(site.call, "VM.createConsistentSnapshot", **params).name == "PathNotAllowed"


# --- what is refused before anything is touched ---


@pytest.mark.parametrize(
    ("params", "code", "field"),
    [
        ({"disks": ["vda", "vda"]}, 91, "disks[1]"),
        ({"disks": ["vda", "vdz"]}, 13, "disks[1]"),
        ({"disks": []}, 91, "disks"),
        ({"maxFrozen": 0}, 91, "maxFrozen"),
        ({"maxFrozen": 601}, 91, "maxFrozen"),
        ({"freeze": "perhaps"}, 91, "freeze"),
    ],
)
def test_an_impossible_set_is_told_by_its_field(
    site: Site, vm: Guest, name: str, params: dict[str, Any], code: int, field: str
) -> None:
    asked = {"vmID": vm.uuid, "snapshotName": name, **params}
    error = error_of(site.call, "VM.createConsistentSnapshot", **asked)
    assert (error.code, error.data["field"]) == (code, field)


FAMILY = {
    "VM.createConsistentSnapshot": {"snapshotName": "s"},
    "VM.listConsistentSnapshots": {},
    "VM.deleteConsistentSnapshot": {"snapshotName": "s"},
    "VM.pruneConsistentSnapshots": {"keepLast": 1},
    "VM.restoreConsistentSnapshot": {"snapshotName": "s"},
}
JOBS = [verb for verb in FAMILY if "snapshotName" in FAMILY[verb]]


@pytest.mark.parametrize("verb", FAMILY)
def test_an_unknown_vm_is_told_by_every_verb(site: Site, verb: str) -> None:
    error = error_of(site.call, verb, vmID=uuid.uuid4(), **FAMILY[verb])
    assert error.name == "NoSuchVM"


@pytest.mark.parametrize("verb", FAMILY)
def test_a_vm_that_is_no_uuid_is_told_by_every_verb(site: Site, verb: str) -> None:
    error = error_of(site.call, verb, vmID="web01", **FAMILY[verb])
    assert (error.name, error.data["field"]) == ("InvalidParameter", "vmID")


@pytest.mark.parametrize("verb", JOBS)
def test_a_job_id_is_taken_once(site: Site, down: Guest, vm: Guest, name: str, verb: str) -> None:
    guest = vm if verb == "VM.createConsistentSnapshot" else down
    params = {"vmID": guest.uuid, "jobUUID": uuid.uuid4(), "snapshotName": name}
    assert site.call(verb, **params) is True
    assert site.call(verb, **params) is True
    site.client.wait_for_job(params["jobUUID"], 60)
    error = error_of(site.call, verb, **{**params, "snapshotName": "other"})
    assert (error.code, error.name) == (100, "JobExists")


def test_a_migrating_vm_is_refused(
    site: Site, make_guest: MakeGuest, lab_state: Path, name: str
) -> None:
    guest = make_guest(disks=[])
    guest.wait_for_agent()
    with migrating(guest, lab_state, "target-sets"):
        asked = {"vmID": guest.uuid, "snapshotName": name}
        error = error_of(site.call, "VM.createConsistentSnapshot", **asked)
    assert (error.code, error.name) == (51, "MigrationInProgress")


# --- a VM that is off ---


def stop(site: Site, guest: Guest) -> None:
    """End the guest, and wait until nobody has its images open."""
    guest.destroy()
    deadline_s = time.monotonic() + 45
    while any(site.volume("getInfo", image)["watchers"] for image in images(guest)):
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


@pytest.fixture
def down(site: Site, kept: Guest) -> Guest:
    """A VM that is off, with the set `before` of its two disks."""
    kept.wait_for_records(3)
    create(site, kept, "before")
    kept.wait_for_records(3)
    stop(site, kept)
    return kept


def test_a_vm_that_is_off_is_told(site: Site, down: Guest, name: str) -> None:
    asked = {"vmID": down.uuid, "snapshotName": name}
    error = error_of(site.call, "VM.createConsistentSnapshot", **asked)
    assert error.name == "VMDown"


def test_a_vm_that_is_off_is_snapshotted_when_nobody_is_to_be_frozen(
    site: Site, down: Guest, name: str
) -> None:
    job = create(site, down, name, freeze="no")
    assert job["status"] == "done", job.get("error")
    assert job["result"]["consistency"] == "crash"
    assert all(name in found for found in snapshots(site, down))
    assert [s["snapshotName"] for s in listed(site, down)] == ["before", name]


def test_a_rollback_brings_every_disk_back(site: Site, down: Guest, tmp_path: Path) -> None:
    with site.ceph.pool(POOL) as ioctx:
        before = [examine_image(ioctx, i, "before", tmp_path).records for i in images(down)]
        site.volume("createSnapshot", images(down)[0], snapshotName="after")
        after = examine_image(ioctx, images(down)[0], "after", tmp_path).records
        assert len(after) > len(before[0])
        site.volume("deleteSnapshot", images(down)[0], snapshotName="after")
        job = run(site, "VM.restoreConsistentSnapshot", down.uuid, snapshotName="before")
        assert job["status"] == "done", job.get("error")
        assert [d["volumeName"] for d in job["result"]["disks"]] == images(down)
        for image, records in zip(images(down), before, strict=True):
            site.volume("createSnapshot", image, snapshotName="restored")
            assert examine_image(ioctx, image, "restored", tmp_path).records == records


def original(site: Site, image: str) -> dict[str, Any]:
    """What is told of an image, but for its clones, and that Ceph now marks it as one that has some."""
    told = dict(site.volume("getInfo", image))
    features = [f for f in told["features"] if f != "operations"]
    return {**told, "features": features, "clones": [], "cloneCount": 0}


def test_clones_hold_the_set_and_leave_the_originals_alone(
    site: Site, down: Guest, tmp_path: Path
) -> None:
    before = [original(site, image) for image in images(down)]
    job = run(site, "VM.restoreConsistentSnapshot", down.uuid, snapshotName="before",
              into="clones", clonePrefix="copy-")  # fmt: skip
    assert job["status"] == "done", job.get("error")
    clones = [disk["volumeName"] for disk in job["result"]["disks"]]
    assert clones == [f"copy-{image}" for image in images(down)]
    assert [original(site, image) for image in images(down)] == before
    with site.ceph.pool(POOL) as ioctx:
        for image, clone in zip(images(down), clones, strict=True):
            told = site.volume("getInfo", clone)
            assert told["parent"] == f"{POOL}/{image}@before"
            records = examine_image(ioctx, image, "before", tmp_path).records
            site.volume("createSnapshot", clone, snapshotName="look")
            assert examine_image(ioctx, clone, "look", tmp_path).records == records
            site.volume("deleteSnapshot", clone, snapshotName="look")
            site.volume("delete", clone)


def test_clones_are_all_made_or_none(site: Site, down: Guest) -> None:
    taken = f"half-{images(down)[1]}"
    site.volume("create", taken, size=1 << 20)
    told = error_of_job(site, "VM.restoreConsistentSnapshot", down, "before",
                        into="clones", clonePrefix="half-")  # fmt: skip
    assert (told["error"], told["volumeName"]) == ("VolumeExists", taken)
    names = [v["volumeName"] for v in site.call(
        "Volume.list", storageDomainID=site.storage_domain_id)]  # fmt: skip
    assert f"half-{images(down)[0]}" not in names
    assert site.volume("getInfo", taken)["size"] == 1 << 20
    site.volume("delete", taken)


def test_a_running_vm_is_not_rolled_back(site: Site, vm: Guest) -> None:
    asked = {"vmID": vm.uuid, "snapshotName": "s"}
    error = error_of(site.call, "VM.restoreConsistentSnapshot", **asked)
    assert (error.name, error.data["status"]) == ("VMRunning", "Up")


@pytest.mark.parametrize("params", [{"into": "clones"}, {"clonePrefix": "x"}])
def test_a_prefix_comes_with_clones_and_with_nothing_else(
    site: Site, down: Guest, params: dict[str, str]
) -> None:
    asked = {"vmID": down.uuid, "snapshotName": "before", **params}
    error = error_of(site.call, "VM.restoreConsistentSnapshot", **asked)
    assert (error.name, error.data["field"]) == ("InvalidParameter", "clonePrefix")


def test_an_image_that_somebody_has_open_is_not_rolled_back(site: Site, down: Guest) -> None:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, images(down)[1]):
        told = error_of_job(site, "VM.restoreConsistentSnapshot", down, "before")
    assert (told["error"], told["volumeName"]) == ("VolumeInUse", images(down)[1])


def test_a_disk_that_was_taken_from_the_vm_is_not_rolled_back(site: Site, down: Guest) -> None:
    persistent = down.domain.connect().lookupByUUIDString(down.uuid)
    persistent.detachDeviceFlags(
        f"<disk type='network' device='disk'><source protocol='rbd' name='{POOL}/{images(down)[1]}'/>"
        "<target dev='vdb' bus='virtio'/></disk>",
        libvirt.VIR_DOMAIN_AFFECT_CONFIG,
    )
    told = error_of_job(site, "VM.restoreConsistentSnapshot", down, "before")
    assert told["error"] == "OperationNotSupported"
    assert images(down)[1] in told["what"]


# A lock whose holder does not watch, as a stalled VM's: librbd's own is not needed for that.
@pytest.fixture
def orphaned(site: Site, down: Guest) -> Iterator[str]:
    image = images(down)[1]
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as opened:
        opened.lock_exclusive("somebody")
    with site.ceph.pool(POOL) as ioctx:
        yield image
        with rbd.Image(ioctx, image, read_only=True) as opened:
            lockers = opened.list_lockers()["lockers"]
        with rbd.Image(ioctx, image) as opened:
            for client, cookie, _ in lockers:
                opened.break_lock(client, cookie)


@pytest.mark.parametrize("verb", ["VM.deleteConsistentSnapshot", "VM.restoreConsistentSnapshot"])
def test_a_lock_that_nobody_answers_for_is_not_broken(
    site: Site, down: Guest, orphaned: str, verb: str
) -> None:
    told = error_of_job(site, verb, down, "before")
    assert (told["error"], told["volumeName"]) == ("LockOwnerStalled", orphaned)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, orphaned, read_only=True) as opened:
        assert opened.list_lockers()["lockers"]


# --- listed, deleted, pruned ---


def test_a_vm_without_disks_in_connected_pools_has_no_sets(
    site: Site, make_guest: MakeGuest
) -> None:
    assert listed(site, make_guest(disks=[])) == []


def test_a_deleted_set_is_gone_from_every_disk(site: Site, vm: Guest, name: str) -> None:
    create(site, vm, name)
    job = run(site, "VM.deleteConsistentSnapshot", vm.uuid, snapshotName=name)
    assert (job["status"], job["job_type"]) == ("done", "storage"), job
    assert all(name not in there for there in snapshots(site, vm))
    assert name not in [s["snapshotName"] for s in listed(site, vm)]
    for image in images(vm):
        assert name not in str(site.volume("getInfo", image)["metadata"])


def test_half_a_set_is_told_and_can_be_deleted(site: Site, vm: Guest, name: str) -> None:
    create(site, vm, name)
    site.volume("deleteSnapshot", "shared-a", snapshotName=name)
    half = set_of(site, vm, name)
    assert half["complete"] is False
    assert half["missing"] == [{"disk": "vda", "reason": "its snapshot is gone"}]
    told = error_of_job(
        site, "VM.restoreConsistentSnapshot", vm, name, into="clones", clonePrefix="x"
    )
    assert (told["error"], told["volumeName"]) == ("NoSuchSnapshot", "shared-a")
    assert run(site, "VM.deleteConsistentSnapshot", vm.uuid, snapshotName=name)["status"] == "done"
    assert name not in [s["snapshotName"] for s in listed(site, vm)]


@pytest.mark.parametrize("verb", ["VM.deleteConsistentSnapshot", "VM.restoreConsistentSnapshot"])
def test_an_unknown_set_is_told(site: Site, down: Guest, verb: str) -> None:
    told = error_of_job(site, verb, down, "nosuch")
    assert (told["error"], told["snapshotName"]) == ("NoSuchSnapshot", "nosuch")


def test_a_snapshot_that_is_no_sets_is_not_deleted(site: Site, down: Guest) -> None:
    site.volume("createSnapshot", images(down)[0], snapshotName="by-hand")
    assert error_of_job(site, "VM.deleteConsistentSnapshot", down, "by-hand")["error"] == (
        "NoSuchSnapshot"
    )
    assert "by-hand" in snapshots(site, down)[0]


def test_a_copy_of_an_image_is_not_taken_for_a_part_of_the_set(site: Site, down: Guest) -> None:
    with site.ceph.pool(POOL) as ioctx:
        with rbd.Image(ioctx, images(down)[0]) as opened:
            opened.deep_copy(ioctx, "copied")
        persistent = down.domain.connect().lookupByUUIDString(down.uuid)
        xml = persistent.XMLDesc(libvirt.VIR_DOMAIN_XML_SECURE)
        persistent.connect().defineXML(xml.replace(f"{POOL}/{images(down)[0]}", f"{POOL}/copied"))
        told = set_of(site, down, "before")
        assert told["complete"] is True
        assert [d["volumeName"] for d in told["disks"]] == images(down)
        with rbd.Image(ioctx, "copied") as opened:
            opened.remove_snap("before")
        rbd.RBD().remove(ioctx, "copied")


def protect(site: Site, image: str, snapshot: str, *, on: bool) -> None:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as opened:
        (opened.protect_snap if on else opened.unprotect_snap)(snapshot)


def test_a_protected_snapshot_is_told_and_nothing_of_its_set_is_deleted(
    site: Site, down: Guest
) -> None:
    protect(site, images(down)[1], "before", on=True)
    told = error_of_job(site, "VM.deleteConsistentSnapshot", down, "before")
    assert (told["error"], told["volumeName"]) == ("SnapshotProtected", images(down)[1])
    assert snapshots(site, down) == [["before"], ["before"]]
    protect(site, images(down)[1], "before", on=False)
    assert run(site, "VM.deleteConsistentSnapshot", down.uuid, snapshotName="before")["status"] == (
        "done"
    )


def prune(site: Site, guest: Guest, **params: Any) -> dict[str, list[str]]:
    return dict(site.call("VM.pruneConsistentSnapshots", vmID=guest.uuid, **params))


def test_pruning_keeps_the_latest_and_tells_before_it_deletes(site: Site, kept: Guest) -> None:
    for name in ("a", "b", "c"):
        create(site, kept, name)
    told = {"kept": ["b", "c"], "deleted": ["a"]}
    assert prune(site, kept, keepLast=2, dryRun=True) == told
    assert len(listed(site, kept)) == 3
    assert prune(site, kept, keepLast=2) == told
    assert snapshots(site, kept) == [["b", "c"]] * 2
    assert prune(site, kept, keepMonthly=1) == {"kept": ["c"], "deleted": ["b"]}


def test_pruning_by_a_prefix_leaves_the_others(site: Site, kept: Guest) -> None:
    for name in ("daily-1", "mine", "daily-2"):
        create(site, kept, name)
    told = {"kept": ["daily-2"], "deleted": ["daily-1"]}
    assert prune(site, kept, keepLast=1, namePrefix="daily-") == told
    assert snapshots(site, kept) == [["mine", "daily-2"]] * 2


def test_pruning_needs_to_know_what_to_keep(site: Site, vm: Guest) -> None:
    error = error_of(prune, site, vm)
    assert (error.name, error.data["field"]) == ("InvalidParameter", "keepLast")


def test_pruning_tells_what_it_cannot_delete(site: Site, kept: Guest) -> None:
    for name in ("a", "b", "c"):
        create(site, kept, name)
    stop(site, kept)
    protect(site, images(kept)[0], "a", on=True)
    error = error_of(prune, site, kept, keepLast=1)
    assert error.name == "PruneFailed"
    # What cannot be deleted keeps no other.
    assert (error.data["failed"], error.data["deleted"]) == (["a"], ["b"])
    assert "protected" in error.data["reason"]
    assert [one["snapshotName"] for one in listed(site, kept)] == ["a", "c"]
    protect(site, images(kept)[0], "a", on=False)


def test_pruning_breaks_no_lock(site: Site, kept: Guest) -> None:
    for name in ("a", "b"):
        create(site, kept, name)
    stop(site, kept)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, images(kept)[0]) as opened:
        opened.lock_exclusive("somebody")
    error = error_of(prune, site, kept, keepLast=1)
    assert (error.name, error.data["failed"], error.data["deleted"]) == ("PruneFailed", ["a"], [])
    assert "owner does not answer" in error.data["reason"]


# --- Ceph and libvirt away ---


@pytest.fixture
def elsewhere(site: Site, make_guest: MakeGuest, make_image: MakeImage) -> Iterator[Any]:
    """A VM with a set in another pool, and a function that connects that pool as a user of given caps."""
    secrets = []
    domain_id = uuid.uuid4()

    def connect(osd: str) -> None:
        site.call("StorageDomain.disconnect", storageDomainID=domain_id)
        name = f"user{uuid.uuid4().hex[:8]}"
        secret = secret_info(uuid.uuid4(), Sensitive(b""))
        secret["password"] = site.ceph.create_user(name, osd=osd)
        site.call("Host.registerSecrets", secrets=[secret])
        secrets.append(secret["uuid"])
        settings = domain_settings(
            site, storageDomainID=domain_id, user=name, secretUUID=secret["uuid"], pool=POOL2
        )
        site.call("StorageDomain.connect", **settings)

    guest = make_guest(disks=[make_image(pool=POOL2)])
    guest.wait_for_records(2)
    connect("profile rbd")
    create(site, guest, "before")
    yield guest, connect
    site.call("StorageDomain.disconnect", storageDomainID=domain_id)
    site.call("Host.unregisterSecrets", uuids=secrets)


PROBE = f"allow rwx pool={POOL2} object_prefix .virtceph-caps-probe"


def test_a_user_that_may_not_read_images_is_told(site: Site, elsewhere: Any) -> None:
    guest, connect = elsewhere
    names = ", ".join(
        f"allow rx pool={POOL2} object_prefix {prefix}" for prefix in ("rbd_directory", "rbd_trash")
    )
    connect(f"{names}, {PROBE}")
    error = error_of(site.call, "VM.listConsistentSnapshots", vmID=guest.uuid)
    assert error.name == "CephPermissionDenied"
    assert error_of(prune, site, guest, keepLast=1).name == "CephPermissionDenied"


def test_a_user_that_may_not_write_is_told_and_nothing_is_changed(
    site: Site, elsewhere: Any
) -> None:
    guest, connect = elsewhere
    create(site, guest, "later")
    connect(f"allow rx pool={POOL2}, {PROBE}")
    for verb in ("VM.deleteConsistentSnapshot", "VM.restoreConsistentSnapshot"):
        params = {"into": "clones", "clonePrefix": "c"} if "restore" in verb else {}
        assert error_of_job(site, verb, guest, "before", **params)["error"] == (
            "CephPermissionDenied"
        )
    error = error_of(prune, site, guest, keepLast=1)
    assert (error.name, error.data["deleted"]) == ("PruneFailed", [])
    assert "may not" in error.data["reason"]
    assert [s["snapshotName"] for s in listed(site, guest)] == ["before", "later"]


def test_a_pool_that_is_not_connected_is_missing_and_not_gone(site: Site, elsewhere: Any) -> None:
    guest, connect = elsewhere
    for domain in site.call("StorageDomain.list"):
        if domain["pool"] == POOL2:
            site.call("StorageDomain.disconnect", storageDomainID=domain["storageDomainID"])
    assert listed(site, guest) == []
    connect("profile rbd")
    assert set_of(site, guest, "before")["complete"] is True


@pytest.fixture
def rough_guest(rough: Rough) -> Iterator[Guest]:
    with rough.libvirtd.connection() as connection:
        made = run_guest(connection, GuestSpec("rough-sets", rough.disks), rough.state / "guests")
        made.wait_for_agent()
        yield made
    with rough.libvirtd.connection() as connection:
        connection.lookupByUUIDString(made.uuid).destroy()


@pytest.mark.parametrize("verb", ["VM.listConsistentSnapshots", "VM.pruneConsistentSnapshots"])
def test_without_libvirt_the_disks_of_a_vm_are_not_known(rough: Rough, verb: str) -> None:
    rough.libvirtd.kill()
    try:
        error = error_of(rough.site.call, verb, vmID=uuid.uuid4(), **FAMILY[verb])
    finally:
        rough.libvirtd.restart()
    assert error.name == "LibvirtUnavailable"


def test_without_the_osd_the_family_says_so(rough: Rough, rough_guest: Guest, name: str) -> None:
    site = rough.site
    site.ceph.suspend_osd()
    try:
        told = error_of_job(site, "VM.createConsistentSnapshot", rough_guest, name)
        assert (told["error"], told["step"]) == ("SnapshotFailed", "prepare")
        for verb in ("VM.deleteConsistentSnapshot", "VM.restoreConsistentSnapshot"):
            params = {"into": "clones", "clonePrefix": "c"} if "restore" in verb else {}
            told = error_of_job(site, verb, rough_guest, name, **params)
            assert told["error"] == "CephUnavailable"
        error = error_of(site.call, "VM.listConsistentSnapshots", vmID=rough_guest.uuid)
        assert error.name == "CephUnavailable"
    finally:
        site.ceph.resume_osd()


# --- the daemon killed ---


def test_a_daemon_that_is_killed_leaves_no_half_set(
    site: Site,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    make_guest: MakeGuest,
    make_image: MakeImage,
    folder: Path,
    name: str,
) -> None:
    # So much memory that the daemon can be killed while it is saved, the disks being snapshotted.
    guest = make_guest(disks=[make_image(keep=True), make_image(keep=True)], memory_mib=8192)
    ours, settings = another_daemon(site, start_daemon, connect)
    create(ours, guest, "whole", freeze="no")
    asked = {"memoryPath": str(folder / "memory"), "freeze": "no", "maxFrozen": 60}
    ours.call("VM.createConsistentSnapshot", vmID=guest.uuid, snapshotName=name, **asked)
    deadline_s = time.monotonic() + 50
    while not all(name in there for there in snapshots(site, guest)):
        assert time.monotonic() < deadline_s
    ours.daemon.kill()
    assert len(intents(ours, guest)) == 1
    assert snapshots(site, guest) == [["whole", name]] * 2
    again, _ = another_daemon(site, start_daemon, connect, settings)
    assert snapshots(site, guest) == [["whole"]] * 2
    assert [one["snapshotName"] for one in listed(again, guest)] == ["whole"]
    assert intents(again, guest) == []
    again.daemon.stop()


def another_daemon(
    site: Site,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    settings: dict[str, Any] | None = None,
) -> tuple[Site, dict[str, Any]]:
    """A daemon of its own on the same libvirt and cluster; with `settings` the same one again."""
    daemon = start_daemon("daemon-sets", overrides={"secrets": {"usage_prefix": "sets/"}})
    client = connect(daemon)
    settings = settings or domain_settings(site, user="sets", secretUUID=uuid.uuid4())
    secret = secret_info(settings["secretUUID"], Sensitive(b""), usageID="sets/key")
    secret["password"] = site.ceph.create_user("sets")
    client.call("Host.registerSecrets", secrets=[secret])
    client.call("StorageDomain.connect", **settings)
    ids = settings["secretUUID"], settings["storageDomainID"]
    return Site(client, daemon, *ids, site.ceph, site.recording), settings
