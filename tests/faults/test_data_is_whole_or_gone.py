"""Promises 7 and 10 where data move: whatever ends, what was there is there, and nothing half is left."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.faults.halted import Halts
from tests.faults.lone import LoneDaemons
from tests.faults.pace import slowness
from tests.faults.waiting import until
from tests.integration.conftest import Rough, Site
from tests.integration.datawork import (
    MiB,
    content,
    digest_of,
    ended,
    ended_well,
    names,
    parts,
    start,
    trash,
    wait_until_moving,
)
from tests.lab.daemon import Daemon
from tests.lab.doomed import DATA_STEPS, Step
from tests.lab.stack import POOL, POOL2
from virtceph.ceph.parts import made_note
from virtceph.client import ClientError, ServerError
from virtceph.host.jobrecords import IMAGE, TRASHED, JobRecord, Leftover

SIZE = 24 * MiB
# Until a killed client no longer counts as an image's user, and some time for what comes after: 45 s, on a
# machine that has nothing else to do.
FORGOTTEN_S = 75


@pytest.fixture
def volume(site: Site, name: str) -> str:
    """A dense volume with the snapshots s1 and s2, its head as at s1 and then changed."""
    site.volume("create", name, size=SIZE)
    chance = random.Random(3)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        image.write(chance.randbytes(SIZE), 0)
        image.create_snap("s1")
        image.write(chance.randbytes(5 * MiB), 9 * MiB)
    return name


def movers(daemon: Daemon) -> list[int]:
    """The movers that a daemon started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"virtceph.ceph.mover" in words and parent == str(daemon.pid):
            found.append(int(folder.name))
    return found


# --- the daemon dies ---


class Work:
    """One kind of job: how it is begun, and what may be there afterwards."""

    def __init__(self, site: Site, volume: str, folder: Path) -> None:
        self.site, self.volume, self.folder = site, volume, folder
        self.before = self.seen()

    def seen(self) -> Any:
        return self.content(self.volume, POOL)

    def content(self, volume: str, pool: str) -> str | None:
        try:
            return content(self.site.ceph, volume, pool=pool)
        except rbd.ImageNotFound:
            return None

    def params(self, pools: dict[str, uuid.UUID]) -> tuple[str, dict[str, Any]]:
        raise NotImplementedError

    def is_well(self) -> bool:
        """Whether everything is as before, or as it was to become; nothing in between."""
        raise NotImplementedError


class Copying(Work):
    def params(self, pools: dict[str, uuid.UUID]) -> tuple[str, dict[str, Any]]:
        to = {"newStorageDomainID": pools[POOL2]}
        return "copy", {"storageDomainID": pools[POOL], "volumeName": self.volume, **to}

    def is_well(self) -> bool:
        return self.seen() == self.before and self.content(self.volume, POOL2) in (
            None,
            self.before,
        )


class Moving(Copying):
    def params(self, pools: dict[str, uuid.UUID]) -> tuple[str, dict[str, Any]]:
        return "move", super().params(pools)[1]

    def is_well(self) -> bool:
        there = [self.content(self.volume, pool) for pool in (POOL, POOL2)]
        return sorted(there, key=str) == sorted([None, self.before], key=str)


class Applying(Work):
    def __init__(self, site: Site, volume: str, folder: Path) -> None:
        with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, volume) as image:
            image.create_snap("s2")
            self.after = content(site.ceph, volume)
        self.path = str(folder / "step.diff")
        params = {"storageDomainID": site.storage_domain_id, "volumeName": volume}
        job = start(
            site, "exportDiff", **params, fromSnapshot="s1", toSnapshot="s2", path=self.path
        )
        ended_well(site, job)
        with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, volume) as image:
            image.rollback_to_snap("s1")
            image.remove_snap("s2")
        super().__init__(site, volume, folder)

    def params(self, pools: dict[str, uuid.UUID]) -> tuple[str, dict[str, Any]]:
        known = {"storageDomainID": pools[POOL], "volumeName": self.volume}
        return "importDiff", {**known, "path": self.path}

    def is_well(self) -> bool:
        seen = self.seen()
        if seen is None:
            return False
        snapshots = [s["snapshotName"] for s in self.site.volume("listSnapshots", self.volume)]
        return (seen, snapshots) in ((self.before, ["s1"]), (self.after, ["s1", "s2"]))


class Exporting(Work):
    def params(self, pools: dict[str, uuid.UUID]) -> tuple[str, dict[str, Any]]:
        known = {"storageDomainID": pools[POOL], "volumeName": self.volume}
        return "export", {**known, "path": str(self.folder / "disk.raw")}

    def is_well(self) -> bool:
        files = sorted(self.folder.iterdir())
        if files not in ([], [self.folder / "disk.raw"]):
            return False
        return not files or files[0].stat().st_size == SIZE


