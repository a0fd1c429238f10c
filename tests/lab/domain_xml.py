"""The domain of a lab guest, built with ElementTree."""

import uuid as uuid_module
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from tests.lab.guest_build import GuestFiles

# nokaslr … notests: 4 s of 9 s of boot under TCG go into what these switch off.
COMMAND_LINE = (
    "console=ttyS0 quiet nokaslr mitigations=off tsc=reliable no_timer_check cryptomgr.notests"
)
AGENT_CHANNEL = "org.qemu.guest_agent.0"
CONTROL_CHANNEL = "org.virtceph.control.0"
ACK_CHANNEL = "org.virtceph.ack.0"
# One port for each disk a test may plug in, besides what libvirt puts there by itself.
SPARE_ROOT_PORTS = 8


@dataclass(frozen=True)
class RbdDisk:
    """A disk in Ceph. `monitors` as "host:port"; `secret_uuid` names libvirt's secret."""

    pool: str
    image: str
    monitors: list[str]
    user: str
    secret_uuid: UUID


@dataclass(frozen=True)
class FileDisk:
    """A disk in a file of the host."""

    path: Path
    format: str = "raw"


Disk = RbdDisk | FileDisk


@dataclass(frozen=True)
class GuestSpec:
    """What a guest shall be. Its disks are vda, vdb, vdc, in this order."""

    name: str
    disks: Sequence[Disk]
    uuid: UUID = field(default_factory=uuid_module.uuid4)
    memory_mib: int = 192
    agent_channel: bool = True
    agent_program: bool = True
    writer: bool = True
    hold: bool = False


@dataclass(frozen=True)
class GuestPaths:
    """The host's ends of a guest's channels."""

    console: Path
    acks: Path
    control: Path

    @classmethod
    def under(cls, folder: Path, spec: GuestSpec) -> "GuestPaths":
        """The paths for a guest in `folder`. Does not block."""
        # By UUID's first part: a name may be too long for a UNIX socket's path.
        stem = f"{spec.uuid.hex[:12]}"
        return cls(folder / f"{stem}.console", folder / f"{stem}.acks", folder / f"{stem}.control")


def domain_xml(spec: GuestSpec, files: GuestFiles, paths: GuestPaths) -> str:
    """The domain's XML for libvirt. Does not block."""
    domain = Element("domain", type="qemu")
    SubElement(domain, "name").text = spec.name
    SubElement(domain, "uuid").text = str(spec.uuid)
    SubElement(domain, "memory", unit="MiB").text = str(spec.memory_mib)
    SubElement(domain, "vcpu").text = "1"
    boot = SubElement(domain, "os")
    SubElement(boot, "type", arch="x86_64", machine="q35").text = "hvm"
    SubElement(boot, "kernel").text = str(files.kernel)
    SubElement(boot, "initrd").text = str(files.initramfs)
    SubElement(boot, "cmdline").text = _command_line(spec)
    SubElement(SubElement(domain, "features"), "acpi")
    SubElement(domain, "cpu", mode="maximum")
    devices = SubElement(domain, "devices")
    SubElement(devices, "controller", type="pci", model="pcie-root")
    for _ in range(SPARE_ROOT_PORTS):
        SubElement(devices, "controller", type="pci", model="pcie-root-port")
    SubElement(devices, "controller", type="usb", model="none")
    for index, disk in enumerate(spec.disks):
        devices.append(disk_element(disk, f"vd{'abcdefgh'[index]}"))
    _add_channels(devices, spec, paths)
    SubElement(devices, "memballoon", model="none")
    return ElementTree.tostring(domain, encoding="unicode")


def disk_element(disk: Disk, target: str) -> Element:
    """The <disk> element, also fit for hot plugging. Does not block."""
    kind = "network" if isinstance(disk, RbdDisk) else "file"
    element = Element("disk", type=kind, device="disk")
    driver = SubElement(element, "driver", name="qemu", type="raw", cache="none", discard="unmap")
    if isinstance(disk, FileDisk):
        driver.set("type", disk.format)
    for part in disk_source(disk):
        element.append(part)
    SubElement(element, "target", dev=target, bus="virtio")
    return element


def disk_source(disk: Disk) -> list[Element]:
    """The elements of a <disk> that say where its data are. Does not block."""
    if isinstance(disk, FileDisk):
        return [Element("source", file=str(disk.path))]
    source = Element("source", protocol="rbd", name=f"{disk.pool}/{disk.image}")
    for monitor in disk.monitors:
        host, _, port = monitor.rpartition(":")
        SubElement(source, "host", name=host, port=port)
    auth = Element("auth", username=disk.user)
    SubElement(auth, "secret", type="ceph", uuid=str(disk.secret_uuid))
    return [source, auth]


def _command_line(spec: GuestSpec) -> str:
    words = [COMMAND_LINE]
    words += ["hold=1"] if spec.hold else []
    words += [] if spec.writer else ["writer=0"]
    words += [] if spec.agent_program and spec.agent_channel else ["agent=0"]
    return " ".join(words)


def _add_channels(devices: Element, spec: GuestSpec, paths: GuestPaths) -> None:
    if spec.agent_channel:
        channel = SubElement(devices, "channel", type="unix")
        SubElement(channel, "target", type="virtio", name=AGENT_CHANNEL)
    channel = SubElement(devices, "channel", type="unix")
    SubElement(channel, "source", mode="bind", path=str(paths.control))
    SubElement(channel, "target", type="virtio", name=CONTROL_CHANNEL)
    channel = SubElement(devices, "channel", type="file")
    SubElement(channel, "source", path=str(paths.acks))
    SubElement(channel, "target", type="virtio", name=ACK_CHANNEL)
    console = SubElement(devices, "serial", type="file")
    SubElement(console, "source", path=str(paths.console))
