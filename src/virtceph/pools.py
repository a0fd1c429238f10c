"""The daemon's lanes and pools of connections, as large as the configuration says."""

from __future__ import annotations

from virtceph import config
from virtceph.rpc.lanes import Lane
from virtceph.virt.connection import ConnectionPool

# libvirtd serves five requests of a client at a time: at most four may hang on one connection.
_CALLS_EACH = 4
_RESCUE_CONNECTIONS = 2
# With the agents' twelve, fewer than the twenty workers of libvirtd, so that others find one when all hang.
_DISK_CONNECTIONS, _DISK_CALLS_EACH = 2, 3


def agent_pools(settings: config.Config) -> tuple[ConnectionPool, ConnectionPool]:
    """The connections for guest agents, and those of their own for who rescues a frozen guest."""
    uri, calls = settings.libvirt.uri, settings.lanes.agent
    # Rounded up: a host whose limit is 6 has two connections.
    connections = -(-calls // _CALLS_EACH)
    each = min(calls, _CALLS_EACH)
    return (
        ConnectionPool(uri, connections=connections, calls_each=each, lane="agent"),
        ConnectionPool(uri, connections=_RESCUE_CONNECTIONS, calls_each=_CALLS_EACH, lane="rescue"),
    )


def disk_pool(settings: config.Config) -> ConnectionPool:
    """The connections for what QEMU may hang at."""
    uri, connections = settings.libvirt.uri, _DISK_CONNECTIONS
    return ConnectionPool(uri, connections=connections, calls_each=_DISK_CALLS_EACH, lane="disk")


def lanes_of(sizes: config.Lanes) -> dict[str, Lane]:
    """The lanes by their names in the contract."""
    queue = sizes.queue
    return {
        "libvirt": Lane("libvirt", sizes.libvirt, queue),
        "agent": Lane("agent", sizes.agent, queue, per_key=1),
        "disk": Lane("disk", sizes.disk, queue, per_key=1),
        "ceph": Lane("ceph", sizes.ceph, queue, per_key=sizes.ceph_per_cluster),
        "rescue": Lane("rescue", sizes.rescue, queue, per_key=2),
    }
