"""Domains that libvirt was to start by itself, and could not."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from uuid import UUID

import libvirt

from virtceph.virt.domains import Connections
from virtceph.virt.faults import libvirt_faults


@dataclass(frozen=True)
class FailedStart:
    """A domain that is marked for autostart and whose last start failed; `secrets` are those that its disks
    need, by UUID or by usage id."""

    vm_id: UUID
    name: str
    secrets: frozenset[str]


class Autostarts:
    """Looks for them, and starts them."""

    def __init__(self, connection: Connections) -> None:
        self._connection = connection

    def failed(self) -> list[FailedStart]:
        """Those whose last start failed since libvirt began to run. One that was shut down is none of them.
        Blocks. Raises LibvirtFailed, LibvirtUnavailable. Source: virDomainGetState."""
        flags = (
            libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE | libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
        )
        with libvirt_faults("list domains"):
            domains = self._connection.get().listAllDomains(flags)
            return [
                FailedStart(UUID(domain.UUIDString()), domain.name(), secrets_of(domain.XMLDesc()))
                for domain in domains
                if domain.state() == [libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_FAILED]
            ]

    def start(self, vm_id: UUID) -> None:
        """Start a domain. Blocks while QEMU starts. Raises LibvirtFailed, NoSuchVM."""
        with libvirt_faults("start the domain", vm_id):
            self._connection.get().lookupByUUIDString(str(vm_id)).create()


def secrets_of(xml: str) -> frozenset[str]:
    """The UUIDs and usage ids of the secrets that a domain's disks name."""
    disks = ET.fromstring(xml).iterfind("devices/disk")
    named = (secret for disk in disks for secret in disk.iter("secret"))
    return frozenset(s.get("uuid") or s.get("usage") or "" for s in named)
