"""RBD disks as libvirt's XML has them: written anew, and read from what a caller sends.

What is read is only ever used to write a disk of our own: no element of a caller's reaches libvirt. So each
element and attribute is understood or refused, and what could name a file of the host, another user's
secret or another kind of storage has no place in it.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from virtceph.errors import InvalidParameter
from virtceph.virt.untrustedxml import parse
from virtceph.virt.xml import RbdSource, rbd_source

# How QEMU is to treat a disk, unless the caller says otherwise: as engines have it, and space that the guest
# frees is given back to the pool.
_DRIVER = {"cache": "none", "error_policy": "stop", "io": "threads", "discard": "unmap"}
_DRIVER_VALUES: dict[str, tuple[str, ...] | None] = {
    "cache": ("none", "writeback", "writethrough", "directsync", "default"),
    "error_policy": ("stop", "report", "ignore", "enospace"),
    "io": ("threads", "native", "io_uring"),
    "discard": ("unmap", "ignore"),
    "name": ("qemu",),
    "type": ("raw",),
    "iothread": None,
    "queues": None,
}
BUSES = ("virtio", "scsi", "sata")
_TARGET = "a target as vda: letters and digits, at most 32 characters"
_MAX_SERIAL = 36
# What the contract takes for a volume's name. QEMU and `rbd` read `@` and `:` as something else.
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,94}")
_NUMBER = re.compile(r"0x[0-9a-fA-F]{1,15}|[0-9]{1,18}")
_ADDRESS = ("type", "domain", "bus", "slot", "function", "controller", "target", "unit")
_IOTUNE_END = ("_sec", "_sec_max", "_sec_max_length")


@dataclass(frozen=True)
class DiskOptions:
    """What a caller's XML may say of a disk beside what it is."""

    driver: Mapping[str, str] = field(default_factory=dict)
    serial: str | None = None
    alias: str | None = None
    boot_order: int | None = None
    address: Mapping[str, str] = field(default_factory=dict)
    iotune: Mapping[str, int] = field(default_factory=dict)
    readonly: bool = False


@dataclass(frozen=True)
class RbdDiskDevice:
    """An RBD disk of a VM: what it is, as whom it is opened, and where the guest finds it."""

    source: RbdSource
    user: str
    secret_uuid: UUID
    target: str
    bus: str
    options: DiskOptions = field(default_factory=DiskOptions)


def disk_xml(device: RbdDiskDevice) -> str:
    """The `<disk>` for libvirt. `source.monitors` are `host:port`, or `[address]:port` for IPv6."""
    source, options = device.source, device.options
    root = ET.Element("disk", type="network", device="disk", snapshot="no")
    driver = {"name": "qemu", "type": "raw", **_DRIVER, **options.driver}
    ET.SubElement(root, "driver", driver)
    auth = ET.SubElement(root, "auth", username=device.user)
    ET.SubElement(auth, "secret", type="ceph", uuid=str(device.secret_uuid))
    parts = (source.pool, source.namespace, source.image)
    name = "/".join(part for part in parts if part)
    origin = ET.SubElement(root, "source", protocol="rbd", name=name)
    for monitor in source.monitors:
        host, _, port = monitor.rpartition(":")
        ET.SubElement(origin, "host", name=host.strip("[]"), port=port)
    ET.SubElement(root, "target", dev=device.target, bus=device.bus)
    _add_options(root, options)
    return ET.tostring(root, encoding="unicode")


def _add_options(root: ET.Element, options: DiskOptions) -> None:
    if options.iotune:
        iotune = ET.SubElement(root, "iotune")
        for name, value in options.iotune.items():
            ET.SubElement(iotune, name).text = str(value)
    if options.readonly:
        ET.SubElement(root, "readonly")
    if options.serial is not None:
        ET.SubElement(root, "serial").text = options.serial
    if options.boot_order is not None:
        ET.SubElement(root, "boot", order=str(options.boot_order))
    if options.alias is not None:
        ET.SubElement(root, "alias", name=options.alias)
    if options.address:
        ET.SubElement(root, "address", dict(options.address))


# --- what callers send ---


def disk_element(untrusted_xml: str) -> ET.Element:
    """The one disk in a caller's XML: alone, or in `<hotplug><devices>` (`<hotunplug>` as well). Does not
    block. Raises InvalidParameter."""
    root = parse(untrusted_xml)
    if root.tag == "disk":
        return root
    devices = [child for child in root if child.tag != "metadata"]
    if root.tag not in ("hotplug", "hotunplug") or [d.tag for d in devices] != ["devices"]:
        raise _refused("`<disk>`, or `<hotplug><devices><disk>`")
    found = list(devices[0])
    if [child.tag for child in found] != ["disk"]:
        raise _refused("one `<disk>` and no other device")
    return found[0]


def read_disk(untrusted: ET.Element) -> RbdDiskDevice:
    """What a caller's `<disk>` is. Does not block.

    Raises:
        InvalidParameter: it is no disk in RBD with a user and a secret, or says what is not understood.
    """
    _attributes(untrusted, {"type": ("network",), "device": ("disk",), "snapshot": None})
    if untrusted.get("type") != "network":
        raise _refused('`<disk type="network">`')
    parts = {child.tag: child for child in untrusted}
    if len(parts) != len(untrusted):
        raise _refused("each element of a disk once")
    if unknown := sorted(set(parts) - _KNOWN):
        raise _refused(f"a disk without `<{unknown[0][:64]}>`")
    source, target = parts.get("source"), parts.get("target")
    if source is None or target is None:
        raise _refused("a disk with `<source>` and `<target>`")
    bus = _one(target, "bus", BUSES, "virtio")
    _attributes(target, {"dev": None, "bus": BUSES})
    user, secret_uuid = _auth(source, parts.get("auth"))
    return RbdDiskDevice(
        _source(source), user, secret_uuid, target_of(target), bus, _options(parts)
    )


