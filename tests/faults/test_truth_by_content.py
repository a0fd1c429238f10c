"""Promise 2, by content: what is called `filesystem` is clean and holds what was acknowledged, no more."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Site
from tests.lab.guest import Guest
from tests.lab.inspect_image import FsReport, examine_image
from tests.lab.stack import POOL

SNAPSHOTS = 200
# A snapshot is examined, and removed, while the next ones are made.
AT_ONCE = 10
# While the snapshots are made the guest writes nothing: its own clock must show at least this part of that
# time as a gap between two records.
GAP = 0.9


@dataclass(frozen=True)
class Taken:
    """A snapshot of both disks, the last record acknowledged before it, and which may be its last."""

    name: str
    result: dict[str, Any]
    before: int
    last: set[int]


def by_verb(site: Site, guest: Guest, name: str) -> Taken:
    """VM.createConsistentSnapshot. Where the freeze was is seen as a gap between two records."""
    job, before = uuid.uuid4(), guest.acknowledged()[-1].number
    site.call("VM.createConsistentSnapshot", vmID=guest.uuid, snapshotName=name, jobUUID=job)
    ended = site.client.wait_for_job(job, 60)
    assert ended["status"] == "done", ended
    guest.wait_for_records(2)
    acks = guest.acknowledged()
    long_s = ended["result"]["steps"]["snapshots"] * GAP
    pairs = list(itertools.pairwise(ack for ack in acks if ack.number >= before))
    gaps = {a.number for a, b in pairs if b.guest_uptime_s - a.guest_uptime_s >= long_s}
    assert gaps, "the guest's clock shows no freeze"
    return Taken(name, ended["result"], before, gaps | {number + 1 for number in gaps})


def by_steps(site: Site, guest: Guest, name: str) -> Taken:
    """The engine's way: freeze, snapshot, and thaw by separate verbs."""
    job, before = uuid.uuid4(), guest.acknowledged()[-1].number
    drives = [{"disk": target, "snapshotName": name} for target in ("vda", "vdb")]
    with site.client.frozen(guest.uuid, 60.0):
        site.call("VM.snapshot", vmID=guest.uuid, frozen=True, snapDrives=drives, jobUUID=job)
        site.client.wait_for_job(job, 60)
        # Still frozen: nothing later can have been acknowledged before the snapshot.
        within = guest.acknowledged()[-1].number
    result = site.call("Host.getJobs", job_ids=[job])[str(job)]["result"]
    return Taken(name, result, before, {within, within + 1})


def check(site: Site, guest: Guest, taken: Taken, folder: Path) -> str:
    """Fail if a snapshot is not as good as it was called; returns what it was called."""
    reports: list[FsReport] = []
    with site.ceph.pool(POOL) as ioctx:
        for disk in guest.spec.disks:
            reports.append(examine_image(ioctx, disk.image, taken.name, folder))  # type: ignore[union-attr]
    if taken.result["consistency"] == "filesystem":
        for report in reports:
            assert report.clean, taken
            assert report.fsck_clean, taken
            count = len(report.records)
            assert report.records == list(range(1, count + 1)), taken
            assert count >= taken.before, (taken, count)
            assert count in taken.last, (taken, count)
    return str(taken.result["consistency"])


@pytest.mark.parametrize("way", [by_verb, by_steps], ids=["verb", "steps"])
def test_what_is_called_filesystem_is_clean_and_holds_what_was_acknowledged_and_no_more(
    site: Site,
    make_guest: Callable[..., Guest],
    tmp_path: Path,
    way: Callable[[Site, Guest, str], Taken],
) -> None:
    guest = make_guest()
    guest.wait_for_records(5)
    called: list[str] = []
    with ThreadPoolExecutor(1) as examiner:
        for first in range(0, SNAPSHOTS // 2, AT_ONCE):
            batch = [way(site, guest, f"truth-{first + n}") for n in range(AT_ONCE)]
            checks = [examiner.submit(check, site, guest, taken, tmp_path) for taken in batch]
            called += [done.result() for done in checks]
            for taken in batch:
                _delete(site, guest, taken.name)
    # Under write load and undisturbed, each of them is a good one: or nothing was shown here.
    assert called == ["filesystem"] * (SNAPSHOTS // 2)


def _delete(site: Site, guest: Guest, name: str) -> None:
    for disk in guest.spec.disks:
        site.volume("deleteSnapshot", disk.image, snapshotName=name)  # type: ignore[union-attr]
