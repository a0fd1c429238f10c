"""Domains: look-up, list, state, pause, snapshot. No guest agent here (see `agent`)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import libvirt

from virtceph.errors import NoSuchVM, VMDown
from virtceph.virt.faults import libvirt_faults
from virtceph.virt.xml import Domain, read_domain, snapshot_xml

_STATUS = {
    libvirt.VIR_DOMAIN_RUNNING: "Up",
    libvirt.VIR_DOMAIN_BLOCKED: "Up",
    libvirt.VIR_DOMAIN_PAUSED: "Paused",
    libvirt.VIR_DOMAIN_PMSUSPENDED: "Paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "Powering down",
    libvirt.VIR_DOMAIN_SHUTOFF: "Down",
    libvirt.VIR_DOMAIN_CRASHED: "Down",
}


@dataclass(frozen=True)
class DomainState:
    """A domain and its state, `status` in the words of the contract's VMStatus."""

    vm_id: UUID
    name: str
    status: str


class Connections(Protocol):
    """Where a live connection is to be had."""

    def get(self) -> libvirt.virConnect: ...


class Domains:
    """The domains of this host's libvirt."""

    def __init__(self, connection: Connections) -> None:
        self._connection = connection

    def states(self) -> list[DomainState]:
        """Every domain, running or only defined. Blocks."""
        with libvirt_faults("list domains"):
            domains = self._connection.get().listAllDomains()
        return [state for state in map(self._state_or_gone, domains) if state is not None]

    def describe(self, vm_id: UUID) -> tuple[str, Domain]:
        """A domain's status and its live XML, parsed. Blocks. Raises NoSuchVM."""
        domain = self._lookup(vm_id)
        with libvirt_faults("read the domain", vm_id):
            return status_of(domain), read_domain(domain.XMLDesc())

    def status(self, vm_id: UUID) -> str:
        """A domain's status. Blocks. Raises NoSuchVM."""
        with libvirt_faults("read the domain's state", vm_id):
            return status_of(self._lookup(vm_id))

    def require_running(self, vm_id: UUID) -> str:
        """The status of a domain that is not off. Blocks. Raises NoSuchVM, VMDown."""
        status = self.status(vm_id)
        if status == "Down":
            raise VMDown(vm_id)
        return status

    def is_migrating(self, vm_id: UUID) -> bool:
        """Whether a migration to or from here is under way. Blocks."""
        domain = self._lookup(vm_id)
        with libvirt_faults("read the domain's job", vm_id):
            job = domain.jobInfo()
            if job[0] == libvirt.VIR_DOMAIN_JOB_NONE:
                return False
            operation = domain.jobStats().get("operation")
        return operation in (
            libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT,
            libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_IN,
        )

    def suspend(self, vm_id: UUID) -> None:
        """Pause the virtual CPUs. Blocks."""
        with libvirt_faults("pause the VM", vm_id):
            self._lookup(vm_id).suspend()

    def resume(self, vm_id: UUID) -> None:
        """Let the virtual CPUs run again. Blocks."""
        with libvirt_faults("resume the VM", vm_id):
            self._lookup(vm_id).resume()

    def abort_job(self, vm_id: UUID) -> None:
        """End the domain's running job (saving memory, say). Blocks."""
        with libvirt_faults("abort the domain's job", vm_id):
            self._lookup(vm_id).abortJob()

    def snapshot(
        self,
        vm_id: UUID,
        targets: list[str],
        overlays: Mapping[str, str],
        *,
        reuse: bool,
        memory_path: str | None,
    ) -> None:
        """Overlay file disks in one atomic step, and save the memory when `memory_path` is given.

        `reuse`: the overlays exist already. QUIESCE is never used: it fails on a frozen guest and
        cannot be undone when it times out. Blocks until done. Source: virDomainSnapshotCreateXML.
        """
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        if memory_path is None:
            flags |= (
                libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
                | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            )
        if reuse:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        xml = snapshot_xml(targets, overlays, memory_path)
        with libvirt_faults("snapshot the domain", vm_id):
            self._lookup(vm_id).snapshotCreateXML(xml, flags)

    def saved_domain(self, memory_path: str) -> tuple[UUID, Domain]:
        """Whose memory a file holds: the domain's UUID, and its XML of that moment, parsed. Blocks.
        Source: virDomainSaveImageGetXMLDesc.

        Raises:
            LibvirtFailed: it holds no memory that libvirt saved.
        """
        with libvirt_faults("read the saved memory"):
            xml = self._connection.get().saveImageGetXMLDesc(memory_path)
        return UUID(ET.fromstring(xml).findtext("uuid", "")), read_domain(xml)

    def restore(self, memory_path: str) -> None:
        """Let a domain that is off go on from its saved memory, running. Blocks until it is loaded: nothing
        bounds that. Source: virDomainRestoreFlags.

        Raises:
            LibvirtUnavailable: it may go on all the same.
            LibvirtFailed
        """
        # The VM was paused for saving, so libvirt noted it as paused.
        with libvirt_faults("restore the memory"):
            self._connection.get().restoreFlags(memory_path, None, libvirt.VIR_DOMAIN_SAVE_RUNNING)

    def _lookup(self, vm_id: UUID) -> libvirt.virDomain:
        with libvirt_faults("look the domain up", vm_id):
            return self._connection.get().lookupByUUIDString(str(vm_id))

    def _state_or_gone(self, domain: libvirt.virDomain) -> DomainState | None:
        vm_id = UUID(domain.UUIDString())
        try:
            with libvirt_faults("read the domain's state", vm_id):
                return DomainState(vm_id, domain.name(), status_of(domain))
        except NoSuchVM:  # a transient domain that ended since it was listed
            return None


def status_of(domain: libvirt.virDomain) -> str:
    """A domain's status in the words of the contract's VMStatus. Blocks."""
    state, reason = domain.state()
    if state == libvirt.VIR_DOMAIN_PAUSED and reason == libvirt.VIR_DOMAIN_PAUSED_SAVE:
        return "Saving State"
    return _STATUS.get(state, "Unknown")
