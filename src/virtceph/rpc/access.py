"""Who may call, and what: by the peer credentials of a UNIX socket, or the subject of a certificate."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import re
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from virtceph import config
from virtceph.config import ConfigError
from virtceph.rpc.callers import Caller

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


@dataclass(frozen=True)
class Rule:
    """One entry of the configuration: an identity, and its level."""

    kind: str
    value: str
    level: str

    @classmethod
    def read(cls, text: str, level: str, option: str) -> Rule:
        """Raises ConfigError."""
        kind, _, value = text.partition(":")
        if text == "plain:*":
            return cls(kind, value, level)
        if kind not in ("user", "group", "cert") or not value:
            raise ConfigError(f"{option}: {text}: expected user:…, group:…, cert:… or plain:*")
        named = value == "*" or all("=" in part for part in value.split(","))
        if kind == "cert" and not named:
            raise ConfigError(f"{option}: {text}: expected cert:CN=…, or cert:*")
        return cls(kind, value, level)

    def is_peer(self, peer: Peer) -> bool:
        """Whether it names the process at the other end of a UNIX socket."""
        if self.kind == "user":
            return peer.uid == _number(self.value, lambda name: pwd.getpwnam(name).pw_uid)
        if self.kind == "group":
            gid = _number(self.value, lambda name: grp.getgrnam(name).gr_gid)
            return gid is not None and (gid == peer.gid or gid in peer.groups)
        return False

    def is_subject(self, subject: Subject) -> bool:
        """Whether it names the holder of a certificate."""
        if self.kind != "cert":
            return False
        wanted = [] if self.value == "*" else self.value.split(",")
        return all(tuple(part.strip().split("=", 1)) in subject for part in wanted)


# The attributes of a certificate's subject: ("CN", "engine.example.com").
Subject = tuple[tuple[str, str], ...]


def _number(name: str, look_up: Callable[[str], int]) -> int | None:
    """A uid or gid by its name or digits; None where there is none."""
    if name.isdigit():
        return int(name)
    try:
        return look_up(name)
    except KeyError:
        return None


class Access:
    """Who may do what, by the configuration. Raises ConfigError."""

    def __init__(self, settings: config.Access) -> None:
        lists = {
            "admin": ("admins", settings.admins),
            "operator": ("operators", settings.operators),
            "monitor": ("monitors", settings.monitors),
        }
        # The highest level first: of several rules that fit, it counts.
        self._rules = [
            Rule.read(text, level, f"access.{option}")
            for level, (option, texts) in lists.items()
            for text in texts
        ]

    def of_peer(self, peer: Peer) -> Caller | None:
        """The caller on a UNIX socket; None for whoever gets nothing. Blocks on the host's user names."""
        for rule in self._rules:
            if rule.is_peer(peer):
                return Caller(peer.name(), rule.level, f"pid {peer.pid}")
        return None

    def of_subject(self, subject: Subject, address: str) -> Caller | None:
        """The caller with a certificate that was verified; None for whoever gets nothing."""
        for rule in self._rules:
            if rule.is_subject(subject):
                return Caller(subject_name(subject), rule.level, address)
        return None

    def of_plain(self, address: str) -> Caller | None:
        """The caller on a connection without TLS; None where nobody may."""
        for rule in self._rules:
            if rule.kind == "plain":
                return Caller("plain", rule.level, address)
        return None


def subject_name(subject: Subject) -> str:
    """What the holder of a certificate is called: `cert:CN=engine.example.com,O=…`."""
    return "cert:" + ",".join(f"{key}={_escaped(value)}" for key, value in subject)


def _escaped(value: str) -> str:
    """A value within a subject, so that nobody is called like another one: RFC 4514, as far as that takes."""
    return re.sub(r'([,+"\\<>;])', r"\\\1", value)
