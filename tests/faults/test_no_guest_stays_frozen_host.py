"""Promise 1, the host's part: a disk that is full or read-only, and a clock that jumps."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.faults.lone import LoneDaemons, leases_of
from tests.faults.pace import require_thawed_by
from tests.faults.waiting import until
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.test_freeze import guest_says
from tests.lab import user
from tests.lab.daemon import Daemon
from tests.lab.doomed import step_named
from tests.lab.guest import Guest

LEASE_S = 3
Connect = Callable[..., RecordingClient]

# --- the disk ---


def mount_over_leases(daemon: Daemon, options: str) -> Path:
    """Put a file system of its own where a daemon and its guard keep their leases, and nobody else sees
    it: they have a mount namespace of their own. Returns how it is seen from outside."""
    account = user.ensure()
    folder = daemon.folder / "run/leases"
    folder.mkdir(exist_ok=True)
    options = f"mode=700,uid={account.uid},gid={account.gid},{options}"
    # Its root too, which is not the namespace's where the tests run in a chroot.
    enter = ["nsenter", "--mount", "--root", "--target", str(daemon.pid)]
    subprocess.run([*enter, "mount", "-t", "tmpfs", "-o", options, "leases", folder], check=True)
    return Path(f"/proc/{daemon.pid}/root{folder}")


@pytest.mark.parametrize(
    ("options", "fill", "reason"),
    [
        ("size=4k", True, "No space left on device"),
        ("ro", False, "Read-only file system"),
    ],
)
def test_without_room_for_its_record_a_freeze_is_refused_and_the_guest_not_asked(
    lone: LoneDaemons, spare: Guest, connect: Connect, options: str, fill: bool, reason: str
) -> None:
    # It would die of asking the guest anything.
    daemon = lone.doomed(
        step_named("file systems not asked for"), overrides={"freeze": {"unknown": "ignore"}}
    )
    folder = mount_over_leases(daemon, options)
    if fill:
        (folder / "others").write_bytes(bytes(4096))
    error = error_of(connect(daemon).call, "VM.freeze", vmID=spare.uuid, timeout=LEASE_S)
    assert (error.code, error.name) == (76, "FreezeFailed")
    assert error.data["reason"] == f"its lease cannot be recorded: {reason}"
    assert daemon.process.alive
    assert guest_says(spare) == "thawed"
    assert not list(folder.glob("*.new"))


def test_a_disk_that_fills_up_during_the_freeze_does_not_keep_the_guest_frozen(
    lone: LoneDaemons, spare: Guest, connect: Connect
) -> None:
    daemon = lone.start()
    # Room for one record: the one that confirms the freeze has to lie beside the first.
    mount_over_leases(daemon, "size=4k")
    connect(daemon).call("VM.freeze", vmID=spare.uuid, timeout=LEASE_S)
    frozen_s = time.monotonic()
    assert "record not renewed" in daemon.log_text()
    daemon.kill()
    require_thawed_by(spare, frozen_s + LEASE_S)


# --- the clock ---


class WallClock:
    """The time of day as a daemon and its guard see it, by libfaketime; other clocks are the host's."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.shift(timedelta(0))

    @property
    def launcher(self) -> list[str]:
        """For the daemon. Not earlier: what libfaketime shares belongs to the user that loads it first."""
        (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
        variables = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": self._file,
            "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        }
        return ["env", *(f"{name}={value}" for name, value in variables.items())]

    def shift(self, by: timedelta) -> None:
        """Show another time from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{by.total_seconds():+.0f}")
        new.rename(self._file)

    @staticmethod
    def forget(daemon: Daemon) -> None:
        """Remove what libfaketime of a killed daemon left behind."""
        for name in ("faketime_shm", "sem.faketime_sem"):
            Path(f"/dev/shm/{name}_{daemon.pid}").unlink(missing_ok=True)


@pytest.fixture
def clock(lab_state: Path) -> WallClock:
    return WallClock(lab_state / "clock")


@pytest.fixture
def dated(lone: LoneDaemons, clock: WallClock) -> Iterator[Daemon]:
    """A daemon of the test's own, which sees that clock."""
    daemon = lone.start(launcher=clock.launcher)
    yield daemon
    WallClock.forget(daemon)


@pytest.mark.parametrize("is_killed", [False, True], ids=["daemon", "guard"])
@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_jumps_moves_no_deadline(
    dated: Daemon, clock: WallClock, spare: Guest, connect: Connect, days: int, is_killed: bool
) -> None:
    connect(dated).call("VM.freeze", vmID=spare.uuid, timeout=LEASE_S)
    frozen_s = time.monotonic()
    if is_killed:
        dated.kill()
    clock.shift(timedelta(days=days))
    until(lambda: guest_says(spare) == "thawed" or overdue(frozen_s), LEASE_S + 20)
    assert time.monotonic() - frozen_s > LEASE_S - 0.5
    require_thawed_by(spare, frozen_s + LEASE_S)
    until(lambda: not leases_of(dated), 5)
    # It was another day when they logged the thaw.
    last = [line for line in dated.log_text().splitlines() if spare.uuid in line][-1]
    seen = datetime.fromisoformat(last.split(",")[0]).astimezone()
    assert abs(seen - datetime.now().astimezone() - timedelta(days=days)) < timedelta(hours=1)


def overdue(frozen_s: float) -> bool:
    return time.monotonic() - frozen_s > LEASE_S
