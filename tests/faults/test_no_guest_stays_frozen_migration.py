"""Promise 1 for a guest that leaves its host while it is frozen: whoever has it thaws it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from tests.faults.lone import LoneDaemons, leases_of
from tests.faults.pace import require_thawed_by
from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.integration.test_freeze import guest_says
from tests.lab import secret
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.state import free_port


@pytest.fixture(scope="module")
def destination(lab_state: Path, site: Site, ceph_key: str) -> Iterator[PrivateLibvirtd]:
    """Another host, which has the secret of the guests' disks."""
    libvirtd = PrivateLibvirtd.start(lab_state / "h-there", "there")
    with libvirtd.connection() as connection:
        secret.define(connection, ceph_key, site.secret_uuid)
    yield libvirtd
    libvirtd.stop()


@pytest.fixture
def there(destination: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    with destination.connection() as connection:
        yield connection


@pytest.fixture
def guest(make_guest: Callable[..., Guest]) -> Guest:
    """A guest of the test's own, which moves."""
    return make_guest()


def migrate(guest: Guest, there: libvirt.virConnect) -> None:
    """Move a running guest, and go on with it there. Blocks, some 3 s."""
    uri = {libvirt.VIR_MIGRATE_PARAM_URI: f"tcp:127.0.0.1:{free_port()}"}
    guest.domain = guest.domain.migrate3(there, uri, libvirt.VIR_MIGRATE_LIVE)


def test_a_frozen_guest_that_migrates_is_thawed_and_its_lease_ends(
    site: Site, guest: Guest, there: libvirt.virConnect
) -> None:
    """Nobody over there knows of the lease: the daemon here thaws it as soon as it begins to leave."""
    site.call("VM.freeze", vmID=guest.uuid, timeout=300)
    migrate(guest, there)
    until(lambda: not any(path.stem == guest.uuid for path in leases_of(site.daemon)), 5)
    require_thawed_by(guest, time.monotonic())
    assert "migrat" in site.daemon.log_text().rpartition(f"thawed vm={guest.uuid}")[2]


def test_a_guest_that_arrives_frozen_is_thawed_by_the_daemon_there(
    guest: Guest, destination: PrivateLibvirtd, there: libvirt.virConnect, lone: LoneDaemons
) -> None:
    # Where guests found at the start are only told of: who froze this one is out of its reach.
    daemon = lone.start(uri=destination.uri, overrides={"freeze": {"unknown": "report"}})
    guest.domain.fsFreeze()
    assert guest_says(guest) == "frozen"
    migrate(guest, there)
    require_thawed_by(guest, time.monotonic())
    assert "it arrived frozen from another host" in daemon.log_text()
