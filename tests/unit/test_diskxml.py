"""Disks as libvirt's XML has them: what is written is read back, and what is not understood is refused."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virtceph.ceph.monmap import Monitor, read_monitors
from virtceph.errors import InvalidParameter
from virtceph.virt.diskxml import (
    DiskOptions,
    RbdDiskDevice,
    disk_element,
    disk_xml,
    read_disk,
)
from virtceph.virt.untrustedxml import MAX_CHARACTERS, parse
from virtceph.virt.xml import RbdSource, read_domain

SECRET = UUID(int=5)
MONITORS = ("10.0.1.1:3300", "[fd00::1]:6789")
DEVICE = RbdDiskDevice(RbdSource("vms", "", "web", MONITORS), "cinder", SECRET, "vdc", "virtio")


def read(text: str) -> RbdDiskDevice:
    return read_disk(disk_element(text))


def test_a_disk_is_written_as_libvirt_has_it() -> None:
    root = ET.fromstring(disk_xml(DEVICE))
    assert root.attrib == {"type": "network", "device": "disk", "snapshot": "no"}
    hosts = [(h.get("name"), h.get("port")) for h in root.iterfind("source/host")]
    assert hosts == [("10.0.1.1", "3300"), ("fd00::1", "6789")]


SOURCES = st.builds(
    RbdSource,
    st.sampled_from(["vms", "a.b"]),
    st.sampled_from(["", "tenant"]),
    st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,94}", fullmatch=True),
    st.just(MONITORS),
)
OPTIONS = st.builds(
    DiskOptions,
    driver=st.sampled_from([{}, {"cache": "writeback", "discard": "ignore"}, {"iothread": "1"}]),
    serial=st.none() | st.sampled_from(["1094d1f7a7f1", "a-b_c.d e"]),
    alias=st.none() | st.sampled_from(["ua-1", f"ua-{SECRET}"]),
    boot_order=st.none() | st.integers(1, 9),
    address=st.sampled_from([{}, {"type": "drive", "controller": "0", "unit": "1"}]),
    iotune=st.sampled_from([{}, {"total_iops_sec": 100, "read_bytes_sec_max": 1 << 30}]),
    readonly=st.booleans(),
)


@given(
    SOURCES, OPTIONS, st.sampled_from(["virtio", "scsi", "sata"]), st.sampled_from(["vda", "sdzz"])
)
def test_what_is_written_is_read_the_same(
    source: RbdSource, options: DiskOptions, bus: str, target: str
) -> None:
    device = RbdDiskDevice(source, "cinder", SECRET, target, bus, options)
    text = disk_xml(device)
    found = read(text)
    assert disk_xml(found) == text
    assert (found.source, found.user, found.secret_uuid) == (source, "cinder", SECRET)
    (disk,) = read_domain(f"<domain><devices>{text}</devices></domain>").disks or (None,)
    if not options.readonly:
        assert disk is not None
        assert (disk.target, disk.rbd) == (target, source)


XML = disk_xml(DEVICE)


@pytest.mark.parametrize(
    "text",
    [
        f"<hotplug><devices>{XML}</devices></hotplug>",
        f"<hotplug><metadata><a:b/></metadata><devices>{XML}</devices></hotplug>",
        f"<hotunplug><devices>{XML}</devices><metadata/></hotunplug>",
        f'<?xml version="1.0" encoding="utf-16"?>\n<!-- engine -->{XML}',
        XML.replace("</source>", "</source><!-- x -->"),
    ],
)
def test_engines_wrap_a_disk(text: str) -> None:
    assert read(text) == read(XML)


def test_auth_may_stand_inside_of_the_source() -> None:
    root = ET.fromstring(XML)
    auth, source = root.find("auth"), root.find("source")
    assert auth is not None
    assert source is not None
    root.remove(auth)
    source.append(auth)
    assert read(ET.tostring(root, "unicode")) == read(XML)
    root.append(auth)
    with pytest.raises(InvalidParameter, match="one `<auth>`"):
        read(ET.tostring(root, "unicode"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (XML, ""),
        (XML, "<disk"),
        (XML, "<disk/>"),
        (XML, "<interface/>"),
        (XML, f"<hotplug>{XML}</hotplug>"),
        (XML, "<hotplug><devices/></hotplug>"),
        (XML, f"<hotplug><devices>{XML}{XML}</devices></hotplug>"),
        (XML, f"<hotplug><devices>{XML}<interface/></devices></hotplug>"),
        (XML, f"<hotplug><devices>{XML}</devices><devices/></hotplug>"),
        (XML, f"<!DOCTYPE disk>{XML}"),
        (XML, f"<!DOCTYPE d SYSTEM 'file:///etc/passwd'>{XML}"),
        (XML, f"<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>{XML}"),
        (XML, XML + "x"),
        ('type="network"', 'type="block"'),
        ('type="network" ', ""),
        ('device="disk"', 'device="cdrom"'),
        ("<disk ", '<disk model="x" '),
        ("<disk ", '<disk rawio="yes" '),
        ('protocol="rbd"', 'protocol="iscsi"'),
        ('name="vms/web"', 'name="web"'),
        ('name="vms/web"', 'name="vms/web@snap"'),
        ('name="vms/web"', 'name="vms/web:conf=/etc/x"'),
        ('name="vms/web"', 'name="vms/a/b/web"'),
        ('name="vms/web"', 'name="vms/"'),
        ('name="vms/web"', 'name="vms/web" tls="yes"'),
        ("<host", "<config file='/etc/ceph/ceph.conf'/><host"),
        ("<host", "<slices/><host"),
        ("<host ", "<host transport='unix' "),
        ("<host ", "<host socket='/run/x' "),
        ("<auth", "<auth/><auth"),
        ("<secret", "<secret type='ceph' usage='x'/><secret"),
        (f'uuid="{SECRET}"', 'uuid="nonsense"'),
        ('dev="vdc"', 'dev="../vdc"'),
        ('dev="vdc"', 'dev="vdc,readonly=off"'),
        ('dev="vdc"', 'dev="Vdc"'),
        ('dev="vdc"', 'dev=""'),
        ('dev="vdc"', f'dev="{"v" * 33}"'),
        ('bus="virtio"', 'bus="usb"'),
        ('bus="virtio"', 'bus="virtio" removable="on"'),
        ('cache="none"', 'cache="unsafe"'),
        ('io="threads"', 'iothread="first"'),
        ('io="threads"', 'copy_on_read="on"'),
        ('type="raw"', 'type="qcow2"'),
        ("<auth", "<encryption format='luks'/><auth"),
        ("<auth", "<mirror/><auth"),
        ("<auth", "<backingStore/><auth"),
        ("<auth", "<shareable/><auth"),
        ("<auth", "<transient/><auth"),
        ("<auth", "<serial>a,b=c</serial><auth"),
        ("<auth", f"<serial>{'x' * 37}</serial><auth"),
        ("<auth", "<alias name='ua-a,b'/><auth"),
        ("<auth", "<alias name='ua-a' x='y'/><auth"),
        ("<auth", "<boot order='first'/><auth"),
        ("<auth", "<boot order='1' loadparm='x'/><auth"),
        ("<auth", "<address type='ccw'/><auth"),
        ("<auth", "<address type='pci' bus='1,x'/><auth"),
        ("<auth", "<iotune><group_name>x</group_name></iotune><auth"),
        ("<auth", "<iotune><total_iops_sec>-1</total_iops_sec></iotune><auth"),
        ("<auth", "<iotune><total_iops_sec>1e9</total_iops_sec></iotune><auth"),
    ],
)
def test_what_is_not_understood_is_refused(old: str, new: str) -> None:
    assert old in XML
    with pytest.raises(InvalidParameter) as caught:
        read(XML.replace(old, new, 1))
    assert caught.value.field == "xml"


def test_an_alias_of_libvirts_own_is_passed_over() -> None:
    device = read(XML.replace("<auth", "<alias name='virtio-disk2'/><auth", 1))
    assert device.options.alias is None


@pytest.mark.parametrize(
    "text",
    [
        "<a>" * 17 + "</a>" * 17,
        f"<a>{'<b/>' * 1000}</a>",
        f"<a>{'x' * MAX_CHARACTERS}</a>",
        "<a>\ud800</a>",
        "<a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY a 'aaaa'><!ENTITY b '&a;&a;&a;&a;'>]><a>&b;</a>",
    ],
)
def test_xml_that_is_large_deep_or_defines_something_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        parse(text)


@given(st.text(max_size=200), st.integers(0, len(XML)), st.integers(0, 40))
def test_damaged_xml_is_refused_or_a_disk_and_never_breaks_the_reader(
    put: str, at: int, lost: int
) -> None:
    spoilt = XML[:at] + put + XML[at + lost :]
    try:
        device = read(spoilt)
    except InvalidParameter:
        return
    assert disk_xml(read(disk_xml(device))) == disk_xml(device)


# --- monitors ---


def mon(name: str, *addresses: tuple[str, str]) -> dict[str, Any]:
    vector = [{"type": kind, "addr": address, "nonce": 0} for kind, address in addresses]
    return {"name": name, "public_addrs": {"addrvec": vector}, "addr": "10.0.1.9:6789/0"}


@pytest.mark.parametrize(
    ("addresses", "chosen"),
    [
        ([("v2", "10.0.1.1:3300"), ("v1", "10.0.1.1:6789")], ("10.0.1.1:3300", "10.0.1.1:6789")),
        ([("v1", "10.0.1.1:6789")], ("10.0.1.1:6789", "10.0.1.1:6789")),
        ([("v2", "10.0.1.1:3333"), ("v1", "10.0.1.1:6789")], ("10.0.1.1:6789", "10.0.1.1:6789")),
        ([("v2", "10.0.1.1:3333"), ("v1", "10.0.1.1:6666")], ("10.0.1.1:3333", "10.0.1.1:3333")),
        ([("v1", "10.0.1.1:6666")], ("10.0.1.1:6666", "10.0.1.1:6666")),
        ([("v2", "[fd00::1]:3300")], ("[fd00::1]:3300", "[fd00::1]:3300")),
        ([], ("10.0.1.9:6789", "10.0.1.9:6789")),
        ([("any", "10.0.1.1:3300")], (None, None)),
    ],
)
def test_qemu_gets_the_address_whose_port_tells_its_protocol(
    addresses: list[tuple[str, str]], chosen: tuple[str | None, str | None]
) -> None:
    (monitor,) = read_monitors({"mons": [mon("a", *addresses)]})
    assert (monitor.for_qemu(v2=True), monitor.for_qemu(v2=False)) == chosen


def test_every_address_of_a_monitor_is_known() -> None:
    assert Monitor("a", "x:1", "x:2").addresses() == ("x:2", "x:1")
    assert Monitor("a", None, "x:2").addresses() == ("x:2",)
    assert read_monitors({}) == ()
