"""Promise 5: nothing that we ask for makes Ceph cut a running VM off from its disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.halted import Halting, Halts
from tests.faults.pace import says
from tests.faults.waiting import until
from tests.integration.conftest import Rough, Site
from tests.integration.stall import stalled
from tests.integration.test_group_snapshots import groups
from tests.lab.ceph import CephCluster
from tests.lab.domain_xml import GuestSpec
from tests.lab.guest import Guest
from tests.lab.template import run_guest

# librbd breaks the lock of an owner that it has waited for so long.
BREAKS_S = 30
GIVEN_UP_S = 12


def blocklist(ceph: CephCluster) -> bytes:
    with ceph.admin() as admin:
        # Two documents of JSON in one answer; that they do not change is all that is asked here.
        _, listed, _ = admin.mon_command(json.dumps({"prefix": "osd blocklist ls"}), b"")
    return bytes(listed)


def require_writes(guest: Guest) -> None:
    before = guest.acknowledged()[-1].number
    assert guest.wait_for_records(5)[-1].number >= before + 5
    assert "I/O error" not in guest.console_text()


@pytest.mark.parametrize(
    ("step", "method"),
    [("freeze not sent", "parallel"), ("frozen", "parallel"), ("frozen", "group")],
)
def test_a_qemu_that_stops_in_the_middle_of_a_set_keeps_its_disks(
    halts: Halts, site: Site, make_guest: Callable[..., Guest], step: str, method: str
) -> None:
    guest = make_guest()
    before, known = blocklist(site.ceph), groups(site)
    halted = halts.at(step, site.ceph)
    # The lease outlives the stall, or the guest would be thawed by the clock alone.
    lease_s = 20 if step == "freeze not sent" else 120
    halted.begin(guest, "stalled", maxFrozen=lease_s, method=method)
    with stalled(guest):
        began_s = time.monotonic()
        job = halted.go_on()
        assert job["status"] == "failed", job
        # Of these a thaw that nobody answers takes ten.
        assert time.monotonic() - began_s < GIVEN_UP_S + 15
        time.sleep(max(0.0, BREAKS_S + 5 - (time.monotonic() - began_s)))
    until(lambda: says(guest) == "thawed", 30)
    require_writes(guest)
    assert blocklist(site.ceph) == before
    until(lambda: halted.nothing_left(guest, "stalled"), 120)
    until(lambda: groups(site) == known, 120)


@pytest.fixture
def rough_guest(rough: Rough) -> Iterator[Guest]:
    with rough.libvirtd.connection() as connection:
        made = run_guest(connection, GuestSpec("unserved", rough.disks), rough.state / "guests")
        made.wait_for_agent()
        yield made
        made.destroy()


def ending(halted: Halting) -> dict[str, Any]:
    """The ended job, of which the verb's own bound is part."""
    began_s = time.monotonic()
    job = halted.go_on()
    assert time.monotonic() - began_s < GIVEN_UP_S + 15
    assert job["status"] == "failed", job
    return job


@pytest.mark.parametrize("part", ["mon", "osd"])
def test_a_cluster_that_stops_in_the_middle_of_a_set_costs_the_set_and_nothing_else(
    halts: Halts, rough: Rough, rough_guest: Guest, part: str
) -> None:
    ceph = rough.site.ceph
    before = blocklist(ceph)
    overrides = {"freeze": {"unknown": "ignore"}, "ceph": {"op_timeout_s": 2.0}}
    halted = halts.at("frozen", ceph, uri=rough.libvirtd.uri, overrides=overrides)
    halted.begin(rough_guest, f"without-{part}")
    getattr(ceph, f"suspend_{part}")()
    try:
        ending(halted)
    finally:
        getattr(ceph, f"resume_{part}")()
    # Its thaw writes, and the disk's librbd writes nothing before its cluster is back.
    until(lambda: says(rough_guest) == "thawed", 90)
    require_writes(rough_guest)
    assert blocklist(ceph) == before
    until(lambda: halted.nothing_left(rough_guest, f"without-{part}"), 120)
