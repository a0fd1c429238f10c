"""Which Ceph this process runs with."""

from __future__ import annotations

import ctypes
from functools import cache

import rbd


@cache
def librbd_version() -> str:
    """The Ceph release of the librbd in this process, as in `16.2.15`. Blocks, once.

    `rbd.RBD().version()` tells the C API's own count (1.16.0), which is not what engines look for; it is
    the answer only where the library does not tell its release.
    """
    try:
        # ceph_version_to_str(), a C++ function without arguments; rados has loaded the library.
        release = ctypes.CDLL("libceph-common.so.2")._Z19ceph_version_to_strv
    except (OSError, AttributeError):
        return ".".join(str(part) for part in rbd.RBD().version())
    release.restype = ctypes.c_char_p
    return (release() or b"").decode().split("-")[0]
