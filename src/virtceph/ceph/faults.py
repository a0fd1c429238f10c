"""The errors of librados and librbd become ours here, once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rados
import rbd

from virtceph.errors import (
    CephFailed,
    CephPermissionDenied,
    CephUnavailable,
    PoolFull,
    VirtcephError,
)

# ESTALE: an image on its way into the trash or out of it, which somebody else moves, too.
# ESHUTDOWN: this client is on the blocklist. EROFS: librbd's answer to a snapshot or resize that its
# lock owner, or a stopped OSD, never answered; EBADMSG: the same when we hold the lock ourselves.
_NOT_ANSWERED = {
    errno.ETIMEDOUT: "no answer in time",
    errno.ESHUTDOWN: "the client was put on the blocklist",
    errno.EROFS: "the OSDs or the image's owner did not answer",
    errno.EBADMSG: "the OSDs did not answer",
    errno.ENOTCONN: "not connected",
    errno.ESTALE: "somebody else is moving it",
}
_DENIED = (errno.EPERM, errno.EACCES)
# Our contexts ask to be told instead of waiting (see `Cluster.ioctx`).
_FULL = (errno.EDQUOT, errno.ENOSPC)


def errno_of(error: rados.Error | rbd.Error) -> int:
    """The positive errno; some of librbd's plain errors carry it negative or not at all."""
    return abs(int(getattr(error, "errno", None) or errno.EIO))


@contextmanager
def ceph_faults(
    operation: str,
    user: str,
    *,
    not_found: VirtcephError | None = None,
    exists: VirtcephError | None = None,
    busy: VirtcephError | None = None,
    linked: VirtcephError | None = None,
    read_only: Callable[[], VirtcephError | None] = lambda: None,
    needs: str = "osd 'profile rbd'",
) -> Iterator[None]:
    """Turn any rados or rbd error of the block into ours: `not_found` for ENOENT, `exists` for EEXIST,
    `busy` for EBUSY, `linked` for EMLINK (in a group), what `read_only` finds out (it may block) for EROFS,
    else CephPermissionDenied, PoolFull, CephUnavailable or CephFailed."""
    try:
        yield
    except (rados.Error, rbd.Error) as error:
        code = errno_of(error)
        told = {
            errno.ENOENT: not_found,
            errno.EEXIST: exists,
            errno.EBUSY: busy,
            errno.EMLINK: linked,
        }.get(code)
        if code == errno.EROFS:
            told = read_only()
        if told is not None:
            raise told from error
        if code in _DENIED:
            raise CephPermissionDenied(user, operation, needs) from error
        if code in _FULL:
            raise PoolFull([], operation) from error
        if code in _NOT_ANSWERED:
            raise CephUnavailable(f"{operation}: {_NOT_ANSWERED[code]}") from error
        raise CephFailed(operation, code, os.strerror(code)) from error
