"""Promise 1, the guest's part: agents that hang or die, guests that are reset, paused or ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import libvirt
import pytest

from tests.faults.lone import LoneDaemons, guards, leases_of
from tests.faults.pace import require_thawed_by
from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.test_freeze import guest_says
from tests.lab.daemon import Daemon
from tests.lab.doomed import reached_line, step_named
from tests.lab.guest import Guest
from virtceph.client import ServerError

Connect = Callable[..., RecordingClient]
LONG_LEASE_S = 300
SILENT_LEASE_S = 6


@pytest.fixture
def guest(make_guest: Callable[..., Guest]) -> Guest:
    """A guest of the test's own, to be broken."""
    return make_guest()


def has_lease(daemon: Daemon, guest: Guest) -> bool:
    return any(path.stem == guest.uuid for path in leases_of(daemon))


# --- the agent hangs ---


def send_into_silence(lone: LoneDaemons, guest: Guest, connect: Connect) -> Daemon:
    """Stop a guest's agent just before a freeze is sent; the daemon that sent it and gave up waiting.
    Until the agent goes on nobody can say what will become of it. Blocks."""
    step = step_named("freeze not sent")
    daemon = lone.doomed(step, "halt", overrides={"freeze": {"unknown": "ignore"}})
    told: list[ServerError] = []
    client = connect(daemon)
    asking = threading.Thread(
        target=lambda: told.append(
            error_of(client.call, "VM.freeze", vmID=guest.uuid, timeout=SILENT_LEASE_S)
        )
    )
    asking.start()
    until(lambda: reached_line(step) in daemon.log_text(), 10)
    guest.command("agent-stop")
    (daemon.folder / "go").touch()
    asking.join()
    assert [error.name for error in told] == ["GuestAgentUnresponsive"]
    assert has_lease(daemon, guest)
    return daemon


def test_a_freeze_that_comes_late_is_undone(
    lone: LoneDaemons, guest: Guest, connect: Connect
) -> None:
    daemon = send_into_silence(lone, guest, connect)
    guest.command("agent-cont")
    until(lambda: not has_lease(daemon, guest), 10)
    require_thawed_by(guest, time.monotonic())
    # It did come: the agent froze both file systems before it heard of the thaw.
    assert "filesystems=2" in thawed_line(daemon)
    time.sleep(2)
    assert guest_says(guest) == "thawed"


def thawed_line(daemon: Daemon) -> str:
    """What a daemon logged of the last window that ended."""
    return [line for line in daemon.log_text().splitlines() if " thawed vm=" in line][-1]


def test_a_freeze_that_comes_after_its_daemon_died_is_undone(
    lone: LoneDaemons, guest: Guest, connect: Connect
) -> None:
    daemon = send_into_silence(lone, guest, connect)
    daemon.kill()
    given_up_s = time.monotonic()
    guest.command("agent-cont")
    # Half of the lease went into the asking.
    require_thawed_by(guest, given_up_s + SILENT_LEASE_S / 2)
    until(lambda: not has_lease(daemon, guest), 10)
    assert guest_says(guest) == "thawed"


def test_a_guest_whose_agent_hangs_at_the_deadline_is_thawed_when_it_goes_on(
    site: Site, guest: Guest
) -> None:
    site.call("VM.freeze", vmID=guest.uuid, timeout=2)
    guest.command("agent-stop")
    time.sleep(4)
    assert has_lease(site.daemon, guest)
    guest.command("agent-cont")
    require_thawed_by(guest, time.monotonic())


# --- the agent dies ---


def test_an_agent_that_is_restarted_under_a_freeze_breaks_it(site: Site, guest: Guest) -> None:
    # QEMU tells of a port once a second, and only how it is then: see docs/decisions/0008.
    time.sleep(1.1)
    site.call("VM.freeze", vmID=guest.uuid, timeout=LONG_LEASE_S)
    guest.command("agent-kill")
    guest.command("agent-start")
    guest.wait_for_agent()
    assert guest_says(guest) == "frozen"
    thaw = site.call("VM.thaw", vmID=guest.uuid)
    assert (thaw["filesystems"], thaw["intact"]) == (2, False)
    assert "agent was restarted or lost" in thaw["reason"]
    assert guest_says(guest) == "thawed"


@pytest.fixture
def unguarded(lone: LoneDaemons) -> Iterator[Daemon]:
    """A daemon whose guard is stopped: it tries at other times, and here the daemon is to be told."""
    daemon = lone.start()
    (guard,) = guards(daemon)
    os.kill(guard, signal.SIGSTOP)
    yield daemon
    os.kill(guard, signal.SIGCONT)


def test_a_guest_whose_agent_is_gone_at_the_deadline_is_thawed_when_it_is_back(
    unguarded: Daemon, guest: Guest, connect: Connect
) -> None:
    connect(unguarded).call("VM.freeze", vmID=guest.uuid, timeout=2)
    guest.command("agent-kill")
    # So long that the daemon's next try without being told would be seconds away.
    time.sleep(2 + 12)
    assert has_lease(unguarded, guest)
    guest.command("agent-start")
    guest.wait_for_agent()
    require_thawed_by(guest, time.monotonic())


# --- the guest itself ---


def test_a_guest_that_is_reset_loses_its_lease_at_once_and_boots_unfrozen(
    site: Site, guest: Guest
) -> None:
    site.call("VM.freeze", vmID=guest.uuid, timeout=LONG_LEASE_S)
    guest.domain.reset(0)
    guest.wait_for_agent()
    until(lambda: not has_lease(site.daemon, guest), 15)
    assert "the guest was reset while it was frozen" in thawed_line(site.daemon)
    assert guest_says(guest) == "thawed"
    assert site.call("VM.thaw", vmID=guest.uuid)["intact"] is False


def test_a_vm_that_ends_under_a_freeze_loses_its_lease_at_once(site: Site, guest: Guest) -> None:
    site.call("VM.freeze", vmID=guest.uuid, timeout=LONG_LEASE_S)
    assert has_lease(site.daemon, guest)
    guest.domain.destroy()
    until(lambda: not has_lease(site.daemon, guest), 5)
    assert error_of(site.call, "VM.thaw", vmID=guest.uuid).name == "NoSuchVM"


def test_a_vm_that_is_paused_at_the_deadline_is_thawed_once_somebody_else_resumes_it(
    unguarded: Daemon, guest: Guest, connect: Connect
) -> None:
    client = connect(unguarded)
    client.call("VM.freeze", vmID=guest.uuid, timeout=2)
    guest.domain.suspend()
    assert error_of(client.call, "VM.thaw", vmID=guest.uuid).name == "ThawPaused"
    # So long that the daemon's next try without being told would be seconds away.
    time.sleep(9)
    assert guest.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    assert has_lease(unguarded, guest)
    guest.domain.resume()
    require_thawed_by(guest, time.monotonic())
