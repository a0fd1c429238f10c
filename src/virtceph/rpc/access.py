"""Who may call over the UNIX socket: root, and the members of one group, by peer credentials."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass

_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
# Python reads options of at most 1,024 bytes: 256 groups.
_MAX_GROUPS_BYTES = 1024


@dataclass(frozen=True)
class Peer:
    """The process at the other end of a UNIX socket, as the kernel knows it."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, fd: int) -> Peer:
        """The peer of a connected socket. Source: SO_PEERCRED, SO_PEERGROUPS (unix(7), socket(7))."""
        # uvloop's transports hand out a socket that cannot be asked for options; a copy can.
        with socket.socket(fileno=os.dup(fd)) as connection:
            raw = connection.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            groups = _groups(connection)
        pid, uid, gid = struct.unpack("3i", raw)
        return cls(pid, uid, gid, groups)

    def name(self) -> str:
        """Who it is, for leases and logs: `unix:root`, `unix:1000` for a uid without a name."""
        try:
            return f"unix:{pwd.getpwuid(self.uid).pw_name}"
        except KeyError:
            return f"unix:{self.uid}"


def _groups(connection: socket.socket) -> frozenset[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS_BYTES)
    except OSError as error:
        if error.errno != errno.ERANGE:
            raise
        return frozenset()  # a member of hundreds of groups: its primary one still counts
    return frozenset(struct.unpack(f"{len(packed) // 4}I", packed))


class UnixAccess:
    """The rule for one socket."""

    def __init__(self, group: str) -> None:
        self._group = group

    def allows(self, peer: Peer) -> bool:
        """Whether the peer is root, or in the group."""
        if peer.uid == 0:
            return True
        try:
            gid = grp.getgrnam(self._group).gr_gid
        except KeyError:
            return False
        return gid == peer.gid or gid in peer.groups
