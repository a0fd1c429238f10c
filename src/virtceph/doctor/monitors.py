"""Whether a monitor is there at all: each greets whoever connects, before anybody has to say who he is."""

from __future__ import annotations

import socket
import time

from virtceph.doctor.seen import MonitorSeen

# v1: `ceph v027`; v2: `ceph v2` and a line feed. Source: Ceph's doc/dev/msgr2.rst.
_BANNER = b"ceph v"
_PORT = "6789"


def greet(address: str, timeout_s: float) -> MonitorSeen:
    """Connect to `host:port` and wait for its greeting. Blocks up to `timeout_s`, and for the resolver."""
    host, port = _parts(address)
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        return MonitorSeen(address, None, f"its name cannot be resolved: {error}")
    resolved = tuple(dict.fromkeys(_written(str(where[0]), port) for *_, where in found))
    began_s = time.monotonic()
    failure = "no address"
    for family, kind, protocol, _, where in found:
        left_s = began_s + timeout_s - time.monotonic()
        if left_s <= 0:
            break
        try:
            with socket.socket(family, kind, protocol) as peer:
                peer.settimeout(left_s)
                peer.connect(where)
                greeting = _receive(peer, len(_BANNER))
        except TimeoutError:
            failure = f"no answer within {timeout_s:g} s"
        except OSError as error:
            failure = error.strerror or str(error)
        else:
            if greeting == _BANNER:
                return MonitorSeen(address, time.monotonic() - began_s, None, resolved)
            failure = "what listens there is no monitor"
    return MonitorSeen(address, None, failure, resolved)


def _receive(peer: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count and (more := peer.recv(count - len(received))):
        received += more
    return received


def _parts(address: str) -> tuple[str, str]:
    """Host and port; an IPv6 address comes in brackets."""
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = address, _PORT
    return host.strip("[]"), port


def _written(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
