"""What a service tells systemd and gets from it: sd_notify(3) and sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket

_FIRST_FD = 3  # SD_LISTEN_FDS_START


def notify(*states: str) -> None:
    """Send `READY=1`, `STOPPING=1`, `WATCHDOG=1`, `STATUS=…`. Does nothing outside systemd; never
    fails: a lost notice must not stop the service."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.send("\n".join(states).encode())
    except OSError:
        pass


def watchdog_interval_s() -> float | None:
    """How often to send `WATCHDOG=1` (half of what systemd allows), or None when it does not watch."""
    usec, pid = os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID")
    if not usec or not usec.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000 or None


def listen_sockets() -> list[socket.socket]:
    """The sockets systemd opened for this process, in the order of its unit."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    for fd in range(_FIRST_FD, _FIRST_FD + count):
        os.set_inheritable(fd, False)
    return [socket.socket(fileno=fd) for fd in range(_FIRST_FD, _FIRST_FD + count)]


def listen_names() -> list[str]:
    """The names of those sockets, in the same order: FileDescriptorName= of their units."""
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [*names, *("" for _ in range(count))][:count]
