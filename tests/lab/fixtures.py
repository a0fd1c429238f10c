"""Pytest fixtures on the lab: `pytest_plugins = ["tests.lab.fixtures"]` in a conftest.py."""

import itertools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import pytest
import rados
import rbd

from tests.lab import packages, secret, state
from tests.lab.ceph import CephCluster
from tests.lab.domain_xml import Disk, GuestSpec, RbdDisk
from tests.lab.errors import MissingPrerequisite
from tests.lab.guest import Guest, is_frozen
from tests.lab.leftovers import new_since, survey
from tests.lab.libvirtd import PrivateLibvirtd, quiet_errors
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL, POOL2
from tests.lab.template import run_guest

MakeImage = Callable[..., RbdDisk]
MakeGuest = Callable[..., Guest]


def require_lab() -> None:
    """Skip the test where the lab cannot run, and say why; in CI fail it. Blocks, some 20 ms."""
    missing = packages.missing()
    problem = None
    if os.geteuid() != 0:
        problem = MissingPrerequisite("root")
    elif missing:
        problem = MissingPrerequisite(f"the package {missing[0]}")
    if problem is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{problem}, and CI never skips", pytrace=False)
    pytest.skip(str(problem))


@pytest.fixture(scope="session")
def lab_state() -> Iterator[Path]:
    """A state folder of this test run; everything under it ends with the run."""
    require_lab()
    quiet_errors()
    folder = state.create_for_test()
    yield folder
    state.remove(folder)


@pytest.fixture(scope="session")
def ceph(lab_state: Path) -> CephCluster:
    """A cluster with two pools."""
    cluster = CephCluster.start(lab_state / "ceph")
    for pool in (POOL, POOL2):
        cluster.create_pool(pool)
    return cluster


@pytest.fixture(scope="session")
def ceph_key(ceph: CephCluster) -> str:
    """The base64 key of client.virtceph, which has `profile rbd`."""
    return ceph.create_user(CEPH_USER)


@pytest.fixture(scope="session")
def libvirtd(lab_state: Path) -> PrivateLibvirtd:
    """A libvirtd of this test run."""
    return PrivateLibvirtd.start(lab_state / "h1")


@pytest.fixture
def connection(libvirtd: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    """A libvirt connection of this test."""
    with libvirtd.connection() as opened:
        yield opened


@pytest.fixture
def secret_uuid(connection: libvirt.virConnect, ceph_key: str) -> Iterator[UUID]:
    """A libvirt secret with the key of client.virtceph."""
    ident = secret.define(connection, ceph_key)
    yield ident
    secret.undefine(connection, ident)


@pytest.fixture
def make_image(ceph: CephCluster, secret_uuid: UUID) -> Iterator[MakeImage]:
    """Makes an empty image and returns the disk on it; removes it, with snapshots, at the end.

    `keep` leaves it to the end of the run: a killed client's watch would hold up its removal for 30 s.
    """
    made: list[RbdDisk] = []

    def make(pool: str = POOL, size_bytes: int = IMAGE_BYTES, *, keep: bool = False) -> RbdDisk:
        disk = RbdDisk(pool, f"test-{uuid.uuid4().hex[:8]}", ceph.monitors, CEPH_USER, secret_uuid)
        ceph.create_image(pool, disk.image, size_bytes)
        if not keep:
            made.append(disk)
        return disk

    yield make
    for disk in made:
        remove_image(ceph, disk)


@pytest.fixture
def make_guest(
    lab_state: Path,
    connection: libvirt.virConnect,
    libvirtd: PrivateLibvirtd,
    make_image: MakeImage,
) -> Iterator[MakeGuest]:
    """Makes a running guest on two new images, or on `disks`; ends it at the end."""
    made: list[Guest] = []
    numbers = itertools.count(1)

    def make(disks: Sequence[Disk] | None = None, **options: Any) -> Guest:
        used: Sequence[Disk] = disks if disks is not None else [make_image(), make_image()]
        spec = GuestSpec(f"test-guest-{next(numbers)}", used, **options)
        made.append(run_guest(connection, spec, lab_state / "guests"))
        return made[-1]

    yield make
    frozen = []
    # A new connection: the test may have restarted libvirtd. Frozen ones are looked for here, since
    # no later fixture finds a guest that could tell.
    with libvirtd.connection() as fresh:
        for guest in made:
            guest.reattach(fresh)
            frozen += [guest.name] if is_frozen(guest.domain) else []
            guest.destroy()
    if frozen:
        pytest.fail(f"the test left frozen: {', '.join(frozen)}", pytrace=False)


@pytest.fixture
def no_leftovers(lab_state: Path, ceph: CephCluster, libvirtd: PrivateLibvirtd) -> Iterator[None]:
    """Fail the test if it leaves a process, mount, image, watcher, secret or guest behind."""

    def look() -> set[str]:
        return survey(lab_state, ceph, libvirtd)

    before = look()
    yield
    if left := new_since(before, look):
        pytest.fail("the test left behind:\n" + "\n".join(left), pytrace=False)


def remove_image(ceph: CephCluster, disk: RbdDisk) -> None:
    """Remove an image with its snapshots, and the groups that have some of it, if it is there. Blocks."""
    with ceph.admin() as client, client.open_ioctx(disk.pool) as ioctx:
        if disk.image not in rbd.RBD().list(ioctx):
            return
        with rbd.Image(ioctx, disk.image) as image:
            for snapshot in list(image.list_snaps()):
                if group := snapshot.get("group"):
                    with client.open_ioctx2(group["pool"]) as groups:
                        rbd.RBD().group_remove(groups, group["name"])
                    continue
                if image.is_protected_snap(snapshot["name"]):
                    image.unprotect_snap(snapshot["name"])
                image.remove_snap(snapshot["name"])
        _remove_unwatched(ioctx, disk.image)


def _remove_unwatched(ioctx: rados.Ioctx, image: str, timeout_s: float = 45) -> None:
    # The watch of a client that was killed lasts 30 s.
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            rbd.RBD().remove(ioctx, image)
            return
        except rbd.ImageBusy:
            if time.monotonic() >= deadline_s:
                raise
            time.sleep(1)
