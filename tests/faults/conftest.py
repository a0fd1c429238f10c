"""The same site as the integration tests have, and many guests at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from tests.faults.halted import Halts
from tests.faults.lone import LoneDaemons
from tests.integration.conftest import *  # noqa: F403
from tests.integration.conftest import Site, shared_vm
from tests.integration.recorder import Recording, RecordingClient
from tests.lab.daemon import Daemon
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.guest import Guest
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL
from tests.lab.template import run_guest


@pytest.fixture(scope="package")
def vm(lab_state: Path, shared_connection: libvirt.virConnect, site: Site) -> Iterator[Guest]:
    """The shared guest of these tests, which takes a third of a processor: not for all the others as well."""
    yield from shared_vm(lab_state, shared_connection, site)


@pytest.fixture(scope="module")
def make_guests(
    lab_state: Path, shared_connection: libvirt.virConnect, site: Site
) -> Iterator[Callable[..., list[Guest]]]:
    """Makes so many running guests with so many RBD disks each, which end with the module's tests."""
    made: list[Guest] = []

    def disks(count: int) -> Iterator[RbdDisk]:
        for _ in range(count):
            image = f"many-{uuid.uuid4().hex[:8]}"
            site.ceph.create_image(POOL, image, IMAGE_BYTES)
            yield RbdDisk(POOL, image, site.ceph.monitors, CEPH_USER, site.secret_uuid)

    def make(count: int, disks_each: int = 1) -> list[Guest]:
        for _ in range(count):
            spec = GuestSpec(f"many-{len(made)}", list(disks(disks_each)), memory_mib=128)
            made.append(run_guest(shared_connection, spec, lab_state / "guests"))
        return made[-count:]

    yield make
    for guest in made:
        guest.destroy()


@pytest.fixture
def lone(start_daemon: Callable[..., Daemon], lab_state: Path) -> Iterator[LoneDaemons]:
    """Starts daemons of the test's own; they and their guards end with it."""
    daemons = LoneDaemons(start_daemon, lab_state)
    yield daemons
    daemons.end()


@pytest.fixture
def spare(vm: Guest) -> Iterator[Guest]:
    """The shared guest, thawed after the test whatever became of it."""
    yield vm
    vm.domain.agentSetResponseTimeout(5, 0)
    vm.domain.fsThaw()


@pytest.fixture
def halts(
    lone: LoneDaemons, connect: Callable[..., RecordingClient], recording: Recording
) -> Halts:
    """Makes daemons of the test's own that halt at a named step."""
    return Halts(lone, connect, recording)
