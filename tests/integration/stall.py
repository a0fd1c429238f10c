"""A guest whose QEMU is stopped, as a host out of memory or a hung storage path would stop it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from tests.lab.guest import Guest


def qemu_pid(guest: Guest) -> int:
    """The process of a running guest. Raises LookupError."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"qemu-system-x86_64") and guest.uuid.encode() in words:
                return int(folder.name)
    raise LookupError(guest.name)


@contextlib.contextmanager
def stalled(guest: Guest) -> Iterator[None]:
    """The guest's QEMU is stopped inside the block."""
    pid = qemu_pid(guest)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
