"""What the host knows of its VMs, without asking a guest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from uuid import UUID

from virtceph.host.storage import StorageDomains
from virtceph.schema import wire
from virtceph.virt.domains import Domains
from virtceph.virt.xml import Disk


@wire("VMSummary")
@dataclass(frozen=True)
class VMSummary:
    vm_id: UUID
    name: str
    status: str
    status_time: str


@wire("DiskVolume")
@dataclass(frozen=True)
class DiskVolume:
    pool: str
    namespace: str
    volume_name: str
    storage_domain_id: UUID | None


@wire("DiskInfo")
@dataclass(frozen=True)
class DiskInfo:
    disk: str
    type: str
    volume: DiskVolume | None
    path: str | None
    snapshot_ready: bool
    reason: str


@wire("VMInfo")
@dataclass(frozen=True)
class VMInfo:
    vm_id: UUID
    name: str
    state: str
    agent: str
    disks: list[DiskInfo]


class VMs:
    """The VMs of this host. Every method blocks on libvirt."""

    def __init__(self, domains: Domains, storage: StorageDomains) -> None:
        self._domains, self._storage = domains, storage

    def summaries(self, only: list[UUID]) -> list[VMSummary]:
        """Every VM, or those of `only` that are here."""
        now_ms = str(int(time.time() * 1000))
        return [
            VMSummary(domain.vm_id, domain.name, domain.status, now_ms)
            for domain in self._domains.states()
            if not only or domain.vm_id in only
        ]

    def info(self, vm_id: UUID) -> VMInfo:
        """A VM, its agent's channel and its disks. Raises NoSuchVM."""
        status, domain = self._domains.describe(vm_id)
        disks = [self._disk(disk) for disk in domain.disks]
        return VMInfo(vm_id, domain.name, status, domain.agent, disks)

    def _disk(self, disk: Disk) -> DiskInfo:
        if disk.rbd is not None:
            domain = self._storage.of(disk.rbd)
            volume = DiskVolume(
                disk.rbd.pool,
                disk.rbd.namespace,
                disk.rbd.image,
                domain.settings.storage_domain_id if domain is not None else None,
            )
            if domain is None:
                reason = f"no connected storage domain holds the pool {disk.rbd.pool}"
                return DiskInfo(disk.target, "rbd", volume, None, False, reason)
            return DiskInfo(disk.target, "rbd", volume, None, True, "RBD snapshot")
        if disk.type == "file":
            return DiskInfo(disk.target, "file", None, disk.path, True, "qcow2 overlay")
        reason = "only RBD images and files can be snapshotted"
        return DiskInfo(disk.target, disk.type, None, disk.path, False, reason)
