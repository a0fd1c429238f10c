"""This host, as libvirt sees it."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from virtceph.virt.connection import Connection
from virtceph.virt.faults import libvirt_faults


@dataclass(frozen=True)
class NodeInfo:
    hostname: str
    uuid: str
    libvirt_version: str
    qemu_version: str


class Node:
    """The host of one libvirt."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def describe(self) -> NodeInfo:
        """Host name, UUID and versions. Blocks. Raises LibvirtUnavailable, LibvirtFailed."""
        with libvirt_faults("describe the host"):
            connection = self._connection.get()
            capabilities = ElementTree.fromstring(connection.getCapabilities())
            return NodeInfo(
                connection.getHostname(),
                capabilities.findtext("host/uuid", ""),
                dotted(connection.getLibVersion()),
                dotted(connection.getVersion()),
            )


def dotted(version: int) -> str:
    """libvirt's way to write a version: major * 1,000,000 + minor * 1,000 + release."""
    return f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}"