WORKS: dict[str, type[Work]] = {
    "copy": Copying,
    "move": Moving,
    "diff": Applying,
    "export": Exporting,
}


@pytest.mark.parametrize("step", DATA_STEPS, ids=lambda step: step.name)
def test_a_daemon_that_dies_at_any_step_leaves_all_or_nothing(
    lone: LoneDaemons, halts: Halts, site: Site, volume: str, folder: Path, step: Step
) -> None:
    work = WORKS[step.phase](site, volume, folder)
    daemon = lone.doomed(step)
    served = halts.serving(daemon, step.name, site.ceph, (POOL, POOL2))
    method, params = work.params(served.pools)
    job = str(uuid.uuid4())
    with contextlib.suppress(ClientError):  # it may die before it answers
        served.site.call(f"Volume.{method}", **params, jobUUID=job)
    assert daemon.process.wait(60)
    # Nothing of it goes on to work behind its back.
    until(lambda: movers(daemon) == [], 10)

    after = lone.start(daemon.folder.name)
    again = halts.serving(after, step.name, site.ceph, (POOL, POOL2))
    told = again.site.call("Host.getJobs", job_ids=[job])
    if job in told:
        assert told[job]["status"] == "failed"
        assert told[job]["error"]["data"]["error"] == "JobInterrupted"
    until(lambda: is_clear(site) and work.is_well(), FORGOTTEN_S)
    until(lambda: not list((after.folder / "state/jobs").glob("*")), FORGOTTEN_S)


def is_clear(site: Site) -> bool:
    return not any(look(site.ceph, pool) for look in (parts, trash) for pool in (POOL, POOL2))


@pytest.mark.parametrize("entered", [False, True])
def test_a_move_that_was_cut_short_in_naming_its_copy_ends_with_one_whole_volume(
    lone: LoneDaemons, halts: Halts, site: Site, volume: str, entered: bool
) -> None:
    """librbd leads a second name to the copy, enters that in the directory, and takes the first one away."""
    before, job = content(site.ceph, volume), uuid.uuid4()
    part, fsid = f".virtceph-{job}", site.ceph.fsid
    with site.ceph.pool(POOL) as ioctx, site.ceph.pool(POOL2) as there:
        with rbd.Image(ioctx, volume) as image:
            ident = image.id()
            image.copy(there, volume)
        rbd.RBD().trash_move(ioctx, volume, 0)
        with rbd.Image(there, volume) as copy:
            made_note(copy, {"job": str(job)})
            copys_id = copy.id()
        head = struct.pack("<I", len(copys_id)) + copys_id.encode()
        if not entered:
            rbd.RBD().rename(there, volume, part)
        there.write_full(f"rbd_id.{volume if not entered else part}", head)
    daemon = lone.start()
    daemon.kill()
    heir = (fsid, POOL2, "", volume)
    left = (
        Leftover(IMAGE, uuid.UUID(fsid), POOL2, "", part, name=volume),
        Leftover(TRASHED, uuid.UUID(fsid), POOL, "", ident, name=volume, heir=heir),
    )
    record = JobRecord(job, "-", "move_volume", "storage", time.time(), left)
    kept = daemon.folder / "state/jobs" / f"{job}.json"
    kept.parent.mkdir()
    owner = kept.parents[1].stat()
    os.chown(kept.parent, owner.st_uid, owner.st_gid)
    kept.write_text(json.dumps(asdict(record), default=str))
    # Who has the copy open still keeps it from being removed, until it is decided what becomes of the volume.
    with site.ceph.pool(POOL2) as there, rbd.Image(there, part):
        halts.serving(lone.start(daemon.folder.name), "", site.ceph, (POOL, POOL2))
        if entered:
            until(lambda: trash(site.ceph) == [], FORGOTTEN_S)
        else:
            until(lambda: volume in names(site.ceph), FORGOTTEN_S)
    until(lambda: not kept.exists(), FORGOTTEN_S)
    assert is_clear(site)
    there_now = [POOL2] if entered else [POOL]
    assert [pool for pool in (POOL, POOL2) if volume in names(site.ceph, pool)] == there_now
    assert content(site.ceph, volume, pool=there_now[0]) == before
    # Nothing is in the way of the other name.
    other = POOL if entered else POOL2
    site.ceph.create_image(other, volume, MiB)


