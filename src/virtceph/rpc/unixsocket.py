"""The daemon's UNIX socket: made so that of two daemons one has it, and nobody is let in too early."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import socket
import stat
from pathlib import Path

_BACKLOG = 128
_MODE = 0o660


class SocketInUse(Exception):
    """Another daemon listens there."""


def open_socket(path: Path, group: str) -> socket.socket:
    """A listening UNIX socket, mode 0660, its group `group` if we may give it.

    A socket file that nobody listens on is replaced. Raises SocketInUse, OSError.
    """
    # Of two daemons that start at once, the second must not take the first one's fresh socket for a
    # stale one: one at a time looks, removes, binds and listens.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _remove_stale(path)
        return _listen(path, group)
    finally:
        os.close(folder)


def _listen(path: Path, group: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Until it listens, nobody can be let in by a mode that is still too wide.
        listener.bind(str(path))
        os.chmod(path, _MODE)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is no socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens, with a full backlog
    raise SocketInUse(str(path))
