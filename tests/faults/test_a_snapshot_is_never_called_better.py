"""Promise 2: a snapshot is never called better than it is."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import libvirt_qemu
import pytest

from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.integration.test_freeze import guest_says
from tests.lab.guest import Guest

# What VSS grants, and the simulated agent with it.
VSS_HOLDS_S = 10.0


@pytest.fixture
def windows(make_guest: Callable[..., Guest]) -> Guest:
    """A guest whose agent freezes as the one on Windows does."""
    guest = make_guest()
    answer = libvirt_qemu.qemuAgentCommand(guest.domain, '{"execute":"guest-get-fsinfo"}', 5, 0)
    guest.command(f"agent-windows {json.dumps(json.loads(answer), separators=(',', ':'))}")
    guest.wait_for_agent()
    return guest


def snapshot_under(site: Site, guest: Guest, name: str) -> str:
    """Snapshot both disks of a guest that its caller froze; returns the job's id."""
    job = uuid.uuid4()
    drives = [{"disk": target, "snapshotName": name} for target in ("vda", "vdb")]
    site.call("VM.snapshot", vmID=guest.uuid, frozen=True, snapDrives=drives, jobUUID=job)
    ended = site.client.wait_for_job(job, 60)
    assert ended["status"] == "done", ended
    assert ended["result"]["consistency"] == "pending"
    return str(job)


def result_of(site: Site, job: str) -> dict[str, Any]:
    return dict(site.call("Host.getJobs", job_ids=[job])[job]["result"])


def test_a_windows_guest_that_is_thawed_in_time_is_intact(site: Site, windows: Guest) -> None:
    """The simulated agent is a good one as long as VSS holds: what follows is not its weakness."""
    site.call("VM.freeze", vmID=windows.uuid, timeout=60)
    job = snapshot_under(site, windows, "in-time")
    thaw = site.call("VM.thaw", vmID=windows.uuid)
    assert (thaw["filesystems"], thaw["intact"]) == (2, True)
    assert result_of(site, job)["consistency"] == "filesystem"


def test_a_windows_guest_whose_vss_let_go_is_not_intact_and_its_snapshot_a_crash(
    site: Site, windows: Guest
) -> None:
    site.call("VM.freeze", vmID=windows.uuid, timeout=60)
    before = windows.acknowledged()[-1].number
    job = snapshot_under(site, windows, "let-go")
    until(lambda: windows.acknowledged()[-1].number > before, VSS_HOLDS_S * 3)
    # It writes again, and still says that it is frozen.
    status = site.call("VM.getFreezeStatus", vmID=windows.uuid)
    assert status["guest"] == "frozen"
    thaw = site.call("VM.thaw", vmID=windows.uuid)
    assert thaw["intact"] is False
    assert "limited up to 10 seconds" in thaw["reason"]
    assert guest_says(windows) == "thawed"
    result = result_of(site, job)
    assert (result["consistency"], result["reason"]) == ("crash", thaw["reason"])


def test_a_windows_guests_snapshot_that_was_taken_too_late_is_noted_as_crash_on_its_images(
    site: Site, windows: Guest
) -> None:
    site.call("VM.freeze", vmID=windows.uuid, timeout=60)
    time.sleep(VSS_HOLDS_S + 1)
    snapshot_under(site, windows, "too-late")
    site.call("VM.thaw", vmID=windows.uuid)
    for disk in windows.spec.disks:
        image = disk.image  # type: ignore[union-attr]

        def noted(image: str = image) -> list[str | None]:
            found = site.volume("listSnapshots", image)
            return [s.get("consistency") for s in found if s["snapshotName"] == "too-late"]

        until(lambda noted=noted: noted() == ["crash"], 15)  # type: ignore[misc]
