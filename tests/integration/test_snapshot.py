"""VM.snapshot: every form of drive, frozen by the caller or by the daemon, and what it is called."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.integration.conftest import Site
from tests.integration.migrating import migrating
from tests.integration.recorder import error_of
from tests.integration.stall import stalled
from tests.integration.test_freeze import guest_says
from tests.integration.told import Told
from tests.lab.domain_xml import FileDisk
from tests.lab.guest import Guest
from tests.lab.inspect_image import examine_image
from tests.lab.stack import POOL

MakeGuest = Callable[..., Guest]


def run(site: Site, guest: Guest, **params: Any) -> dict[str, Any]:
    """Start a snapshot job, wait for its end and return it."""
    job = uuid.uuid4()
    assert site.call("VM.snapshot", vmID=guest.uuid, jobUUID=job, **params) is True
    return dict(site.client.wait_for_job(job, 60))


def both(guest: Guest, name: str) -> list[dict[str, str]]:
    return [{"disk": target, "snapshotName": name} for target in ("vda", "vdb")]


def snapshots(site: Site, guest: Guest) -> list[list[str]]:
    return [
        [s["snapshotName"] for s in site.volume("listSnapshots", disk.image)]
        for disk in guest.spec.disks
        if hasattr(disk, "image")
    ]


@pytest.fixture
def name() -> str:
    return f"snap-{uuid.uuid4().hex[:8]}"


def test_rbd_disks_are_snapshotted_under_a_freeze_of_the_daemons(
    site: Site, vm: Guest, name: str
) -> None:
    job = run(site, vm, snapDrives=both(vm, name))
    assert (job["status"], job["job_type"], job["description"]) == ("done", "virt", "snapshot_vm")
    result = job["result"]
    assert result["consistency"] == "filesystem"
    assert result["frozenFor"] > 0
    assert result["drives"] == both(vm, name)
    assert guest_says(vm) == "thawed"
    for disk in ("shared-a", "shared-b"):
        (snapshot,) = [s for s in site.volume("listSnapshots", disk) if s["snapshotName"] == name]
        assert snapshot["consistency"] == "filesystem"


def test_a_snapshot_called_filesystem_is_clean_and_holds_what_was_acknowledged(
    site: Site, vm: Guest, name: str, tmp_path: Path
) -> None:
    vm.wait_for_records(5)
    before = vm.acknowledged()[-1].number
    run(site, vm, snapDrives=both(vm, name))
    for disk in ("shared-a", "shared-b"):
        with site.ceph.pool(POOL) as ioctx:
            report = examine_image(ioctx, disk, name, tmp_path)
        assert report.clean
        assert not report.needs_recovery
        assert report.records[:before] == list(range(1, before + 1))


def test_a_snapshot_without_a_freeze_is_called_crash(
    site: Site, make_guest: MakeGuest, name: str
) -> None:
    guest = make_guest(agent_channel=False)
    job = run(site, guest, snapDrives=both(guest, name))
    assert job["status"] == "done"
    assert job["result"]["consistency"] == "crash"
    assert "no guest agent channel" in job["result"]["reason"]


def test_engine_flow_is_pending_until_the_thaw(site: Site, vm: Guest, name: str) -> None:
    """Freeze, snapshot the disks through the storage verbs, VM.snapshot(frozen), thaw."""
    window = site.call("VM.freeze", vmID=vm.uuid, timeout=60)
    for disk in ("shared-a", "shared-b"):
        site.volume("createSnapshot", disk, snapshotName=name)
    job = run(site, vm, frozen=True)
    assert job["status"] == "done"
    assert job["result"]["consistency"] == "pending"
    assert job["result"]["windowID"] == window["windowID"]
    assert guest_says(vm) == "frozen"
    site.call("VM.thaw", vmID=vm.uuid)
    told = site.call("Host.getJobs", job_ids=[job["id"]])[job["id"]]
    assert told["result"]["consistency"] == "filesystem"
    assert told["result"]["frozenFor"] > 0


def test_frozen_drives_are_noted_on_their_images_at_the_thaw(
    site: Site, vm: Guest, name: str
) -> None:
    with site.client.frozen(vm.uuid, 60.0):
        job = run(site, vm, frozen=True, snapDrives=both(vm, name))
        assert job["result"]["consistency"] == "pending"
    deadline_s = time.monotonic() + 10
    while True:
        noted = [s.get("consistency") for s in site.volume("listSnapshots", "shared-a")
                 if s["snapshotName"] == name]  # fmt: skip
        if noted == ["filesystem"]:
            return
        assert time.monotonic() < deadline_s, noted
        time.sleep(0.1)


def test_frozen_for_a_guest_that_nobody_froze_works_and_is_called_crash(
    site: Site, vm: Guest, name: str
) -> None:
    job = run(site, vm, frozen=True, snapDrives=both(vm, name))
    assert (job["status"], job["result"]["consistency"]) == ("done", "crash")
    assert job["result"]["reason"] == "the guest was not frozen"


def test_frozen_by_somebody_else_is_called_crash(site: Site, vm: Guest, name: str) -> None:
    vm.domain.fsFreeze()
    job = run(site, vm, frozen=True, snapDrives=both(vm, name))
    vm.domain.fsThaw()
    assert job["result"]["consistency"] == "crash"
    assert "not by this daemon" in job["result"]["reason"]


def test_a_lease_that_ran_out_makes_it_crash(site: Site, vm: Guest, name: str, told: Told) -> None:
    mark = told.mark()
    # Longer than the job takes anywhere: a lease that ends during it is told by other words.
    site.call("VM.freeze", vmID=vm.uuid, timeout=15)
    job = run(site, vm, frozen=True, snapDrives=both(vm, name))
    assert job["result"]["consistency"] == "pending"
    told.wait("snapshot_inconsistent", mark, jobID=job["id"])
    result = site.call("Host.getJobs", job_ids=[job["id"]])[job["id"]]["result"]
    assert (result["consistency"], result["reason"]) == ("crash", "the lease ran out")


def test_no_drives_at_all_works_and_libvirt_is_not_asked(site: Site, vm: Guest) -> None:
    job = run(site, vm)
    assert (job["status"], job["result"]["drives"]) == ("done", [])


def test_a_name_that_is_taken_leaves_nothing_on_the_other_disk(
    site: Site, vm: Guest, name: str
) -> None:
    site.volume("createSnapshot", "shared-b", snapshotName=name)
    before = snapshots(site, vm)
    job = run(site, vm, snapDrives=both(vm, name))
    assert (job["status"], job["error"]["code"]) == ("failed", 48)
    assert job["error"]["data"]["step"] == "prepare"
    assert snapshots(site, vm) == before
    assert guest_says(vm) == "thawed"


def test_a_stalled_vm_fails_the_snapshot_and_is_not_cut_off(
    site: Site, make_guest: MakeGuest, make_image: Callable[..., Any], name: str
) -> None:
    disks = [make_image(keep=True), make_image(keep=True)]
    guest = make_guest(disks=disks, agent_channel=False)
    guest.wait_for_records(3)
    owners = [site.volume("getInfo", d.image)["lockOwner"] for d in guest.spec.disks]  # type: ignore[union-attr]
    with stalled(guest):
        job = run(site, guest, snapDrives=both(guest, name))
    assert (job["status"], job["error"]["code"]) == ("failed", 48)
    guest.wait_for_records(5)
    assert snapshots(site, guest) == [[], []]
    assert owners == [site.volume("getInfo", d.image)["lockOwner"] for d in guest.spec.disks]  # type: ignore[union-attr]


# --- file disks, memory ---


@pytest.fixture
def mixed(make_guest: MakeGuest, make_image: Callable[..., Any], folder: Path) -> Guest:
    """A guest with an RBD disk and a qcow2 file."""
    base = folder / str(uuid.uuid4()) / str(uuid.uuid4())
    base.parent.mkdir(mode=0o711)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(base), "64M"], check=True)
    guest = make_guest(disks=[make_image(), FileDisk(base, "qcow2")])
    guest.wait_for_agent()
    guest.wait_for_records(2)
    return guest


def current_source(guest: Guest, target: str) -> str:
    from xml.etree import ElementTree

    for disk in ElementTree.fromstring(guest.domain.XMLDesc()).iterfind("devices/disk"):
        if disk.find("target").get("dev") == target:  # type: ignore[union-attr]
            return str(disk.find("source").get("file"))  # type: ignore[union-attr]
    raise LookupError(target)


def test_a_mixed_vm_gets_an_rbd_snapshot_and_an_overlay_of_one_freeze(
    site: Site, mixed: Guest, folder: Path, name: str
) -> None:
    overlay = str(folder / "overlay.qcow2")
    drives = [{"disk": "vdb", "path": overlay}, {"disk": "vda", "snapshotName": name}]
    job = run(site, mixed, snapDrives=drives)
    assert job["status"] == "done", job
    assert job["result"]["consistency"] == "filesystem"
    assert current_source(mixed, "vdb") == overlay
    assert snapshots(site, mixed) == [[name]]
    mixed.wait_for_records(2)


def test_the_four_id_form_takes_the_overlay_that_exists(
    site: Site, mixed: Guest, name: str
) -> None:
    base = Path(current_source(mixed, "vdb"))
    overlay = base.with_name(str(uuid.uuid4()))
    drive = {
        "domainID": uuid.uuid4(),
        "imageID": base.parent.name,
        "baseVolumeID": base.name,
        "volumeID": overlay.name,
    }
    error = error_of(site.call, "VM.snapshot", vmID=mixed.uuid, snapDrives=[drive])
    assert (error.code, error.data["field"]) == (13, "snapDrives[0].volumeID")
    backing = ["-b", str(base), "-F", "qcow2"]
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(overlay)], check=True)
    job = run(site, mixed, snapDrives=[drive])
    assert job["status"] == "done", job
    assert current_source(mixed, "vdb") == str(overlay)
    other = {**drive, "baseVolumeID": uuid.uuid4()}
    error = error_of(site.call, "VM.snapshot", vmID=mixed.uuid, snapDrives=[other])
    assert (error.code, error.name) == (13, "NoSuchDrive")


def test_memory_is_saved_under_the_exchange_directory(
    site: Site, vm: Guest, folder: Path, name: str
) -> None:
    path = folder / "memory"
    job = run(site, vm, snapDrives=both(vm, name), snapMemory=str(path))
    assert job["status"] == "done", job
    assert path.stat().st_size > 1 << 20
    assert job["result"]["memoryPath"] == str(path)
    assert job["result"]["consistency"] == "crash"
    assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    vm.wait_for_records(2)


def test_memory_that_takes_too_long_is_given_up(
    site: Site, make_guest: MakeGuest, folder: Path
) -> None:
    # So much memory that looking through it takes longer than libvirt needs to begin.
    guest = make_guest(disks=[], memory_mib=8192)
    guest.wait_for_agent()
    job = run(site, guest, snapMemory=str(folder / "late"), timeout=0.0001)
    # The daemon has told libvirt to stop. libvirt may have been done by then; else it has failed.
    assert f"saving the memory takes too long vm={guest.uuid}" in site.daemon.log_text()
    if job["status"] != "done":
        assert (job["status"], job["error"]["code"]) == ("failed", 48)
    assert guest.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert guest.command("sh echo alive") == "alive"


def test_a_path_outside_or_through_a_link_is_refused(
    site: Site, vm: Guest, folder: Path, tmp_path: Path
) -> None:
    (folder / "link").symlink_to(tmp_path)
    (folder / "there").touch()
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    refused = {
        "/etc/virtceph-memory": "PathNotAllowed",
        str(folder / "../../escaped"): "PathNotAllowed",
        str(folder / "link/memory"): "PathNotAllowed",
        str(folder / "open/memory"): "PathNotAllowed",
        str(folder / "nosuch/memory"): "PathNotAllowed",
        str(folder / "there"): "PathExists",
        str(folder / "link"): "PathExists",
    }
    for path, expected in refused.items():
        error = error_of(site.call, "VM.snapshot", vmID=vm.uuid, snapMemory=path)
        assert error.name == expected, path
    assert list(tmp_path.iterdir()) == []


# --- what is refused before anything is touched ---


def test_memory_as_volume_ids_is_not_supported(site: Site, vm: Guest) -> None:
    ids = ",".join(str(uuid.uuid4()) for _ in range(6))
    error = error_of(site.call, "VM.snapshot", vmID=vm.uuid, snapMemory=ids)
    assert (error.code, error.name) == (75, "OperationNotSupported")


@pytest.mark.parametrize(
    ("drives", "field"),
    [
        ([{"disk": "vda"}], "snapDrives[0]"),
        ([{"disk": "vda", "snapshotName": "a", "path": "/x"}], "snapDrives[0]"),
        ([{"disk": "vda", "snapshotName": "a@b"}], "snapDrives[0].snapshotName"),
        ([{"disk": "vda", "path": "/x"}], "snapDrives[0]"),
        ([{"disk": "vda", "snapshotName": "a"}, {"disk": "vda", "snapshotName": "b"}],
         "snapDrives[1]"),
    ],
)  # fmt: skip
def test_an_impossible_drive_is_named(
    site: Site, vm: Guest, drives: list[dict[str, str]], field: str
) -> None:
    error = error_of(site.call, "VM.snapshot", vmID=vm.uuid, snapDrives=drives)
    assert (error.code, error.data["field"]) == (91, field)


def test_an_unknown_disk_is_named(site: Site, vm: Guest) -> None:
    drives = [{"disk": "vdz", "snapshotName": "a"}]
    error = error_of(site.call, "VM.snapshot", vmID=vm.uuid, snapDrives=drives)
    assert (error.code, error.data["field"]) == (13, "snapDrives[0].disk")


@pytest.mark.parametrize("field", ["timeout", "freeze_timeout"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_time_that_is_not_above_zero_is_error_91(
    site: Site, vm: Guest, field: str, value: int
) -> None:
    error = error_of(site.call, "VM.snapshot", vmID=vm.uuid, **{field: value})
    assert (error.code, error.data["field"]) == (91, field)


def test_a_job_id_is_taken_once(site: Site, vm: Guest, name: str) -> None:
    job = uuid.uuid4()
    params = {"vmID": vm.uuid, "jobUUID": job, "snapDrives": both(vm, name)}
    assert site.call("VM.snapshot", **params) is True
    assert site.call("VM.snapshot", **params) is True
    assert site.client.wait_for_job(job, 60)["status"] == "done"
    assert site.call("VM.snapshot", **params) is True
    error = error_of(site.call, "VM.snapshot", **{**params, "frozen": True})
    assert (error.code, error.name) == (100, "JobExists")


def test_a_migrating_vm_is_refused(site: Site, make_guest: MakeGuest, lab_state: Path) -> None:
    guest = make_guest(disks=[])
    guest.wait_for_agent()
    with migrating(guest, lab_state, "target"):
        error = error_of(site.call, "VM.snapshot", vmID=guest.uuid)
    assert (error.code, error.name) == (51, "MigrationInProgress")
