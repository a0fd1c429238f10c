"""VM.createConsistentSnapshot with method=group: all disks at one instant, whatever the guest writes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import rados
import rbd

from tests.integration.conftest import Site, domain_settings
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.stall import stalled
from tests.integration.test_consistent_snapshot import (
    create,
    error_of_job,
    images,
    intents,
    listed,
    run,
    set_of,
    snapshots,
    stop,
)
from tests.integration.test_freeze import guest_says
from tests.lab.domain_xml import RbdDisk
from tests.lab.guest import Guest
from tests.lab.inspect_image import FsReport, examine_image
from tests.lab.stack import POOL, POOL2

MakeGuest = Callable[..., Guest]
MakeImage = Callable[..., RbdDisk]


@pytest.fixture
def name() -> str:
    return f"group-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def guest(make_guest: MakeGuest) -> Guest:
    made = make_guest()
    made.wait_for_records(3)
    return made


@pytest.fixture(autouse=True)
def no_groups(site: Site) -> Iterator[None]:
    """No group outlives its test: some images are kept."""
    yield
    for pool in (POOL, POOL2):
        with site.ceph.pool(pool) as ioctx:
            for group in rbd.RBD().group_list(ioctx):
                rbd.RBD().group_remove(ioctx, group)


def grouped(site: Site, guest: Guest, name: str, **params: Any) -> dict[str, Any]:
    return create(site, guest, name, method="group", **params)


def groups(site: Site, pool: str = POOL) -> list[str]:
    with site.ceph.pool(pool) as ioctx:
        return list(rbd.RBD().group_list(ioctx))


def parts(site: Site, guest: Guest, name: str) -> list[str]:
    """The images of a guest that have a part of a group's snapshot of this name."""

    def has_one(ioctx: rados.Ioctx, image: str) -> bool:
        with rbd.Image(ioctx, image, read_only=True) as opened:
            found = [snap.get("group") for snap in opened.list_snaps()]
        return name in [group["snap_name"] for group in found if group]

    with site.ceph.pool(POOL) as ioctx:
        return [image for image in images(guest) if has_one(ioctx, image)]


def copies(site: Site, guest: Guest, name: str, folder: Path) -> list[FsReport]:
    """What the disks of a set hold, by copies of it, which are removed again."""
    prefix = f"{uuid.uuid4().hex[:6]}-"
    asked = {"snapshotName": name, "into": "clones", "clonePrefix": prefix}
    job = run(site, "VM.restoreConsistentSnapshot", guest.uuid, **asked)
    assert job["status"] == "done", job.get("error")
    made = [disk["volumeName"] for disk in job["result"]["disks"]]
    assert made == [prefix + image for image in images(guest)]
    return [examined(site, image, folder) for image in made]


def examined(site: Site, image: str, folder: Path) -> FsReport:
    """What an image that nobody has open holds; it is removed."""
    assert "parent" not in site.volume("getInfo", image)
    with site.ceph.pool(POOL) as ioctx:
        report = examine_image(ioctx, image, None, folder)
    site.volume("delete", image)
    return report


def nothing_left(site: Site, guest: Guest, name: str) -> bool:
    return not (parts(site, guest, name) or groups(site) or intents(site, guest))


# --- made ---


def test_a_group_is_made_under_one_freeze_and_its_images_are_free_again(
    site: Site, guest: Guest, name: str
) -> None:
    job = grouped(site, guest, name)
    result = job["result"]
    assert (result["consistency"], result["method"]) == ("filesystem", "group")
    assert set(result["steps"]) == {"prepare", "freeze", "snapshots", "thaw"}
    assert set_of(site, guest, name) == result
    assert guest_says(guest) == "thawed"
    assert parts(site, guest, name) == images(guest)
    # They are no snapshots that anybody could delete one by one.
    assert snapshots(site, guest) == [[], []]
    with site.ceph.pool(POOL) as ioctx:
        for image in images(guest):
            with rbd.Image(ioctx, image, read_only=True) as opened:
                assert opened.group()["name"] == ""
    assert intents(site, guest) == []


