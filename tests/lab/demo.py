"""`python -m tests.lab.demo`: consistent snapshots shown on a real Ceph, libvirt and guest."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import libvirt
import rados
import rbd

from tests.lab import packages, state
from tests.lab.demo_lease import eight_disks, killed_and_yet_thawed
from tests.lab.demo_proof import (
    Endpoint,
    check_nothing_left,
    end_strays,
    prove_frozen,
    prove_unfrozen,
    stop_daemon,
)
from tests.lab.demo_steps import (
    check_key_is_nowhere,
    freeze_and_snapshot,
    register_key,
    site,
    start_guest,
)
from tests.lab.errors import LabError
from tests.lab.libvirtd import quiet_errors
from tests.lab.screen import CheckFailed, Screen
from virtceph.client import ClientError

DONE, FAILED, INTERRUPTED = 0, 1, 130
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SNAPSHOT = "frozen"
NEXT = """
Next, with a lab that stays:
    make lab-up
    . .lab/env; PATH=$PWD/.venv/bin:$PATH
    virtceph Host getVMList --human
    virtceph VM freeze vmID=$LAB_VM timeout=20
    virtceph VM getFreezeStatus vmID=$LAB_VM --human
    make lab-down
"""


def main() -> int:
    """Show everything; 0 if each promise held. Blocks, about 60 s."""
    if os.geteuid() != 0:
        return _refuse("the demo needs root: sudo make demo")
    if missing := packages.missing():
        return _refuse(f"the demo needs these packages: {' '.join(missing)} (make packages)")
    quiet_errors()
    for number in ENDING_SIGNALS:
        signal.signal(number, _interrupt)
    screen = Screen()
    try:
        screen.plain(
            "virtceph: a snapshot of a running VM's Ceph disks that is consistent, and proof"
        )
        show(screen)
    except KeyboardInterrupt:
        screen.failure("interrupted; everything that was started is ended")
        return INTERRUPTED
    except CheckFailed as failure:
        screen.failure(f"the demo failed, this did not hold: {failure}")
        return FAILED
    except (LabError, ClientError, libvirt.libvirtError, rbd.Error, rados.Error) as problem:
        screen.failure(f"the demo failed: {type(problem).__name__}: {problem}")
        return FAILED
    screen.plain("\nEverything held.")
    screen.plain(NEXT.rstrip())
    return DONE


def show(screen: Screen) -> None:
    """The whole flow, and nothing left of it. Blocks.

    Raises:
        CheckFailed: something did not hold.
    """
    with _state_folder() as folder:
        with site(screen, folder) as on:
            endpoint = Endpoint.of(on.ceph)
            key = register_key(screen, on)
            guest = start_guest(screen, on)
            check_key_is_nowhere(screen, on, key)
            window = freeze_and_snapshot(screen, on, guest, SNAPSHOT)
            prove_frozen(screen, on, window, SNAPSHOT)
            prove_unfrozen(screen, on, guest)
            killed_and_yet_thawed(screen, on, guest, key)
            eight_disks(screen, on)
            stop_daemon(screen, on, guest)
            check_key_is_nowhere(screen, on, key)
        screen.heading("All is ended")
        with screen.step("the VM, libvirtd and Ceph, each by its process id"):
            ended = state.remove(folder)
        check_nothing_left(screen, folder, ended, endpoint)


@contextlib.contextmanager
def _state_folder() -> Iterator[Path]:
    """A new folder; whatever runs in it at the end is ended, also after Ctrl-C. Blocks at the end."""
    folder = state.create_for_test()
    try:
        yield folder
    finally:
        # Half a clean-up would leave processes behind: from here on nothing interrupts us.
        for number in ENDING_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if folder.exists():
            state.remove(folder)
        end_strays(folder)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _refuse(reason: str) -> int:
    print(reason, file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    raise SystemExit(main())
