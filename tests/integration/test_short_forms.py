"""The short forms on the real stack: what a person or a timer does every day."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import rbd

from tests.integration.examined import virtceph, virtceph_as
from tests.integration.site import Site
from tests.lab import user
from tests.lab.domain_xml import RbdDisk
from tests.lab.guest import Guest
from tests.lab.inspect_image import examine_image
from tests.lab.stack import POOL
from tests.lab.state import PROJECT

Short = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def short(site: Site) -> Short:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return virtceph(*words, "--socket", str(site.daemon.socket))

    return call


def sets(site: Site, guest: Guest) -> list[dict[str, Any]]:
    return list(site.call("VM.listConsistentSnapshots", vmID=guest.uuid))


def names(site: Site, guest: Guest) -> list[str]:
    return [one["snapshotName"] for one in sets(site, guest)]


def images(guest: Guest) -> list[str]:
    return [disk.image for disk in guest.spec.disks if isinstance(disk, RbdDisk)]


def stop(site: Site, guest: Guest) -> None:
    """Power it off, and wait until nobody watches its images."""
    guest.destroy()
    deadline_s = time.monotonic() + 60
    while any(site.volume("getInfo", image)["watchers"] for image in images(guest)):
        assert time.monotonic() < deadline_s
        time.sleep(1)


def test_a_snapshot_is_one_word_and_rbd_sees_it_on_every_disk(
    site: Site, short: Short, kept: Guest
) -> None:
    done = short("snapshot", kept.name, "--label", "daily")
    assert (done.returncode, done.stderr) == (0, "")
    (name,) = names(site, kept)
    assert name.startswith("daily-")
    assert f"{kept.name}@{name}: filesystem" in done.stdout
    with site.ceph.pool(POOL) as ioctx:
        for image in images(kept):
            with rbd.Image(ioctx, image, read_only=True) as opened:
                assert [snapshot["name"] for snapshot in opened.list_snaps()] == [name]
    listed = short("snapshots", kept.name)
    assert name in listed.stdout
    told = short("status")
    assert told.returncode == 0, told.stderr
    line = next(line for line in told.stdout.splitlines() if line.startswith(kept.name))
    assert name in line
    assert "filesystem" in line
    assert "2 of 2 ready" in line
    assert "guest  thawed" in short("status", kept.name).stdout


def test_retention_leaves_other_labels_alone(site: Site, short: Short, kept: Guest) -> None:
    theirs = ["before-upgrade", "daily-before-upgrade"]
    for name in theirs:
        assert short("snapshot", kept.name, "--name", name).returncode == 0
    assert short("snapshot", kept.name, "--label", "daily-db").returncode == 0
    theirs.append(names(site, kept)[-1])
    made = []
    for _ in range(3):
        assert short("snapshot", kept.name, "--label", "daily", "--keep", "2").returncode == 0
        made.append(names(site, kept)[-1])
        # Names are of one second.
        time.sleep(1.1)
    assert names(site, kept) == [*theirs, *made[1:]]


def test_a_snapshot_that_is_only_crash_consistent_ends_with_3_unless_it_is_allowed(
    site: Site, short: Short, make_guest: Callable[..., Guest]
) -> None:
    guest = make_guest(agent_channel=False)
    assert short("snapshot", guest.name).returncode == 1
    assert names(site, guest) == []
    done = short("snapshot", guest.name, "--freeze", "preferred", "--name", "one", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)[0]["set"]["consistency"] == "crash"
    words = ["snapshot", guest.name, "--allow-crash", "--label", "two", "--keep", "5"]
    assert short(*words).returncode == 0
    # Nothing is removed after one that is not good enough: the good ones would go, one after the other.
    words = ["snapshot", guest.name, "--freeze", "preferred", "--label", "two", "--keep", "1"]
    time.sleep(1.1)
    assert short(*words).returncode == 3
    assert len(names(site, guest)) == 3


def test_a_vm_that_is_off_is_restored_with_what_was_there_kept(
    site: Site, short: Short, kept: Guest, tmp_path: Path
) -> None:
    kept.wait_for_records(3)
    assert short("snapshot", kept.name, "--name", "daily-3").returncode == 0
    kept.wait_for_records(3)
    refused = short("restore", f"{kept.name}@daily-3", "--yes")
    assert refused.returncode == 1
    assert f"virsh shutdown {kept.name} first" in refused.stderr
    stop(site, kept)
    with site.ceph.pool(POOL) as ioctx:
        before = [examine_image(ioctx, i, "daily-3", tmp_path).records for i in images(kept)]
        planned = short("restore", f"{kept.name}@daily-3", "--dry-run")
        assert planned.returncode == 0
        assert planned.stdout.startswith("CANNOT BE UNDONE")
        assert all(f"rbd/{image}" in planned.stdout for image in images(kept))
        nobody = short("restore", f"{kept.name}@daily-3")
        assert (nobody.returncode, "say --yes" in nobody.stderr) == (2, True)
        assert names(site, kept) == ["daily-3"]
        done = short("restore", f"{kept.name}@daily-3", "--yes")
        assert (done.returncode, done.stderr) == (0, "")
        first, safety = names(site, kept)
        assert first == "daily-3"
        assert safety.startswith("before-restore-")
        assert f"virtceph restore {kept.name}@{safety}" in done.stdout
        for image, records in zip(images(kept), before, strict=True):
            site.volume("createSnapshot", image, snapshotName="now")
            assert examine_image(ioctx, image, "now", tmp_path).records == records
            # What was there before is in the set that was made of it, and more.
            kept_records = examine_image(ioctx, image, safety, tmp_path).records
            assert len(kept_records) > len(records)
            site.volume("deleteSnapshot", image, snapshotName="now")


def test_clones_of_a_set_of_a_running_vm_ask_nothing(site: Site, short: Short, kept: Guest) -> None:
    assert short("snapshot", kept.name, "--name", "monday").returncode == 0
    done = short("restore", f"{kept.name}@monday", "--clones", "new-")
    assert (done.returncode, done.stderr) == (0, "")
    listed = {
        v["volumeName"] for v in site.call("Volume.list", storageDomainID=site.storage_domain_id)
    }
    made = {f"new-{image}" for image in images(kept)}
    assert made <= listed
    for name in made:
        site.volume("delete", name)


def test_what_is_not_there_is_told_with_what_is(site: Site, short: Short, kept: Guest) -> None:
    assert short("snapshot", kept.name, "--name", "monday").returncode == 0
    done = short("restore", f"{kept.name}@tuesday", "--yes")
    assert done.returncode == 1
    assert "it has monday" in done.stderr
    assert short("snapshot", "nosuchvm").returncode == 1
    assert short("status", "nosuchvm").returncode == 1


def test_a_vm_that_is_off_can_be_left_out(site: Site, short: Short, kept: Guest) -> None:
    kept.destroy()
    assert short("snapshot", kept.name).returncode == 1
    done = short("snapshot", kept.name, "--skip-off")
    assert (done.returncode, "left out" in done.stdout) == (0, True)


def test_so_many_at_a_time_are_taken_and_the_others_wait_for_their_turn(
    site: Site, short: Short, kept: Guest, tmp_path: Path
) -> None:
    holder = "import sys, time; from pathlib import Path; from virtceph.cli.slots import slot\n"
    holder += (
        f"with slot(Path({str(tmp_path)!r}), 1, 5): print('held', flush=True); time.sleep(600)"
    )
    environment = {"PYTHONPATH": str(PROJECT / "src")}
    with subprocess.Popen(
        [sys.executable, "-c", holder], env=environment, stdout=subprocess.PIPE, text=True
    ) as holding:
        assert holding.stdout is not None
        assert holding.stdout.readline() == "held\n"
        words = ["snapshot", kept.name, "--at-once", "1", "--slot-dir", str(tmp_path)]
        late = short(*words, "--slot-wait", "0.5")
        assert (late.returncode, "no turn" in late.stderr) == (1, True)
        assert names(site, kept) == []
        # Also one that is killed gives its slot back.
        holding.send_signal(signal.SIGKILL)
    assert short(*words, "--slot-wait", "30").returncode == 0


def test_what_the_timer_starts_runs_as_the_daemons_user(
    site: Site, kept: Guest, lab_state: Path
) -> None:
    account, slots = user.ensure(), lab_state / "slots"
    slots.mkdir(exist_ok=True)
    os.chown(slots, account.uid, account.gid)
    options = (
        "--at-once 2 --label daily --keep-daily 7 --keep-weekly 4 --freeze preferred --skip-off"
    )
    done = virtceph_as(
        user.NAME,
        user.NAME,
        lab_state,
        *("snapshot", *options.split(), kept.name),
        VIRTCEPH_SOCKET=str(site.daemon.socket),
        RUNTIME_DIRECTORY=str(slots),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert names(site, kept)[0].startswith("daily-")
    assert (slots / "slot-0").exists()


def test_jobs_are_watched_until_they_end(site: Site, short: Short, image: str) -> None:
    job = str(uuid4())
    site.volume("copy", image, newName=f"copy-{job[:8]}", jobUUID=job)
    done = short("jobs", job[:8], "--watch")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith(job)
    assert "done" in done.stdout.splitlines()[-1]
    site.volume("delete", f"copy-{job[:8]}")
    listed = short("jobs", "--all")
    assert job[:8] in listed.stdout
    assert json.loads(short("jobs", "--all", "--json").stdout)
    assert short("jobs", "ffffffff").returncode == 1


def test_no_daemon_is_told_in_a_line() -> None:
    for words in (["status"], ["snapshot", "x"], ["restore", "x@y"], ["jobs"], ["snapshots", "x"]):
        done = virtceph(*words, "--socket", "/nonexistent/sock")
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
