"""One connected storage domain: its connection, its workers, and what is told of its volumes."""

from __future__ import annotations

import contextlib
from typing import Any

from virtceph import errors
from virtceph.ceph.cluster import Cluster
from virtceph.ceph.images import Images
from virtceph.ceph.monitors import PoolLimits, pool_limits
from virtceph.ceph.spec import PoolSpec, with_protocol
from virtceph.ceph.workers import Call, WorkerPool
from virtceph.events import VolumeChanged
from virtceph.host.events import Tell, untold
from virtceph.host.names import Name, SnapshotNames, Then, nothing
from virtceph.host.storageinfo import Settings
from virtceph.virt.xml import RbdSource


class StorageDomain:
    """One connected storage domain: a control connection and ready workers."""

    def __init__(
        self, settings: Settings, cluster: Cluster, workers: WorkerPool, tell: Tell = untold
    ) -> None:
        self.settings, self.cluster, self.workers = settings, cluster, workers
        self._tell = tell
        self.pool = PoolSpec(settings.pool, settings.namespace)
        self.images = Images(cluster, self.pool)
        self.images.dead = workers.dead

    def changed(self, action: str, volume: str, **more: Any) -> None:
        """Tell that something was done to a volume; `more` are parameters of VolumeChanged. Does not
        block."""
        self._tell(VolumeChanged(self.settings.storage_domain_id, volume, action, **more))

    def monitors_now(self) -> tuple[str, ...]:
        """The cluster's monitors at this moment, each by the address that QEMU can use. Blocks.

        By the protocol that the domain was connected with, since a firewall may let through no other.

        Raises:
            CephUnavailable, CephFailed
        """
        v2 = any(with_protocol(m).startswith("v2:") for m in self.settings.monitors)
        addresses = (monitor.for_qemu(v2=v2) for monitor in self.cluster.monitors())
        return tuple(address for address in addresses if address is not None)

    def owns(self, source: RbdSource) -> bool:
        """Whether a disk's image lies in this domain: same pool, and a monitor in common. A disk may name
        one that the domain was not connected with."""
        ours = {bare(monitor) for monitor in self.settings.monitors} | self.cluster.addresses
        return self.may_own(source) and (
            not source.monitors or bool(ours.intersection(source.monitors))
        )

    def may_own(self, source: RbdSource) -> bool:
        """The same but for the monitors: one cluster may be named by different ones."""
        return (source.pool, source.namespace) == (self.pool.pool, self.pool.namespace)

    def snapshot_name(self, image: str, snapshot: str) -> Name:
        """What tells this snapshot from all others, whichever domain names its pool."""
        return f"{self.cluster.fsid}/{self.pool}", image, snapshot

    def images_in(self, pool: str) -> Images:
        """The images of a pool of the same cluster, in the same namespace."""
        return Images(self.cluster, PoolSpec(pool, self.pool.namespace))

    def limits(self) -> dict[str, PoolLimits]:
        """The quotas of the cluster's pools, and which are full. Blocks. Raises CephUnavailable,
        CephFailed."""
        with self.cluster.using():
            return pool_limits(self.cluster)

    def require_monitors(self) -> None:
        """Return if the monitors answer: without them no snapshot gets its number. Blocks. Raises
        CephUnavailable, CephFailed."""
        with contextlib.suppress(errors.NoSuchPool):  # they answered; a new pool has no figures yet
            self.cluster.pool_stats(self.pool)

    def give_up(
        self,
        names: SnapshotNames,
        image: str,
        snapshot: str,
        timeout_s: float,
        then: Then = nothing,
    ) -> None:
        """Have a snapshot that was asked for and not answered undone, should it appear. Does not wait."""
        call = Call("remove_snapshot", self.pool, {"name": image, "snapshot": snapshot})
        names.give_up(
            self.snapshot_name(image, snapshot),
            lambda: self.images.has_snapshot(image, snapshot),
            lambda: self.workers.run([call], timeout_s)[0],
            then,
        )

    def close(self) -> None:
        """Let go of workers and connection. Blocks while librados winds up."""
        self.workers.close()
        self.cluster.close()


def bare(monitor: str) -> str:
    """A monitor's address without its protocol, as domain XML has it."""
    return monitor.removeprefix("v1:").removeprefix("v2:")
