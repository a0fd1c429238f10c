"""Promise 1, step by step: a daemon that is killed anywhere between freeze and thaw."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.lone import LoneDaemons, leases_of
from tests.faults.pace import require_thawed_by, short_lease_s
from tests.faults.waiting import until
from tests.integration.recorder import RecordingClient
from tests.integration.test_freeze import guest_says
from tests.lab.daemon import Daemon
from tests.lab.doomed import STEPS, Step, reached_line, step_named
from tests.lab.guest import Guest
from virtceph.client import ConnectionFailed

LONG_LEASE_S = 60
Connect = Callable[..., RecordingClient]

# What a caller asks for to bring the daemon into each phase, and whether a lease is given.
VERBS = {
    "freeze": ("VM.freeze", True),
    "pause": ("VM.getFreezeStatus", False),
    "extend": ("VM.extendFreeze", True),
    "thaw": ("VM.thaw", False),
}
# It would pass by the functions that are to be its death.
BLIND = {"freeze": {"unknown": "ignore"}}


def run_into(
    step: Step, daemon: Daemon, guest: Guest, client: RecordingClient, lease_s: float
) -> None:
    """Do what brings a daemon to its step, and see it die there."""
    if step.phase != "freeze":
        client.call("VM.freeze", vmID=guest.uuid, timeout=lease_s)
    if step.phase in VERBS:
        verb, is_leased = VERBS[step.phase]
        given = {"timeout": lease_s} if is_leased else {}
        # The answer to the call that kills it may just have been sent.
        with contextlib.suppress(ConnectionFailed):
            client.call(verb, vmID=guest.uuid, **given)
    assert daemon.process.wait(lease_s + 10)
    assert reached_line(step) in daemon.log_text()
    assert daemon.process.exit_code == -signal.SIGKILL
    daemon.kill()  # what the lab keeps of it


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name.replace(" ", "-"))
def test_a_daemon_that_dies_at_any_step_leaves_no_guest_frozen(
    step: Step, lone: LoneDaemons, spare: Guest, connect: Connect
) -> None:
    lease_s = short_lease_s()
    daemon = lone.doomed(step, overrides=BLIND)
    began_s = time.monotonic()
    run_into(step, daemon, spare, connect(daemon), lease_s)
    due_s = time.monotonic() + (0.0 if step.phase == "expiry" else lease_s)
    if step.frozen is not None:
        assert (guest_says(spare) == "frozen") is step.frozen
    require_thawed_by(spare, due_s)
    if step.frozen:
        # Not before its time either: the engine may still be at work.
        assert time.monotonic() - began_s > lease_s
    until(lambda: not leases_of(daemon), lease_s + 5)
    assert guest_says(spare) == "thawed"
    spare.wait_for_records(1)


@pytest.mark.parametrize("name", ["window open", "freeze not sent", "frozen", "not confirmed"])
def test_a_daemon_started_again_at_once_undoes_a_freeze_that_nobody_confirmed(
    name: str, lone: LoneDaemons, spare: Guest, connect: Connect
) -> None:
    daemon = lone.doomed(step_named(name), overrides=BLIND)
    run_into(step_named(name), daemon, spare, connect(daemon), LONG_LEASE_S)
    again = lone.start(daemon.folder.name, overrides=BLIND)
    require_thawed_by(spare, time.monotonic())
    until(lambda: not leases_of(again), 5)
    assert "lease" not in connect(again).call("VM.getFreezeStatus", vmID=spare.uuid)


@pytest.mark.parametrize("name", ["confirmation recorded", "engine at work", "thaw not sent"])
def test_a_daemon_started_again_at_once_keeps_a_confirmed_lease_for_its_owner(
    name: str, lone: LoneDaemons, spare: Guest, connect: Connect
) -> None:
    daemon = lone.doomed(step_named(name), overrides=BLIND)
    run_into(step_named(name), daemon, spare, connect(daemon), LONG_LEASE_S)
    client = connect(lone.start(daemon.folder.name, overrides=BLIND))
    status = client.call("VM.getFreezeStatus", vmID=spare.uuid)
    assert status["guest"] == "frozen"
    assert status["lease"]["owner"] == "unix:root"
    assert LONG_LEASE_S / 2 < status["lease"]["expiresIn"] <= LONG_LEASE_S
    thaw = client.call("VM.thaw", vmID=spare.uuid)
    assert (thaw["windowID"], thaw["filesystems"]) == (status["lease"]["windowID"], 2)
    # Nobody watched the guest while no daemon ran.
    assert (thaw["intact"], "restarted" in thaw["reason"]) == (False, True)
    assert guest_says(spare) == "thawed"


@pytest.mark.parametrize("name", ["thawed", "record not removed"])
def test_a_daemon_started_again_after_it_died_in_a_thaw_ends_the_lease_when_asked(
    name: str, lone: LoneDaemons, spare: Guest, connect: Connect
) -> None:
    daemon = lone.doomed(step_named(name), overrides=BLIND)
    run_into(step_named(name), daemon, spare, connect(daemon), LONG_LEASE_S)
    again = lone.start(daemon.folder.name, overrides=BLIND)
    thaw = connect(again).call("VM.thaw", vmID=spare.uuid)
    assert (thaw["filesystems"], thaw["intact"]) == (0, False)
    assert not leases_of(again)
