"""The promised second, on a machine that may be busy: bounds hold as they are on an idle one."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import libvirt

from tests.integration.test_freeze import guest_says
from tests.lab.guest import Guest

# The promise: thawed by its deadline and two seconds.
LATE_S = 2.0
# What starting this takes on the slowest machine whose seconds are taken as they are.
_NOMINAL_S = 0.12
_WORK = [sys.executable, "-c", "import asyncio, json, logging"]
_SLOWEST = 10.0


def slowness() -> float:
    """How many times slower than an idle machine this one is now, at least 1. Blocks for a moment."""
    began_s = time.monotonic()
    subprocess.run(_WORK, check=True, stdin=subprocess.DEVNULL)
    return max(1.0, (time.monotonic() - began_s) / _NOMINAL_S)


def short_lease_s() -> int:
    """A lease that is soon over, and still long enough on this machine now: freezing may take half of it, and
    the guest is to be seen frozen before it ends. Blocks for a moment."""
    return min(20, math.ceil(3 * slowness()))


def require_thawed_by(guest: Guest, due_s: float) -> None:
    """Wait until a guest says that it is thawed; fail when that is too long after `due_s` (monotonic).
    Blocks."""
    slowest = 1.0
    while says(guest) != "thawed":
        late_s = time.monotonic() - due_s
        assert late_s < LATE_S * _SLOWEST, f"still frozen {late_s:.1f} s after it was due"
        if late_s > LATE_S:
            slowest = max(slowest, slowness())
        time.sleep(0.1)
    late_s = time.monotonic() - due_s
    if late_s > LATE_S:
        slowest = max(slowest, slowness())
        assert late_s < LATE_S * slowest, f"{late_s:.1f} s late on a machine {slowest:.1f} x busy"


def says(guest: Guest) -> str:
    """What the guest says, `frozen` or `thawed`; `nothing` while it cannot be asked. Blocks."""
    try:
        return guest_says(guest)
    except libvirt.libvirtError:
        # libvirt or the agent is just coming back.
        return "nothing"