def test_a_group_called_filesystem_is_clean_and_holds_what_was_acknowledged(
    site: Site, guest: Guest, name: str, tmp_path: Path
) -> None:
    guest.wait_for_records(5)
    before = guest.acknowledged()[-1].number
    owners = [site.volume("getInfo", image)["lockOwner"] for image in images(guest)]
    assert grouped(site, guest, name)["result"]["consistency"] == "filesystem"
    after = guest.wait_for_records(5)[-1].number
    for report in copies(site, guest, name, tmp_path):
        assert report.clean
        assert not report.needs_recovery
        assert report.records[:before] == list(range(1, before + 1))
        assert len(report.records) < after
    # The VM has taken its locks back and goes on.
    assert owners == [site.volume("getInfo", image)["lockOwner"] for image in images(guest)]


def test_a_group_without_a_freeze_is_of_one_instant_on_all_disks(
    site: Site, guest: Guest, name: str, tmp_path: Path
) -> None:
    for number in range(4):
        result = grouped(site, guest, f"{name}-{number}", freeze="no")["result"]
        assert result["consistency"] == "crash"
        assert result["reason"] == "not frozen, as asked; all disks at one instant"
        guest.wait_for_records(2)
        counts = [len(r.records) for r in copies(site, guest, f"{name}-{number}", tmp_path)]
        # The writer writes to the first disk and then to the second.
        assert 0 <= counts[0] - counts[1] <= 1, counts


def test_disks_of_two_pools_are_one_group(
    site: Site, make_guest: MakeGuest, make_image: MakeImage, name: str
) -> None:
    other = uuid.uuid4()
    site.call("StorageDomain.connect", **domain_settings(site, pool=POOL2, storageDomainID=other))
    disks = [make_image(), make_image(pool=POOL2)]
    guest = make_guest(disks=disks)
    result = grouped(site, guest, name)["result"]
    assert (result["consistency"], result["complete"]) == ("filesystem", True)
    assert (len(groups(site)), groups(site, POOL2)) == (1, [])
    asked = {"vmID": guest.uuid, "snapshotName": name}
    # The group lies in the first pool; the other knows nothing to delete it by.
    first = domain_settings(site)
    site.call("StorageDomain.disconnect", storageDomainID=site.storage_domain_id)
    told = error_of_job(site, "VM.deleteConsistentSnapshot", guest, name)
    assert (told["error"], POOL in told["reason"]) == ("CephUnavailable", True)
    site.call("StorageDomain.connect", **first)
    assert run(site, "VM.deleteConsistentSnapshot", asked["vmID"], snapshotName=name)["status"] == (
        "done"
    )
    site.call("StorageDomain.disconnect", storageDomainID=other)
    assert groups(site) == []


def test_memory_is_saved_with_a_group(site: Site, guest: Guest, exchange: Path, name: str) -> None:
    memory = exchange / name
    result = grouped(site, guest, name, memoryPath=str(memory))["result"]
    assert result["memoryPath"] == str(memory)
    assert memory.stat().st_size > 1 << 20
    assert guest_says(guest) == "thawed"
    guest.wait_for_records(3)


# --- refused, all or nothing ---


def test_a_name_that_is_taken_on_one_disk_makes_no_group(
    site: Site, guest: Guest, name: str
) -> None:
    site.volume("createSnapshot", images(guest)[1], snapshotName=name)
    told = error_of_job(site, "VM.createConsistentSnapshot", guest, name, method="group")
    assert (told["error"], told["step"]) == ("SnapshotFailed", "prepare")
    assert nothing_left(site, guest, name)
    assert guest_says(guest) == "thawed"


