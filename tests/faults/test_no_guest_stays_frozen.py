"""Promise 1: no guest stays frozen beyond its lease, whoever dies. Here the engine, the guard and a daemon
that is stuck; the files beside this one have a daemon that is killed, libvirt, the guest and the host."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.lone import LoneDaemons, guards, leases_of
from tests.faults.pace import require_thawed_by, short_lease_s
from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.integration.recorder import RecordingClient
from tests.integration.test_freeze import guest_says
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest

Connect = Callable[..., RecordingClient]


@pytest.fixture
def lease_s() -> int:
    return short_lease_s()


@pytest.fixture
def doomed(lone: LoneDaemons) -> Daemon:
    """A daemon of the test's own, to be killed."""
    return lone.start()


# --- the engine ---


@pytest.mark.parametrize("answered", [False, True])
def test_an_engine_that_breaks_off_leaves_its_guest_frozen_no_longer_than_its_lease(
    site: Site, spare: Guest, lease_s: int, answered: bool
) -> None:
    params = {"vmID": spare.uuid, "timeout": lease_s}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.freeze", "params": params}).encode()
    head = f"POST /jsonrpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as engine:
        engine.connect(str(site.daemon.socket))
        engine.sendall(head.encode() + body)
        answer = b""
        while answered and b"windowID" not in answer:
            answer += engine.recv(65536) or pytest.fail(f"no window in {answer!r}")
    frozen_s = time.monotonic()
    until(lambda: guest_says(spare) == "frozen", lease_s - 1)
    require_thawed_by(spare, frozen_s + lease_s)
    assert time.monotonic() - frozen_s > lease_s - 0.5


# --- the daemon and its guard ---


def test_a_killed_daemons_guest_is_thawed_by_the_guard_in_time(
    doomed: Daemon, spare: Guest, connect: Connect, lease_s: int
) -> None:
    connect(doomed).call("VM.freeze", vmID=spare.uuid, timeout=lease_s)
    frozen_s = time.monotonic()
    doomed.kill()
    assert guest_says(spare) == "frozen"
    require_thawed_by(spare, frozen_s + lease_s)
    # Not before its time either: the engine may still be at work under the freeze.
    assert time.monotonic() - frozen_s > lease_s - 0.5
    until(lambda: not leases_of(doomed), 5)
    # And where no service manager started it, it goes when nothing is left to guard.
    until(lambda: not guards(doomed), 10)


def test_a_stuck_daemons_guest_is_thawed_by_the_guard_in_time(
    doomed: Daemon, spare: Guest, connect: Connect, lease_s: int
) -> None:
    connect(doomed).call("VM.freeze", vmID=spare.uuid, timeout=lease_s)
    frozen_s = time.monotonic()
    doomed.suspend()
    try:
        require_thawed_by(spare, frozen_s + lease_s)
    finally:
        doomed.resume()


def test_a_killed_guard_is_started_again_and_does_its_work(
    doomed: Daemon, spare: Guest, connect: Connect, lease_s: int
) -> None:
    (first,) = guards(doomed)
    connect(doomed).call("VM.freeze", vmID=spare.uuid, timeout=lease_s)
    frozen_s = time.monotonic()
    os.kill(first, signal.SIGKILL)
    # Asked once: between two questions the first may go, and no other would have come.
    until(lambda: guards(doomed) not in ([], [first]), 10)
    doomed.kill()
    require_thawed_by(spare, max(frozen_s + lease_s, time.monotonic()))


def test_the_guard_is_small_and_holds_no_librbd(doomed: Daemon) -> None:
    (guard,) = guards(doomed)
    maps = Path(f"/proc/{guard}/maps").read_text()
    assert "librbd" not in maps
    assert "librados" not in maps
    rollup = Path(f"/proc/{guard}/smaps_rollup").read_text().splitlines()
    pss_kib = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
    assert pss_kib < 25 * 1024


def test_the_guard_leaves_a_running_lease_alone(
    doomed: Daemon, spare: Guest, connect: Connect
) -> None:
    client = connect(doomed)
    client.call("VM.freeze", vmID=spare.uuid, timeout=30)
    time.sleep(2)
    assert client.call("VM.thaw", vmID=spare.uuid)["intact"] is True


def test_a_guard_does_not_speak_for_its_daemon(doomed: Daemon) -> None:
    """Its READY=1 would tell the service manager that a daemon is ready which is still starting."""
    (guard,) = guards(doomed)
    assert b"NOTIFY_SOCKET" not in Path(f"/proc/{guard}/environ").read_bytes()
    assert doomed.notifications.count("READY=1") == 1
