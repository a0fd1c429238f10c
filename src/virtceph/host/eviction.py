"""Cutting off a client that is dead, and holds the lock of an image nobody can otherwise change.

Nobody can tell a dead client from one that has stalled for long, but whoever can look at its host. So the
caller says that it is dead, after being told which client it is; and is refused at any sign of life.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.workers import NoReply
from virtceph.events import ClientEvicted
from virtceph.host.events import Tell, untold
from virtceph.host.oneimage import run
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.host.users import ImageUsers, VolumeVM, active
from virtceph.log import facts
from virtceph.schema import wire

log = logging.getLogger(__name__)


@wire("EvictedClient")
@dataclass(frozen=True)
class EvictedClient:
    client: int
    address: str
    blocklisted_until_s: float


class Evictions:
    """Breaks the locks of dead clients."""

    def __init__(
        self,
        storage: StorageDomains,
        users: ImageUsers,
        owner_timeout_s: float,
        tell: Tell = untold,
    ) -> None:
        self._storage, self._users = storage, users
        self._owner_timeout_s, self._tell = owner_timeout_s, tell

    def evict(
        self, storage_domain_id: UUID, name: str, client: int, confirm: bool
    ) -> EvictedClient:
        """Put the client that holds an image's lock on the blocklist, and break the lock. Blocks.

        Raises:
            NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied, CephUnavailable, CephFailed
            InvalidParameter: the client does not hold the lock.
            VolumeInUse: it answers, so it is alive.
            VMRunning: a VM of this host that is not off uses the image, dead as its client may look.
            LibvirtUnavailable: nobody can say whether there is such a VM.
            EvictionNotConfirmed: `confirm` is missing; tells whom it would be.
        """
        domain = self._storage.get(storage_domain_id)
        address = self._run(domain, "require_silent", name, client)
        vms = self._users.vms_of(domain, name, of_any_cluster=True)
        for vm in active(vms):
            raise errors.VMRunning(vm.vm_id, vm.status)
        if not confirm:
            raise errors.EvictionNotConfirmed(name, client, address, _who(vms))
        done = self._run(domain, "evict", name, client)
        log.warning("evicted %s", facts(image=f"{domain.pool}/{name}", client=client, at=address))
        self._tell(ClientEvicted(storage_domain_id, name, client, done["address"]))
        return EvictedClient(client, done["address"], done["until_s"])

    def _run(self, domain: StorageDomain, operation: str, name: str, client: int) -> Any:
        outcome = run(domain, operation, self._owner_timeout_s, name=name, client=client)
        if isinstance(outcome, NoReply):
            raise errors.CephUnavailable("no answer in time; look at the lock before asking again")
        return outcome


def _who(vms: list[VolumeVM]) -> str:
    names = ", ".join(f"{vm.name} ({vm.vm_id})" for vm in vms)
    here = f"VMs of this host with this disk, all off: {names}" if names else "no VM of this host"
    return f"which does not answer; {here}"
