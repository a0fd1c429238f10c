"""Promise 1, libvirt's part: a libvirtd that dies or is restarted under a freeze."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.lone import LoneDaemons, leases_of
from tests.faults.pace import require_thawed_by
from tests.faults.waiting import until
from tests.integration.conftest import Rough
from tests.integration.recorder import RecordingClient
from tests.lab.domain_xml import GuestSpec
from tests.lab.guest import Guest
from tests.lab.template import run_guest

LEASE_S = 2
ENDS = ("kill", "terminate")


@pytest.fixture
def guest(rough: Rough) -> Iterator[Guest]:
    """A guest of a libvirtd that may be killed."""
    with rough.libvirtd.connection() as connection:
        made = run_guest(connection, GuestSpec("restarts", rough.disks), rough.state / "guests")
        made.wait_for_agent()
        yield made
    with rough.libvirtd.connection() as connection:
        made.reattach(connection)
        made.destroy()


@pytest.mark.parametrize("end", ENDS)
def test_a_freeze_over_a_restart_of_libvirt_is_thawed_by_its_owner_and_did_not_hold(
    rough: Rough, guest: Guest, end: str
) -> None:
    rough.site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    getattr(rough.libvirtd, end)()
    rough.libvirtd.restart()
    thaw = rough.site.call("VM.thaw", vmID=guest.uuid)
    # Whatever happened to the guest meanwhile was not told to anybody.
    assert (thaw["filesystems"], thaw["intact"]) == (2, False)
    assert "libvirt was not watched" in thaw["reason"]


def test_a_vm_that_ends_after_libvirt_was_restarted_loses_its_lease_at_once(
    rough: Rough, guest: Guest
) -> None:
    rough.libvirtd.kill()
    rough.libvirtd.restart()
    rough.site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    with rough.libvirtd.connection() as connection:
        guest.reattach(connection)
        guest.domain.destroy()
    until(lambda: not leases_of(rough.site.daemon), 5)


@pytest.mark.parametrize("end", ENDS)
def test_a_lease_that_ends_without_libvirt_is_thawed_when_it_is_back(
    rough: Rough, guest: Guest, end: str
) -> None:
    rough.site.call("VM.freeze", vmID=guest.uuid, timeout=LEASE_S)
    getattr(rough.libvirtd, end)()
    time.sleep(LEASE_S + 1)
    assert leases_of(rough.site.daemon)
    rough.libvirtd.restart()
    back_s = time.monotonic()
    with rough.libvirtd.connection() as connection:
        guest.reattach(connection)
        require_thawed_by(guest, back_s)


def test_a_lease_that_ends_without_libvirt_and_daemon_is_thawed_by_the_guard(
    rough: Rough, guest: Guest, lone: LoneDaemons, connect: Callable[..., RecordingClient]
) -> None:
    daemon = lone.start(uri=rough.libvirtd.uri)
    connect(daemon).call("VM.freeze", vmID=guest.uuid, timeout=LEASE_S)
    daemon.kill()
    rough.libvirtd.kill()
    time.sleep(LEASE_S + 1)
    assert leases_of(daemon)
    rough.libvirtd.restart()
    back_s = time.monotonic()
    with rough.libvirtd.connection() as connection:
        guest.reattach(connection)
        require_thawed_by(guest, back_s)
