"""Domain, snapshot and secret XML, read and built with ElementTree and never by formatting."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

_AGENT_CHANNEL = "org.qemu.guest_agent.0"
_USAGE_CHILD = {"ceph": "name", "volume": "volume", "iscsi": "target"}


@dataclass(frozen=True)
class RbdSource:
    """The image behind a network disk."""

    pool: str
    namespace: str
    image: str
    monitors: tuple[str, ...]


@dataclass(frozen=True)
class Disk:
    """One writable disk of a domain. `type` is `rbd`, `file`, `block` or `other`."""

    target: str
    type: str
    rbd: RbdSource | None = None
    path: str | None = None
    format: str = "raw"


@dataclass(frozen=True)
class Domain:
    """What the daemon reads of a domain's XML. `agent` is `connected`, `disconnected` or `absent`; `images`
    are the RBD images behind its disks, each with the disk's target: also of those that are only read, what
    lies below an overlay, and what a disk is being copied to."""

    name: str
    disks: tuple[Disk, ...]
    agent: str
    images: tuple[tuple[str, RbdSource], ...] = ()


def read_domain(xml: str) -> Domain:
    """Parse virDomainGetXMLDesc's text."""
    root = ET.fromstring(xml)
    disks = tuple(
        _disk(element)
        for element in root.iterfind("devices/disk")
        if element.get("device", "disk") == "disk" and element.find("readonly") is None
    )
    return Domain(root.findtext("name", ""), disks, _agent_state(root), tuple(_images(root)))


def _images(root: ET.Element) -> Iterator[tuple[str, RbdSource]]:
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        for source in disk.iter("source"):
            if source.get("protocol") == "rbd":
                yield "" if target is None else target.get("dev", ""), rbd_source(source)


def _agent_state(root: ET.Element) -> str:
    for channel in root.iterfind("devices/channel/target"):
        if channel.get("name") == _AGENT_CHANNEL:
            return "connected" if channel.get("state") == "connected" else "disconnected"
    return "absent"


def _disk(element: ET.Element) -> Disk:
    target_element, source = element.find("target"), element.find("source")
    target = target_element.get("dev", "") if target_element is not None else ""
    driver = element.find("driver")
    image_format = driver.get("type", "raw") if driver is not None else "raw"
    kind = element.get("type", "")
    if source is None:
        return Disk(target, "other", format=image_format)
    if kind == "network" and source.get("protocol") == "rbd":
        return Disk(target, "rbd", rbd=rbd_source(source), format=image_format)
    if kind == "file":
        return Disk(target, "file", path=source.get("file"), format=image_format)
    if kind == "block":
        return Disk(target, "block", path=source.get("dev"), format=image_format)
    return Disk(target, "other", format=image_format)


def rbd_source(source: ET.Element) -> RbdSource:
    """What a `<source>` of the protocol rbd names: `pool/image` or `pool/namespace/image`, as QEMU's librbd
    driver reads it."""
    parts = source.get("name", "").split("/")
    pool, namespace, image = parts[0], "/".join(parts[1:-1]), parts[-1]
    hosts = source.iterfind("host")
    monitors = tuple(f"{_host(h.get('name', ''))}:{h.get('port', '6789')}" for h in hosts)
    return RbdSource(pool, namespace, image, monitors)


def _host(name: str) -> str:
    # libvirt has an IPv6 address without brackets; monitors are named with them everywhere else.
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def secret_xml(uuid: UUID, usage_type: str, usage_id: str, description: str) -> str:
    """An ephemeral, private secret: kept in libvirt's memory, and nobody reads its value back."""
    root = ET.Element("secret", ephemeral="yes", private="yes")
    if description:
        ET.SubElement(root, "description").text = description
    ET.SubElement(root, "uuid").text = str(uuid)
    usage = ET.SubElement(root, "usage", type=usage_type)
    ET.SubElement(usage, _USAGE_CHILD[usage_type]).text = usage_id
    return ET.tostring(root, encoding="unicode")


def secret_description(xml: str) -> str:
    """The description in a secret's XML, empty when it has none."""
    return ET.fromstring(xml).findtext("description", "")


def snapshot_xml(
    all_targets: list[str], overlays: Mapping[str, str], memory_path: str | None
) -> str:
    """A domain snapshot that overlays the file disks in `overlays` (target → path) and leaves every
    other disk alone; without `snapshot='no'` libvirt would try them too."""
    root = ET.Element("domainsnapshot")
    if memory_path is not None:
        ET.SubElement(root, "memory", snapshot="external", file=memory_path)
    disks = ET.SubElement(root, "disks")
    for target in all_targets:
        if target not in overlays:
            ET.SubElement(disks, "disk", name=target, snapshot="no")
            continue
        disk = ET.SubElement(disks, "disk", name=target, snapshot="external", type="file")
        ET.SubElement(disk, "driver", type="qcow2")
        ET.SubElement(disk, "source", file=overlays[target])
    return ET.tostring(root, encoding="unicode")
