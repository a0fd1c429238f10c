"""The memory that was saved with a set: checked before any disk is touched, loaded when all are back."""

from __future__ import annotations

import logging
import threading
from uuid import UUID

from virtceph import errors
from virtceph.host.leases import Leases
from virtceph.host.paths import Exchange
from virtceph.host.setnotes import FoundSet
from virtceph.log import facts
from virtceph.virt.domains import Domains
from virtceph.virt.xml import Domain

log = logging.getLogger(__name__)

# How long the caller is kept waiting for a guest that was frozen to say that it is thawed.
_THAW_S = 20.0
_WHY = "its memory was saved while it was frozen"


class SavedMemory:
    """Memory files of sets. What a set's note says of one is not trusted: who may write to a pool could
    have written it."""

    def __init__(self, domains: Domains, leases: Leases, exchange: Exchange) -> None:
        self._domains, self._leases, self._exchange = domains, leases, exchange

    def check(self, vm_id: UUID, found: FoundSet) -> str:
        """The file of a set's memory, if it is this VM's and goes with the set's disks. Blocks.

        Raises:
            PathNotAllowed: it is not under an exchange directory, or others can write to it.
            MemoryUnusable: it is gone, or no memory of this VM, or the VM had other disks too.
            LibvirtUnavailable
        """
        noted = found.note.memory_path or ""
        path = self._exchange.existing_file(noted)
        if path is None:
            raise errors.MemoryUnusable(noted, "the file is gone")
        try:
            whose, domain = self._domains.saved_domain(path)
        except errors.LibvirtFailed as error:
            raise errors.MemoryUnusable(path, error.reason) from error
        if whose != vm_id:
            raise errors.MemoryUnusable(path, f"it is the memory of the VM {whose}")
        _require_all_disks(path, domain, found)
        return path

    def restore(self, vm_id: UUID, path: str, *, frozen: bool) -> str:
        """Let a VM that is off go on from its memory. A guest that was `frozen` then, or says so now, is
        thawed for as long as it takes; what it says after some seconds of that is returned (`thawed`,
        `frozen`, `unknown`). Blocks: nothing bounds the loading.

        Raises:
            LibvirtUnavailable, LibvirtFailed: a guest that runs all the same is thawed.
        """
        try:
            self._domains.restore(path)
        finally:
            if frozen:
                self._leases.thaw_stranger(vm_id, _WHY)
        log.info("restored memory %s", facts(vm=vm_id, path=path))
        if not frozen and self._says(vm_id) == "frozen":
            # By somebody else, or by a freeze that was not answered in time.
            self._leases.thaw_stranger(vm_id, _WHY)
        self._wait_for_thaw(vm_id)
        return self._says(vm_id)

    def _wait_for_thaw(self, vm_id: UUID) -> None:
        window = self._leases.window_of(vm_id)
        ended = threading.Event()
        if window is not None and self._leases.at_end(window, lambda _thaw: ended.set()):
            ended.wait(_THAW_S)

    def _says(self, vm_id: UUID) -> str:
        try:
            return self._leases.status(vm_id).guest
        except errors.VirtcephError:
            return "unknown"


def _require_all_disks(path: str, domain: Domain, found: FoundSet) -> None:
    # What a guest keeps in memory of a disk that was not brought back would be written over it.
    for disk in domain.disks:
        if not any(member.lies_under(disk) for member in found.members):
            reason = f"it goes with {disk.target} too, which is not of the set"
            raise errors.MemoryUnusable(path, reason)