def test_a_job_that_an_orderly_stop_ends_is_told_as_failed_by_the_next_daemon(
    lone: LoneDaemons, halts: Halts, site: Site, volume: str, slow: Callable[..., Any]
) -> None:
    daemon = lone.start(overrides={"daemon": {"drain_s": 1.0}})
    served = halts.serving(daemon, "", site.ceph, (POOL, POOL2))
    place = {"storageDomainID": served.pools[POOL], "volumeName": volume}
    with slow(volume, MiB):
        to = {"newStorageDomainID": served.pools[POOL2]}
        job = start(served.site, "copy", **place, **to)
        aborted = start(served.site, "copy", **place, newName=f"{volume}-2")
        wait_until_moving(served.site, job)
        wait_until_moving(served.site, aborted)
        served.site.call("Job.abort", jobUUID=aborted)
        daemon.stop(90)
    after = lone.start(daemon.folder.name)
    again = halts.serving(after, "", site.ceph, (POOL, POOL2))
    told = again.site.call("Host.getJobs", job_ids=[job, aborted])
    # What somebody aborted has ended as he wished.
    assert list(told) == [job]
    assert told[job]["status"] == "failed"
    assert told[job]["error"]["data"]["error"] == "JobInterrupted"
    until(lambda: is_clear(site), FORGOTTEN_S)
    until(lambda: not list((after.folder / "state/jobs").glob("*")), FORGOTTEN_S)


# --- the mover dies, or is stopped ---


def begin(
    site: Site, volume: str, folder: Path, method: str, second: uuid.UUID
) -> tuple[str, Work]:
    work = {"copy": Copying, "move": Moving, "importDiff": Applying, "export": Exporting}[method]
    made = work(site, volume, folder)
    pools = {POOL: site.storage_domain_id, POOL2: second}
    _, params = made.params(pools)
    return start(site, method, **params), made


@pytest.fixture
def second_pool(site: Site) -> Iterator[uuid.UUID]:
    from tests.integration.conftest import domain_settings

    settings = domain_settings(site, storageDomainID=uuid.uuid4(), pool=POOL2)
    site.call("StorageDomain.connect", **settings)
    yield settings["storageDomainID"]
    site.call("StorageDomain.disconnect", storageDomainID=settings["storageDomainID"])


@pytest.mark.parametrize("method", ["copy", "move", "importDiff", "export"])
def test_a_mover_that_dies_costs_its_job_and_nothing_else(
    site: Site,
    volume: str,
    folder: Path,
    method: str,
    second_pool: uuid.UUID,
    slow: Callable[..., Any],
) -> None:
    with slow(volume, 4 * MiB):
        job, work = begin(site, volume, folder, method, second_pool)
        wait_until_moving(site, job)
        for pid in movers(site.daemon):
            os.kill(pid, signal.SIGKILL)
        told = ended(site, job, FORGOTTEN_S)
    assert told["status"] == "failed"
    assert told["error"]["data"]["error"] == "CephFailed"
    assert "status -9" in told["error"]["message"]
    assert site.call("Host.ping2") is True
    until(lambda: is_clear(site) and work.is_well(), FORGOTTEN_S)


@pytest.mark.parametrize(
    ("method", "percent"),
    [
        *(("move", percent) for percent in (1, 50, 99)),
        ("copy", 50),
        ("importDiff", 50),
        ("export", 99),
    ],
)
def test_an_abort_at_any_time_leaves_all_or_nothing(
    site: Site,
    volume: str,
    folder: Path,
    method: str,
    percent: int,
    second_pool: uuid.UUID,
    slow: Callable[..., Any],
) -> None:
    with slow(volume, 4 * MiB):
        job, work = begin(site, volume, folder, method, second_pool)
        until(lambda: progress(site, job) >= percent, 60)
        with contextlib.suppress(ServerError):  # it may be done by now
            site.call("Job.abort", jobUUID=job)
        began_s = time.monotonic()
        until(lambda: not is_moving(site, job), 20)
        # Here it is seen that nothing is read or written any more.
        assert time.monotonic() - began_s < 2.0 * slowness()
        told = ended(site, job, FORGOTTEN_S)
    assert told["status"] in ("aborted", "done")
    until(lambda: is_clear(site) and work.is_well(), FORGOTTEN_S)


def progress(site: Site, job: str) -> int:
    return int(site.call("Host.getJobs", job_ids=[job])[job].get("progress", 0))


def is_moving(site: Site, job: str) -> bool:
    """Whether its mover is at work, or was when it was last looked at."""
    told = site.call("Host.getJobs", job_ids=[job])[job]
    return "ended" not in told and told.get("step") not in ("undoing", "switching", "finishing")