_KNOWN = {
    *("source", "target", "auth", "driver", "serial", "alias"),
    *("boot", "address", "iotune", "readonly"),
}


def target_of(untrusted: ET.Element) -> str:
    """The name in a caller's `<target>`. Raises InvalidParameter."""
    name = untrusted.get("dev", "")
    if not (name.isascii() and name.isalnum() and name[0].islower() and len(name) <= 32):
        raise _refused(_TARGET)
    return name


def _source(untrusted: ET.Element) -> RbdSource:
    _attributes(untrusted, {"protocol": ("rbd",), "name": None, "index": None})
    if untrusted.get("protocol") != "rbd":
        raise _refused('`<source protocol="rbd">`')
    if odd := [child.tag for child in untrusted if child.tag not in ("host", "auth")]:
        raise _refused(f"a source without `<{odd[0][:64]}>`")
    for host in untrusted.iterfind("host"):
        _attributes(host, {"name": None, "port": None, "transport": ("tcp",)})
    found = rbd_source(untrusted)
    depth = untrusted.get("name", "").count("/")
    if not found.pool or not _IMAGE.fullmatch(found.image) or depth not in (1, 2):
        raise _refused("a source called `pool/image` or `pool/namespace/image`")
    return found


def _auth(source: ET.Element, outside: ET.Element | None) -> tuple[str, UUID]:
    inside = source.find("auth")
    auth = outside if inside is None else inside
    if auth is None or (outside is not None and inside is not None):
        raise _refused("one `<auth>`")
    _attributes(auth, {"username": None})
    secrets = list(auth)
    if len(secrets) != 1 or secrets[0].tag != "secret":
        raise _refused("one `<secret>` in `<auth>`")
    _attributes(secrets[0], {"type": ("ceph",), "uuid": None})
    try:
        return auth.get("username", ""), UUID(secrets[0].get("uuid", ""))
    except ValueError:
        raise _refused("a `<secret>` with its `uuid`") from None


def _options(parts: Mapping[str, ET.Element]) -> DiskOptions:
    driver, iotune = parts.get("driver"), parts.get("iotune")
    serial, alias = parts.get("serial"), parts.get("alias")
    boot, address = parts.get("boot"), parts.get("address")
    if driver is not None:
        _attributes(driver, _DRIVER_VALUES)
        for name in ("iothread", "queues"):
            if name in driver.attrib:
                _number(driver.get(name), name)
    for part, names in ((alias, ("name",)), (boot, ("order",)), (address, _ADDRESS)):
        if part is not None:
            _attributes(part, dict.fromkeys(names))
    return DiskOptions(
        driver={} if driver is None else dict(driver.attrib),
        serial=None if serial is None else _serial(serial),
        alias=None if alias is None else _alias(alias),
        boot_order=None if boot is None else _number(boot.get("order"), "boot order"),
        address={} if address is None else _address(address),
        iotune={} if iotune is None else _iotune(iotune),
        readonly="readonly" in parts,
    )


def _serial(untrusted: ET.Element) -> str:
    text = untrusted.text or ""
    allowed = text.replace("-", "").replace("_", "").replace(".", "").replace(" ", "")
    if not (allowed.isascii() and allowed.isalnum() and len(text) <= _MAX_SERIAL):
        raise _refused(
            f"a serial of at most {_MAX_SERIAL} letters, digits, `.`, `_`, `-` and blanks"
        )
    return text


def _alias(untrusted: ET.Element) -> str | None:
    """An alias of the caller's own. libvirt names the others itself, and takes no such name from outside."""
    name = untrusted.get("name", "")
    if not name.startswith("ua-"):
        return None
    if not (
        name.isascii() and name.replace("-", "").replace("_", "").isalnum() and len(name) <= 64
    ):
        raise _refused("an alias as `ua-…` of at most 64 letters, digits, `_` and `-`")
    return name


def _address(untrusted: ET.Element) -> dict[str, str]:
    if untrusted.get("type") not in ("pci", "drive"):
        raise _refused("an address of the type `pci` or `drive`")
    for name, value in untrusted.attrib.items():
        if name != "type":
            _number(value, f"address: {name}")
    return dict(untrusted.attrib)


def _iotune(untrusted: ET.Element) -> dict[str, int]:
    found = {}
    for child in untrusted:
        name = str(child.tag)
        plain = name.isascii() and name.replace("_", "").isalpha()
        if not (plain and name.endswith(_IOTUNE_END)) and name != "size_iops_sec":
            raise _refused(f"iotune without `<{name[:64]}>`")
        found[name] = _number(child.text, name)
    return found


def _number(text: str | None, what: str) -> int:
    if text is None or not _NUMBER.fullmatch(text):
        raise _refused(f"{what}: a number")
    return int(text, 16 if text.startswith("0x") else 10)


def _one(element: ET.Element, name: str, values: tuple[str, ...], default: str) -> str:
    value = element.get(name, default)
    if value not in values:
        raise _refused(f"{name}: one of {', '.join(values)}")
    return value


def _attributes(element: ET.Element, known: Mapping[str, tuple[str, ...] | None]) -> None:
    """Return if an element has only these attributes, with these values where they are listed."""
    for name in element.attrib:
        if name not in known:
            raise _refused(f"`<{element.tag}>` without `{name[:64]}`")
        values = known[name]
        if values is not None:
            _one(element, name, values, "")


def _refused(expected: str) -> InvalidParameter:
    return InvalidParameter("xml", expected)
