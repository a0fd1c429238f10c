"""VM.restoreConsistentSnapshot of a set with memory: the VM goes on from where it was saved."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
import rbd

from tests.integration.conftest import Site
from tests.integration.recorder import error_of
from tests.integration.test_consistent_snapshot import (
    create,
    error_of_job,
    images,
    run,
    stop,
)
from tests.integration.test_freeze import guest_says
from tests.lab.guest import Guest
from tests.lab.inspect_image import examine_image
from tests.lab.stack import POOL

VERB = "VM.restoreConsistentSnapshot"
NAME = "asleep"


@pytest.fixture
def saved(site: Site, kept: Guest, folder: Path, freeze: str) -> Guest:
    """A VM that is off, with the set `asleep` of disks and memory. Its counter, which no disk holds, was 41
    then and 42 when the VM was switched off."""
    kept.wait_for_agent()
    kept.wait_for_records(3)
    kept.command("sh echo 41 >/run/counter")
    path = str(folder / "memory")
    job = create(site, kept, NAME, memoryPath=path, maxFrozen=60, freeze=freeze)
    assert job["status"] == "done", job.get("error")
    kept.command("sh echo 42 >/run/counter")
    kept.wait_for_records(3)
    stop(site, kept)
    return kept


@pytest.fixture
def freeze() -> str:
    return "required"


def status_of(site: Site, guest: Guest) -> str:
    (found,) = site.call("Host.getVMList", vmList=[guest.uuid])
    return str(found["status"])


@pytest.mark.parametrize("freeze", ["required", "no"])
def test_a_vm_goes_on_from_where_it_was_saved_and_is_thawed(
    site: Site, saved: Guest, folder: Path, tmp_path: Path
) -> None:
    with site.ceph.pool(POOL) as ioctx:
        records = [examine_image(ioctx, i, NAME, tmp_path).records for i in images(saved)]
    job = run(site, VERB, saved.uuid, snapshotName=NAME)
    assert job["status"] == "done", job.get("error")
    result = job["result"]
    assert (result["memoryPath"], result["guest"]) == (str(folder / "memory"), "thawed")
    assert status_of(site, saved) == "Up"
    saved.reattach(saved.domain.connect())
    assert guest_says(saved) == "thawed"
    assert saved.command("sh cat /run/counter") == "41"
    # The writer goes on with the number after the last one that it knew of then.
    first = saved.wait_for_records(3)[0].number
    assert max(map(len, records)) <= first <= max(map(len, records)) + 1
    after = create(site, saved, "after", freeze="required")
    assert after["result"]["consistency"] == "filesystem"
    with site.ceph.pool(POOL) as ioctx:
        for image in images(saved):
            report = examine_image(ioctx, image, "after", tmp_path)
            assert report.clean
            assert report.records == list(range(1, len(report.records) + 1))


def test_without_its_memory_the_vm_stays_off_with_its_disks_back(
    site: Site, saved: Guest, folder: Path
) -> None:
    (folder / "memory").unlink()
    job = run(site, VERB, saved.uuid, snapshotName=NAME, withMemory=False)
    assert job["status"] == "done", job.get("error")
    assert not {"memoryPath", "guest"} & set(job["result"])
    assert status_of(site, saved) == "Down"


@contextlib.contextmanager
def untouched(site: Site, guest: Guest, tmp_path: Path) -> Iterator[None]:
    """The disks hold more than the set does, and still do after the block."""
    with site.ceph.pool(POOL) as ioctx:

        def records(name: str) -> int:
            return len(examine_image(ioctx, images(guest)[0], name, tmp_path).records)

        yield
        site.volume("createSnapshot", images(guest)[0], snapshotName="now")
        assert records("now") > records(NAME)


def link(path: Path) -> None:
    os.rename(path, path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("spoil", "error", "reason"),
    [
        (Path.unlink, "MemoryUnusable", "the file is gone"),
        (lambda path: path.write_bytes(b"\0" * 4096), "MemoryUnusable", ""),
        (link, "PathNotAllowed", "is no regular file"),
    ],
    ids=["gone", "no memory", "a link"],
)
def test_memory_that_cannot_be_used_is_told_before_any_disk_is_touched(
    site: Site,
    saved: Guest,
    folder: Path,
    tmp_path: Path,
    spoil: Callable[[Path], Any],
    error: str,
    reason: str,
) -> None:
    spoil(folder / "memory")
    with untouched(site, saved, tmp_path):
        told = error_of_job(site, VERB, saved, NAME)
    assert told["error"] == error, told
    assert reason in told["reason"]


def test_the_memory_of_another_vm_is_not_loaded(
    site: Site, saved: Guest, vm: Guest, folder: Path, tmp_path: Path
) -> None:
    theirs = folder / "theirs"
    asked = {"memoryPath": str(theirs), "freeze": "no", "maxFrozen": 60}
    assert create(site, vm, f"theirs-{saved.uuid[:8]}", **asked)["status"] == "done"
    with site.ceph.pool(POOL) as ioctx:
        for image in images(saved):
            point_notes_to(ioctx, image, theirs)
    with untouched(site, saved, tmp_path):
        told = error_of_job(site, VERB, saved, NAME)
    assert (told["error"], told["path"]) == ("MemoryUnusable", str(theirs))
    assert vm.uuid in told["reason"]


def point_notes_to(ioctx: Any, image: str, path: Path) -> None:
    with rbd.Image(ioctx, image) as opened:
        for key, value in dict(opened.metadata_list()).items():
            if key.endswith(".set"):
                note = {**json.loads(value), "memoryPath": str(path)}
                opened.metadata_set(key, json.dumps(note))


def test_memory_that_goes_with_a_disk_outside_the_set_is_not_loaded(
    site: Site, kept: Guest, folder: Path
) -> None:
    kept.wait_for_agent()
    asked = {"memoryPath": str(folder / "memory"), "disks": ["vda"], "freeze": "no"}
    assert create(site, kept, NAME, maxFrozen=60, **asked)["status"] == "done"
    stop(site, kept)
    told = error_of_job(site, VERB, kept, NAME)
    assert told["error"] == "MemoryUnusable"
    assert "vdb" in told["reason"]


def test_memory_that_libvirt_does_not_load_leaves_the_disks_rolled_back(
    site: Site, saved: Guest, folder: Path
) -> None:
    # Its header is whole, and what QEMU would load is not.
    os.truncate(folder / "memory", 1 << 20)
    told = error_of_job(site, VERB, saved, NAME)
    assert told["error"] == "LibvirtFailed"
    assert status_of(site, saved) == "Down"
    stop(site, saved)
    again = run(site, VERB, saved.uuid, snapshotName=NAME, withMemory=False)
    assert again["status"] == "done", again.get("error")


def test_clones_come_without_memory(site: Site, vm: Guest) -> None:
    asked = {"vmID": vm.uuid, "snapshotName": NAME, "into": "clones", "clonePrefix": "x"}
    error = error_of(site.call, VERB, **asked, withMemory=True)
    assert (error.name, error.data["field"]) == ("InvalidParameter", "withMemory")
    assert vm.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
