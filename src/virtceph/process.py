"""What every process of the daemon that holds a key does first."""

from __future__ import annotations

import ctypes
import os
import resource

_PR_SET_DUMPABLE = 4  # prctl(2)


def forbid_core_dumps() -> None:
    """No core file, and nobody but root may read this process's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def forget_ceph_environment() -> None:
    """CEPH_ARGS, CEPH_CONF and their like never reach librados or a child."""
    for name in [n for n in os.environ if n.startswith("CEPH_")]:
        del os.environ[name]


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