# --- the cluster or the disk ---


@pytest.mark.parametrize("method", ["copy", "export"])
def test_a_cluster_that_stops_under_a_job_is_told_in_time_and_cleared_when_it_is_back(
    rough: Rough, folder: Path, method: str
) -> None:
    site, ceph = rough.site, rough.site.ceph
    source = f"rough-{uuid.uuid4().hex[:8]}"
    site.volume("create", source, size=SIZE)
    with ceph.pool(POOL) as ioctx, rbd.Image(ioctx, source) as image:
        image.write(random.Random(5).randbytes(SIZE), 0)
        image.metadata_set("conf_rbd_qos_bps_limit", str(2 * MiB))
    before = content(ceph, source)
    known = {"storageDomainID": site.storage_domain_id, "volumeName": source}
    more = {"newName": "never"} if method == "copy" else {"path": str(folder / "never")}
    job = start(site, method, **known, **more)
    wait_until_moving(site, job)
    ceph.suspend_osd()
    try:
        until(lambda: has_given_up(site, job), 40)
    finally:
        ceph.resume_osd()
    told = ended(site, job, FORGOTTEN_S)
    assert told["status"] == "failed"
    assert told["error"]["data"]["error"] == "CephUnavailable"
    until(lambda: parts(ceph) == [], FORGOTTEN_S)
    assert "never" not in names(ceph)
    assert list(folder.iterdir()) == []
    assert content(ceph, source) == before


def test_monitors_that_do_not_answer_keep_no_job_from_its_end(rough: Rough, folder: Path) -> None:
    site, ceph = rough.site, rough.site.ceph
    source = f"rough-{uuid.uuid4().hex[:8]}"
    site.volume("create", source, size=SIZE)
    with ceph.pool(POOL) as ioctx, rbd.Image(ioctx, source) as image:
        image.write(random.Random(5).randbytes(SIZE), 0)
        image.metadata_set("conf_rbd_qos_bps_limit", str(8 * MiB))
    job = start(
        site,
        "export",
        storageDomainID=site.storage_domain_id,
        volumeName=source,
        path=str(folder / "disk"),
    )
    wait_until_moving(site, job)
    ceph.suspend_mon()
    try:
        ended_well(site, job, FORGOTTEN_S)
    finally:
        ceph.resume_mon()
    assert f"{SIZE} {digest_of(folder / 'disk')}" == content(ceph, source)


def has_given_up(site: Site, job: str) -> bool:
    told = site.call("Host.getJobs", job_ids=[job])[job]
    return told["status"] == "failed" or told.get("step") == "undoing"


def test_a_full_disk_is_told_and_no_half_file_left(
    lone: LoneDaemons, halts: Halts, site: Site, volume: str
) -> None:
    daemon = lone.start()
    served = halts.serving(daemon, "", site.ceph)
    exchange = daemon.folder.parent / "exchange"
    folder = exchange / f"full-{uuid.uuid4().hex[:8]}"
    enter = ["nsenter", "--mount", "--root", "--target", str(daemon.pid)]
    make = f"mkdir -m 0711 {folder} && mount -t tmpfs -o size=8m,mode=0711 full {folder}"
    subprocess.run([*enter, "sh", "-c", f"{make} && chown virtceph {folder}"], check=True)
    inside = Path(f"/proc/{daemon.pid}/root{folder}")
    params = {"storageDomainID": served.site.storage_domain_id, "volumeName": volume}
    for method, more in (("export", {}), ("exportDiff", {"toSnapshot": "s1"})):
        job = start(served.site, method, **params, **more, path=str(folder / "disk"))
        told = ended(served.site, job)
        assert told["error"]["data"]["error"] == "FileFailed"
        assert "no room" in told["error"]["message"]
        assert list(inside.iterdir()) == []


def test_without_room_for_its_record_a_job_is_not_begun(
    lone: LoneDaemons, halts: Halts, site: Site, volume: str
) -> None:
    daemon = lone.start()
    served = halts.serving(daemon, "", site.ceph)
    enter = ["nsenter", "--mount", "--root", "--target", str(daemon.pid)]
    state = str(daemon.folder / "state")
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "state", state]
    subprocess.run([*enter, *mount], check=True)
    params = {"storageDomainID": served.site.storage_domain_id, "volumeName": volume}
    told = ended(served.site, start(served.site, "copy", **params, newName=f"{volume}-2"))
    assert told["error"]["data"]["error"] == "JobNotRecorded"
    assert f"{volume}-2" not in names(site.ceph)
    assert parts(site.ceph) == []
