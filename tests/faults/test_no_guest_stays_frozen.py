"""Promise 1: no guest stays frozen beyond its lease, whoever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Site
from tests.integration.recorder import RecordingClient
from tests.integration.test_freeze import guest_says
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest

LEASE_S = 3
# The promise: thawed by its deadline and two seconds.
LATE_S = 2.0


def guards(daemon: Daemon) -> list[int]:
    """The guards that serve a daemon's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"virtceph.guard" in words and any(str(daemon.folder).encode() in w for w in words):
            found.append(int(folder.name))
    return found


def until(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.05)


@pytest.fixture
def doomed(start_daemon: Callable[..., Daemon]) -> Iterator[Daemon]:
    """A daemon of the test's own, to be killed."""
    started = start_daemon("dies", overrides={"secrets": {"usage_prefix": "dies/"}})
    until(lambda: bool(guards(started)), 5)
    yield started
    started.kill()
    # Its guard ends by itself, since nothing is left to guard.
    until(lambda: not guards(started), 5)


def test_a_killed_daemons_guest_is_thawed_by_the_guard_in_time(
    doomed: Daemon, vm: Guest, connect: Callable[..., RecordingClient]
) -> None:
    connect(doomed).call("VM.freeze", vmID=vm.uuid, timeout=LEASE_S)
    frozen_at_s = time.monotonic()
    doomed.kill()
    assert guest_says(vm) == "frozen"
    until(lambda: guest_says(vm) == "thawed", LEASE_S + LATE_S)
    # Not before its time either: the engine may still be at work under the freeze.
    assert time.monotonic() - frozen_at_s > LEASE_S - 0.5
    until(lambda: not list((doomed.folder / "run/leases").iterdir()), 2)


def test_a_stuck_daemons_guest_is_thawed_by_the_guard_in_time(
    doomed: Daemon, vm: Guest, connect: Callable[..., RecordingClient]
) -> None:
    connect(doomed).call("VM.freeze", vmID=vm.uuid, timeout=LEASE_S)
    doomed.suspend()
    try:
        until(lambda: guest_says(vm) == "thawed", LEASE_S + LATE_S)
    finally:
        doomed.resume()


def test_a_killed_guard_is_started_again_and_does_its_work(
    doomed: Daemon, vm: Guest, connect: Callable[..., RecordingClient]
) -> None:
    (first,) = guards(doomed)
    connect(doomed).call("VM.freeze", vmID=vm.uuid, timeout=LEASE_S)
    os.kill(first, signal.SIGKILL)
    until(lambda: bool(guards(doomed)) and guards(doomed) != [first], 3)
    doomed.kill()
    until(lambda: guest_says(vm) == "thawed", LEASE_S + LATE_S)


def test_the_guard_is_small_and_holds_no_librbd(doomed: Daemon) -> None:
    (guard,) = guards(doomed)
    maps = Path(f"/proc/{guard}/maps").read_text()
    assert "librbd" not in maps
    assert "librados" not in maps
    rollup = Path(f"/proc/{guard}/smaps_rollup").read_text().splitlines()
    pss_kib = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert pss_kib < 25 * 1024


def test_the_guard_leaves_a_running_lease_alone(
    site: Site, doomed: Daemon, vm: Guest, connect: Callable[..., RecordingClient]
) -> None:
    client = connect(doomed)
    client.call("VM.freeze", vmID=vm.uuid, timeout=30)
    time.sleep(2)
    assert client.call("VM.thaw", vmID=vm.uuid)["intact"] is True


def test_a_guard_does_not_speak_for_its_daemon(doomed: Daemon) -> None:
    """Its READY=1 would tell the service manager that a daemon is ready which is still starting."""
    (guard,) = guards(doomed)
    assert b"NOTIFY_SOCKET" not in Path(f"/proc/{guard}/environ").read_bytes()
    assert doomed.notifications.count("READY=1") == 1
