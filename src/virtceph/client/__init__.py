"""The public client library: call the daemon of this host over its UNIX socket.

    with connect() as client:
        with client.frozen(vm_id, timeout_s=10) as window:
            ...                                  # snapshot the disks
        print(window.thaw["intact"])

Standard library only. Every call blocks; a client serves one thread at a time.
"""

from virtceph.client.client import FREEZE_LEASE_S, Client, connect
from virtceph.client.errors import (
    ClientError,
    ConnectionFailed,
    NoSuchJob,
    ServerError,
    TimedOut,
)
from virtceph.client.frozen import Frozen, Window
from virtceph.client.transport import socket_path

__all__ = [
    "FREEZE_LEASE_S", "Client", "ClientError", "ConnectionFailed", "Frozen", "NoSuchJob",
    "ServerError", "TimedOut", "Window", "connect", "socket_path",
]  # fmt: skip