@pytest.mark.parametrize("methods", [("group", "parallel"), ("group", "group")])
def test_two_sets_have_not_one_name_whatever_their_methods(
    site: Site, guest: Guest, name: str, methods: tuple[str, str]
) -> None:
    assert create(site, guest, name, method=methods[0])["status"] == "done"
    told = error_of_job(site, "VM.createConsistentSnapshot", guest, name, method=methods[1])
    assert told["step"] == "prepare"
    assert len(listed(site, guest)) == 1
    assert len(groups(site)) == 1


@pytest.fixture
def foreign(site: Site, guest: Guest) -> Iterator[str]:
    """A group of somebody else's, with the guest's second image in it."""
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().group_create(ioctx, "foreign")
        rbd.Group(ioctx, "foreign").add_image(ioctx, images(guest)[1])
        yield "foreign"
        rbd.RBD().group_remove(ioctx, "foreign")


def test_an_image_of_another_group_is_told_and_stays_in_it(
    site: Site, guest: Guest, foreign: str, name: str
) -> None:
    told = error_of_job(site, "VM.createConsistentSnapshot", guest, name, method="group")
    assert told["step"] == "prepare"
    assert images(guest)[1] in told["reason"]
    assert f"in the group {foreign}" in told["reason"]
    assert "method=parallel" in told["reason"]
    assert groups(site) == [foreign]
    with site.ceph.pool(POOL) as ioctx:
        (member,) = rbd.Group(ioctx, foreign).list_images()
    assert member["name"] == images(guest)[1]


def test_a_vm_that_is_stalled_fails_the_group_and_is_not_cut_off(
    site: Site, make_guest: MakeGuest, make_image: MakeImage, name: str
) -> None:
    guest = make_guest(disks=[make_image(keep=True), make_image(keep=True)])
    guest.wait_for_records(3)
    owners = [site.volume("getInfo", image)["lockOwner"] for image in images(guest)]
    with stalled(guest):
        told = error_of_job(site, "VM.createConsistentSnapshot", guest, name, method="group")
        assert told["step"] == "prepare"
    guest.wait_for_records(5)
    assert nothing_left(site, guest, name)
    assert owners == [site.volume("getInfo", image)["lockOwner"] for image in images(guest)]


# --- listed, deleted, restored ---


def test_a_deleted_group_leaves_nothing(site: Site, guest: Guest, name: str) -> None:
    grouped(site, guest, name)
    job = run(site, "VM.deleteConsistentSnapshot", guest.uuid, snapshotName=name)
    assert job["status"] == "done", job.get("error")
    assert listed(site, guest) == []
    assert nothing_left(site, guest, name)
    for image in images(guest):
        assert "virtceph.snapshot" not in str(site.volume("getInfo", image)["metadata"])


def test_a_group_of_which_a_part_is_gone_is_told_and_can_be_deleted(
    site: Site, guest: Guest, name: str
) -> None:
    grouped(site, guest, name)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, images(guest)[0]) as opened:
        (part,) = opened.list_snaps()
        opened.remove_snap_by_id(part["id"])
    assert set_of(site, guest, name)["missing"] == [
        {"disk": "vda", "reason": "its snapshot is gone"}
    ]
    told = error_of_job(
        site, "VM.restoreConsistentSnapshot", guest, name, into="clones", clonePrefix="x"
    )
    assert told["error"] == "NoSuchSnapshot"
    assert run(site, "VM.deleteConsistentSnapshot", guest.uuid, snapshotName=name)["status"] == (
        "done"
    )
    assert nothing_left(site, guest, name)


def test_pruning_counts_groups_as_any_set(site: Site, guest: Guest, name: str) -> None:
    grouped(site, guest, f"{name}-a", freeze="no")
    create(site, guest, f"{name}-b", freeze="no")
    grouped(site, guest, f"{name}-c", freeze="no")
    told = site.call("VM.pruneConsistentSnapshots", vmID=guest.uuid, keepLast=1)
    assert told == {"kept": [f"{name}-c"], "deleted": [f"{name}-a", f"{name}-b"]}
    assert len(groups(site)) == 1


