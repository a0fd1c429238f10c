"""Promises 1, 3 and 10: a daemon that dies anywhere in a set leaves a thawed guest, and all or nothing."""

from __future__ import annotations

import contextlib
import signal
import time
import uuid

import pytest

from tests.faults.halted import BLIND, Halts
from tests.faults.pace import require_thawed_by
from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.integration.test_consistent_snapshot import run
from tests.integration.test_group_snapshots import groups, parts
from tests.lab.doomed import SET_STEPS, Step, reached_line, step_named
from tests.lab.guest import Guest
from virtceph.client import ConnectionFailed

MAX_FROZEN_S = 4.0
# What an owner was asked for may still come, for as long as its asker's watch lasts.
MAY_COME_S = 120.0


# Where a group is made otherwise than a snapshot of each image.
GROUP_STEPS = [
    step_named(name)
    for name in (
        "intent written",
        "set prepared",
        "snapshots under way",
        "snapshots made",
        "note under way",
        "set noted",
    )
]


@pytest.mark.parametrize("step", SET_STEPS, ids=lambda step: step.name.replace(" ", "-"))
def test_a_daemon_that_dies_at_any_step_of_a_set_leaves_a_thawed_guest_and_all_or_nothing(
    step: Step, halts: Halts, site: Site, spare: Guest
) -> None:
    require_all_or_nothing(step, "parallel", halts, site, spare)


@pytest.mark.parametrize("name", ["set prepared", "snapshots under way", "note under way"])
def test_the_workers_of_a_daemon_that_dies_leave_neither_locks_nor_watches(
    name: str, halts: Halts, site: Site, spare: Guest
) -> None:
    daemon = halts.lone.doomed(step_named(name), overrides=BLIND)
    doomed = halts.serving(daemon, name, site.ceph)
    with contextlib.suppress(ConnectionFailed):
        doomed.site.call(
            "VM.createConsistentSnapshot",
            vmID=spare.uuid,
            snapshotName=f"left-{uuid.uuid4().hex[:8]}",
            maxFrozen=MAX_FROZEN_S,
        )
    assert daemon.process.wait(30)
    daemon.kill()
    # Of those that are left each is a VM's own: others are waited for by every change for 30 s.
    for disk in spare.spec.disks:
        image = disk.image  # type: ignore[union-attr]
        until(lambda image=image: len(users(site, image)) == 1, 10)  # type: ignore[misc]


def users(site: Site, image: str) -> set[str]:
    told = site.volume("getInfo", image)
    return {watcher["address"] for watcher in told["watchers"]}


@pytest.mark.parametrize("step", GROUP_STEPS, ids=lambda step: step.name.replace(" ", "-"))
def test_a_daemon_that_dies_at_any_step_of_a_group_leaves_a_thawed_guest_and_all_or_nothing(
    step: Step, halts: Halts, site: Site, spare: Guest
) -> None:
    require_all_or_nothing(step, "group", halts, site, spare)
    spare.wait_for_records(3)


def require_all_or_nothing(step: Step, method: str, halts: Halts, site: Site, spare: Guest) -> None:
    """Kill a daemon at the step, and see what is left when another has come. Blocks."""
    known = groups(site)
    daemon = halts.lone.doomed(step, overrides=BLIND)
    doomed = halts.serving(daemon, step.name, site.ceph)
    name = f"killed-{uuid.uuid4().hex[:8]}"
    # The answer to the call that kills it may just have been sent.
    with contextlib.suppress(ConnectionFailed):
        doomed.site.call(
            "VM.createConsistentSnapshot",
            vmID=spare.uuid,
            snapshotName=name,
            maxFrozen=MAX_FROZEN_S,
            method=method,
            jobUUID=uuid.uuid4(),
        )
    assert daemon.process.wait(30)
    died_s = time.monotonic()
    assert reached_line(step) in daemon.log_text()
    assert daemon.process.exit_code == -signal.SIGKILL
    daemon.kill()  # what the lab keeps of it
    require_thawed_by(spare, died_s + MAX_FROZEN_S)
    again = halts.serving(
        halts.lone.start(daemon.folder.name, overrides=BLIND), step.name, site.ceph
    )
    images = [disk.image for disk in spare.spec.disks]  # type: ignore[union-attr]

    def is_settled() -> bool:
        made = again.snapshots(spare, name) if method == "parallel" else parts(site, spare, name)
        listed = again.site.call("VM.listConsistentSnapshots", vmID=spare.uuid)
        whole = [found["snapshotName"] for found in listed if found["complete"]]
        return made == (images if name in whole else [])

    until(is_settled, MAY_COME_S)
    if not parts(site, spare, name):
        # No image is left in a group without a set.
        until(lambda: groups(site) == known, MAY_COME_S)
    for found in again.site.call("VM.listConsistentSnapshots", vmID=spare.uuid):
        if found["snapshotName"] == name:
            run(again.site, "VM.deleteConsistentSnapshot", spare.uuid, snapshotName=name)
