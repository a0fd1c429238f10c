"""What every process of the daemon that holds a key does first."""

from __future__ import annotations

import ctypes
import faulthandler
import fcntl
import os
import resource
from pathlib import Path

_PR_SET_DUMPABLE = 4  # prctl(2)
_M_MMAP_THRESHOLD, _LARGE_BYTES = -3, 128 * 1024  # mallopt(3)
# In the runtime directory, held by the daemon for as long as it runs.
DAEMON_LOCK = "daemon.lock"
# How a guard ends that finds another one at work.
THERE_IS_ONE = 3


class StartError(Exception):
    """The daemon cannot start; one line says why."""


def forbid_core_dumps() -> None:
    """No core file, and nobody but root may read this process's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def trace_crashes() -> None:
    """Where a C library ends this process, it says on stderr where each thread was: file names and lines, no
    values. There is no core file to look at."""
    faulthandler.enable()


def forget_ceph_environment() -> None:
    """CEPH_ARGS, CEPH_CONF and their like never reach librados or a child."""
    for name in [n for n in os.environ if n.startswith("CEPH_")]:
        del os.environ[name]


def give_memory_back() -> None:
    """What is large goes back to the kernel when it is freed. glibc would raise its threshold at the first
    buffer of a TLS connection, and buffers of 256 KiB then leave a heap of holes behind."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def hold_lock(path: Path) -> int | None:
    """Hold a lock file for the life of this process; None when another holds it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