def test_an_image_with_a_part_of_a_group_is_not_deleted(site: Site, kept: Guest, name: str) -> None:
    grouped(site, kept, name)
    stop(site, kept)
    error = error_of(site.volume, "delete", images(kept)[0])
    assert (error.name, error.data["snapshots"]) == ("VolumeHasSnapshots", [name])


def test_a_rollback_brings_every_disk_of_a_group_back(
    site: Site, kept: Guest, name: str, tmp_path: Path
) -> None:
    grouped(site, kept, name)
    before = [report.records for report in copies(site, kept, name, tmp_path)]
    kept.wait_for_records(3)
    stop(site, kept)
    job = run(site, "VM.restoreConsistentSnapshot", kept.uuid, snapshotName=name)
    assert job["status"] == "done", job.get("error")
    assert [disk["volumeName"] for disk in job["result"]["disks"]] == images(kept)
    with site.ceph.pool(POOL) as ioctx:
        for image, records in zip(images(kept), before, strict=True):
            assert examine_image(ioctx, image, None, tmp_path).records == records
    # The set is still there, and may be asked for again.
    assert set_of(site, kept, name)["complete"] is True


def test_a_group_is_not_rolled_back_under_somebody_who_has_an_image_open(
    site: Site, kept: Guest, name: str
) -> None:
    grouped(site, kept, name)
    stop(site, kept)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, images(kept)[1]):
        told = error_of_job(site, "VM.restoreConsistentSnapshot", kept, name)
    assert (told["error"], told["volumeName"]) == ("VolumeInUse", images(kept)[1])


def test_copies_of_a_group_are_all_made_or_none(site: Site, guest: Guest, name: str) -> None:
    grouped(site, guest, name)
    taken = f"half-{images(guest)[1]}"
    site.volume("create", taken, size=1 << 20)
    told = error_of_job(site, "VM.restoreConsistentSnapshot", guest, name,
                        into="clones", clonePrefix="half-")  # fmt: skip
    assert (told["error"], told["volumeName"]) == ("VolumeExists", taken)
    names = [v["volumeName"] for v in site.call(
        "Volume.list", storageDomainID=site.storage_domain_id)]  # fmt: skip
    assert f"half-{images(guest)[0]}" not in names
    assert not [one for one in names if one.startswith(".virtceph-")]
    site.volume("delete", taken)


def test_of_two_requests_for_the_same_copies_one_makes_them(
    site: Site, connect: Callable[..., RecordingClient], guest: Guest, name: str, tmp_path: Path
) -> None:
    grouped(site, guest, name)
    asked = {"snapshotName": name, "into": "clones", "clonePrefix": "both-"}
    # A client is one thread's.
    sites = [site, replace(site, client=connect(site.daemon))]
    with ThreadPoolExecutor(2) as threads:
        asking = [
            threads.submit(run, one, "VM.restoreConsistentSnapshot", guest.uuid, **asked)
            for one in sites
        ]
        jobs = [job.result() for job in asking]
    assert sorted(job["status"] for job in jobs) == ["done", "failed"]
    (failed,) = [job for job in jobs if job["status"] == "failed"]
    assert failed["error"]["data"]["error"] == "VolumeExists"
    for image in images(guest):
        assert examined(site, f"both-{image}", tmp_path).clean
    with site.ceph.pool(POOL) as ioctx:
        assert not [one for one in rbd.RBD().list(ioctx) if one.startswith(".virtceph-")]


def test_a_group_that_was_renamed_is_still_its_sets(site: Site, guest: Guest, name: str) -> None:
    grouped(site, guest, name)
    (group,) = groups(site)
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().group_rename(ioctx, group, "by-hand")
    assert set_of(site, guest, name)["complete"] is True
    job = run(site, "VM.deleteConsistentSnapshot", guest.uuid, snapshotName=name)
    assert job["status"] == "done", job.get("error")
    assert nothing_left(site, guest, name)
