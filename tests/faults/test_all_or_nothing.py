"""Promise 3: a snapshot of several disks that fails on one of them leaves none, and the guest thawed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import libvirt
import pytest
import rbd

from tests.faults.halted import Halting, Halts
from tests.faults.pace import says
from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.integration.test_freeze import guest_says
from tests.lab.ceph import command
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.guest import Guest
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL
from tests.lab.template import run_guest

DISKS = 8
SMALL = "small"


@pytest.fixture(scope="module")
def eight(make_guests: Callable[..., list[Guest]]) -> Guest:
    (guest,) = make_guests(1, DISKS)
    return guest


def require_undone(halted: Halting, guest: Guest, name: str, left: list[str]) -> None:
    until(lambda: guest_says(guest) == "thawed", 10)
    assert halted.snapshots(guest, name) == left
    assert halted.site.call("VM.listConsistentSnapshots", vmID=guest.uuid) == []
    assert list((halted.daemon.folder / "run/leases").glob("*.json")) == []
    assert list((halted.daemon.folder / "run/snapshots").glob("*.json")) == []


def test_a_name_taken_under_way_on_one_of_eight_disks_leaves_the_others_without(
    halts: Halts, site: Site, eight: Guest
) -> None:
    halted = halts.at("frozen", site.ceph)
    halted.begin(eight, "taken")
    taken = eight.spec.disks[5].image  # type: ignore[union-attr]
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, taken) as image:
        image.create_snap("taken")
    job = halted.go_on()
    assert job["status"] == "failed"
    assert "taken" in job["error"]["message"]
    # Somebody else's is left as it was.
    require_undone(halted, eight, "taken", [taken])


def test_a_disk_that_is_unplugged_under_way_fails_the_set_and_leaves_nothing(
    halts: Halts, site: Site, make_guests: Callable[..., list[Guest]]
) -> None:
    (guest,) = make_guests(1, 3)
    guest.command("writer-off")
    halted = halts.at("freeze not sent", site.ceph)
    halted.begin(guest, "unplugged")
    guest.command("sh umount /mnt/c")
    unplug(guest, "vdc")
    job = halted.go_on()
    assert job["status"] == "failed", job
    require_undone(halted, guest, "unplugged", [])


def unplug(guest: Guest, target: str) -> None:
    """Take a disk from a running guest. Blocks until it is gone."""

    def found() -> list[ElementTree.Element]:
        disks = ElementTree.fromstring(guest.domain.XMLDesc()).iterfind("devices/disk")
        return [disk for disk in disks if disk.find(f"target[@dev='{target}']") is not None]

    (disk,) = found()
    guest.domain.detachDevice(ElementTree.tostring(disk, encoding="unicode"))
    until(lambda: not found(), 20)


@pytest.fixture
def two_pools(
    site: Site, shared_connection: libvirt.virConnect, lab_state: Path
) -> Iterator[Guest]:
    """A guest with a disk in each of two pools, one of which a test may fill."""
    site.ceph.create_pool(SMALL)
    disks = []
    for pool, image in ((POOL, "roomy"), (SMALL, "small")):
        site.ceph.create_image(pool, image, IMAGE_BYTES)
        disks.append(RbdDisk(pool, image, site.ceph.monitors, CEPH_USER, site.secret_uuid))
    spec = GuestSpec("two-pools", disks, writer=False)
    guest = run_guest(shared_connection, spec, lab_state / "guests")
    yield guest
    set_quota(site, 0)
    guest.destroy()


def set_quota(site: Site, objects: int) -> None:
    """So many objects may the small pool hold; 0 is no quota. Blocks until the cluster acts on it."""

    def is_full() -> bool:
        pools = {pool["pool_name"]: pool for pool in command(admin, "osd dump")["pools"]}
        return "full" in pools[SMALL]["flags_names"].split(",")

    with site.ceph.admin() as admin:
        command(admin, "osd pool set-quota", pool=SMALL, field="max_objects", val=str(objects))
        until(lambda: is_full() is bool(objects), 60)


def test_a_pool_that_is_full_under_way_fails_the_set_and_leaves_nothing(
    halts: Halts, site: Site, two_pools: Guest
) -> None:
    halted = halts.at("frozen", site.ceph, (POOL, SMALL))
    halted.begin(two_pools, "full")
    set_quota(site, 1)
    began_s = time.monotonic()
    job = halted.go_on()
    assert job["status"] == "failed", job
    assert time.monotonic() - began_s < 30
    # Thawing writes to the file system, which waits until there is room.
    set_quota(site, 0)
    until(lambda: says(two_pools) == "thawed", 60)
    # What was asked for and not answered may still come; it is undone then.
    until(lambda: halted.nothing_left(two_pools, "full"), 120)
