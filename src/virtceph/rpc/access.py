"""Who may call over the UNIX socket: root, and the members of one group, by peer credentials."""

from __future__ import annotations

import grp
import pwd
import socket
import struct
from dataclasses import dataclass

_SO_PEERGROUPS = 59  # asm-generic/socket.h; Python has no name for it
_MAX_GROUPS = 65536


@dataclass(frozen=True)
class Peer:
    """The process at the other end of a UNIX socket, as the kernel knows it."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """The peer of a connection. Source: SO_PEERCRED, SO_PEERGROUPS (unix(7), socket(7))."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, gid = struct.unpack("3i", raw)
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUPS)
        groups = struct.unpack(f"{len(packed) // 4}I", packed)
        return cls(pid, uid, gid, frozenset(groups))

    def name(self) -> str:
        """Who it is, for leases and logs: `unix:root`, `unix:1000` for a uid without a name."""
        try:
            return f"unix:{pwd.getpwuid(self.uid).pw_name}"
        except KeyError:
            return f"unix:{self.uid}"


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
