"""TCP sockets: opened to listen, and made ready when somebody has connected."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket

from virtceph.config import ConfigError

_BACKLOG = 128
# How a host that is gone is found out: asked after a minute of silence, given up half a minute later; or
# when what was sent to it is not taken for a minute.
_KEEPALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 60_000),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def open_tcp(address: str, port: int, option: str) -> socket.socket:
    """A listening socket. `::` listens on IPv4 too, and is 0.0.0.0 on a host without IPv6.

    Raises:
        ConfigError: `option` is no IP address.
        OSError: taken, or not of this host.
    """
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        raise ConfigError(f"{option}: {address}: expected an IP address") from None
    if version == 4:
        return _listen(socket.AF_INET, address, port)
    try:
        return _listen(socket.AF_INET6, address, port)
    except OSError as error:
        if address != "::" or error.errno not in _NO_IPV6:
            raise
        return _listen(socket.AF_INET, "0.0.0.0", port)


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(address != "::"))
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def is_loopback(listener: socket.socket) -> bool:
    """Whether only this host can connect to it."""
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


def make_ready(connection: socket.socket) -> str:
    """Set what each connection needs; who is at the other end: `10.0.0.1:33214`."""
    connection.setblocking(False)
    # Else a reply could wait for the acknowledgement of the one before.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in _KEEPALIVE:
        connection.setsockopt(*option)
    return address_of(connection)


def address_of(connection: socket.socket) -> str:
    """The other end's address and port; nothing where it is gone already."""
    with contextlib.suppress(OSError):
        host, port = connection.getpeername()[:2]
        # As a host with both protocols sees those of IPv4.
        host = host.removeprefix("::ffff:")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return ""
