"""Who uses an image: clients, as Ceph knows them, and VMs of this host, as libvirt does.

Ceph names a client by a number and an address, and tells nothing of the process behind them. So which of them
is a VM is only said where there is one VM that it can be, and one client that can be that.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass
from uuid import UUID

from virtceph.ceph.imageinfo import Lock, Watch
from virtceph.errors import LibvirtFailed, LibvirtUnavailable, NoSuchVM
from virtceph.host.storage import StorageDomain
from virtceph.schema import wire
from virtceph.virt.domains import Domains
from virtceph.virt.xml import RbdSource

# A hung libvirt is not to hold up what is asked of Ceph.
_ASK_S = 2.0
_THREADS = 4


@wire("VolumeVM")
@dataclass(frozen=True)
class VolumeVM:
    """A VM of this host that has the image behind a disk."""

    vm_id: UUID
    name: str
    status: str
    disk: str


@wire("Watcher")
@dataclass(frozen=True)
class Watcher:
    address: str
    client: int
    ours: bool
    vm_id: UUID | None


@wire("VolumeLock")
@dataclass(frozen=True)
class VolumeLock:
    address: str
    client: int
    ours: bool
    watches: bool
    vm_id: UUID | None


class ImageUsers:
    """Joins what Ceph and libvirt know."""

    def __init__(self, domains: Domains) -> None:
        self._domains = domains
        self._threads = ThreadPoolExecutor(_THREADS, "image-users")

    def vms_of(
        self, domain: StorageDomain, image: str, *, of_any_cluster: bool = False
    ) -> list[VolumeVM]:
        """The VMs of this host, active or only defined, that have the image behind a disk. Blocks up to 2 s.

        Which cluster a VM means is told by its monitors; `of_any_cluster` takes all that may mean this one.

        Raises:
            LibvirtUnavailable: also when libvirt does not answer in that time, or refuses.
        """
        asked: Future[list[VolumeVM]] = self._threads.submit(
            self._vms_of, image, domain.may_own if of_any_cluster else domain.owns
        )
        try:
            return asked.result(_ASK_S)
        except NotInTime as error:
            asked.cancel()
            raise LibvirtUnavailable(f"no answer within {_ASK_S:g} s") from error
        except LibvirtFailed as error:
            raise LibvirtUnavailable(error.message) from error

    def _vms_of(self, image: str, owned: Callable[[RbdSource], bool]) -> list[VolumeVM]:
        found = []
        for state in self._domains.states():
            try:
                status, described = self._domains.describe(state.vm_id)
            except NoSuchVM:  # ended since
                continue
            found += [
                VolumeVM(state.vm_id, described.name, status, target)
                for target, source in described.images
                if source.image == image and owned(source)
            ]
        return found

    def close(self) -> None:
        """Ask no more. Does not wait."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def active(vms: list[VolumeVM]) -> list[VolumeVM]:
    """Those that are not off."""
    return [vm for vm in vms if vm.status != "Down"]


def watchers(
    domain: StorageDomain, found: list[Watch], vms: list[VolumeVM] | None
) -> list[Watcher]:
    """Who has the image open, with the VM it can only be; `vms` is None when libvirt could not be asked."""
    ours, vm_at = _ours(domain), _vm_at(domain, found, vms)
    return [Watcher(w.address, w.client, w.client in ours, vm_at(w.client)) for w in found]


def lock(
    domain: StorageDomain, held: Lock | None, found: list[Watch], vms: list[VolumeVM] | None
) -> VolumeLock | None:
    """Who holds the image's lock. One that does not watch the image is dead, or has stalled for long."""
    if held is None:
        return None
    watches = held.client in {w.client for w in found}
    vm_id = _vm_at(domain, found, vms)(held.client)
    return VolumeLock(held.address, held.client, held.client in _ours(domain), watches, vm_id)


def _ours(domain: StorageDomain) -> set[int]:
    return {domain.cluster.client_id, *domain.workers.clients()}


def _vm_at(
    domain: StorageDomain, found: list[Watch], vms: list[VolumeVM] | None
) -> Callable[[int], UUID | None]:
    """A function from a client's number to its VM, where there is no other that it could be."""
    host, ours = _host(domain.cluster.address), _ours(domain)
    here = [w.client for w in found if _host(w.address) == host and w.client not in ours]
    able = {vm.vm_id for vm in active(vms or [])}
    if len(here) != 1 or len(able) != 1:
        return lambda _client: None
    ((client,), (vm_id,)) = here, able
    return lambda asked: vm_id if asked == client else None


def _host(address: str) -> str:
    """`10.0.1.9` of `v1:10.0.1.9:0/3072426656`, `[fd00::1]` of `[fd00::1]:0/12`."""
    return address.removeprefix("v1:").removeprefix("v2:").rpartition(":")[0]
