"""Domain, snapshot and secret XML."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from uuid import UUID

import pytest

from virtceph.virt.xml import (
    Disk,
    RbdSource,
    read_domain,
    secret_description,
    secret_xml,
    snapshot_xml,
)

DOMAIN = """
<domain type='kvm'>
  <name>web &amp; co</name>
  <devices>
    <disk type='network' device='disk'>
      <driver name='qemu' type='raw'/>
      <source protocol='rbd' name='vms/web-root'>
        <host name='10.0.1.1' port='6789'/><host name='10.0.1.2'/>
      </source>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='network' device='disk'>
      <source protocol='rbd' name='vms/space/web-data'/><target dev='vdb'/>
    </disk>
    <disk type='file'>
      <driver type='qcow2'/><source file='/images/c'/><target dev='vdc'/>
    </disk>
    <disk type='block' device='disk'><source dev='/dev/sdx'/><target dev='vdd'/></disk>
    <disk type='network' device='disk'>
      <source protocol='nbd' name='x'/><target dev='vde'/>
    </disk>
    <disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdf'/></disk>
    <disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>
    <disk type='file' device='disk'><source file='/ro'/><target dev='vdg'/><readonly/></disk>
    {channel}
  </devices>
</domain>
"""


def test_every_writable_disk_is_read_with_its_source() -> None:
    domain = read_domain(DOMAIN.format(channel=""))
    monitors = ("10.0.1.1:6789", "10.0.1.2:6789")
    assert domain.name == "web & co"
    assert domain.disks == (
        Disk("vda", "rbd", rbd=RbdSource("vms", "", "web-root", monitors)),
        Disk("vdb", "rbd", rbd=RbdSource("vms", "space", "web-data", ())),
        Disk("vdc", "file", path="/images/c", format="qcow2"),
        Disk("vdd", "block", path="/dev/sdx"),
        Disk("vde", "other"),
        Disk("vdf", "other"),
    )


def test_every_image_that_a_disk_reads_or_writes_is_seen() -> None:
    """Also below an overlay, where a commit writes, and where a disk is being copied to."""
    base = "<source protocol='rbd' name='vms/base'/>"
    target = "<source protocol='rbd' name='fast/tenant/copy'/>"
    overlay = (
        "<disk type='file' device='disk'><source file='/images/top'/>"
        f"<backingStore type='network'><format type='raw'/>{base}</backingStore>"
        f"<mirror type='network' job='copy'>{target}</mirror>"
        "<target dev='vdx'/></disk>"
        "<disk type='network' device='cdrom'><source protocol='rbd' name='vms/iso'/>"
        "<target dev='sdb'/><readonly/></disk>"
    )
    images = read_domain(DOMAIN.format(channel=overlay)).images
    assert [(t, s.pool, s.namespace, s.image) for t, s in images] == [
        ("vda", "vms", "", "web-root"),
        ("vdb", "vms", "space", "web-data"),
        ("vdx", "vms", "", "base"),
        ("vdx", "fast", "tenant", "copy"),
        ("sdb", "vms", "", "iso"),
    ]


@pytest.mark.parametrize(
    ("channel", "agent"),
    [
        ("", "absent"),
        ("<channel><target type='virtio' name='com.redhat.spice.0'/></channel>", "absent"),
        ("<channel><target name='org.qemu.guest_agent.0' state='connected'/></channel>", "conn"),
        ("<channel><target name='org.qemu.guest_agent.0' state='disconnected'/></channel>", "dis"),
        ("<channel><target name='org.qemu.guest_agent.0'/></channel>", "disconnected"),
    ],
)
def test_the_agents_channel_is_read(channel: str, agent: str) -> None:
    assert read_domain(DOMAIN.format(channel=channel)).agent.startswith(agent)


@pytest.mark.parametrize(
    ("kind", "child"), [("ceph", "name"), ("volume", "volume"), ("iscsi", "target")]
)
def test_a_secret_is_ephemeral_private_and_escaped(kind: str, child: str) -> None:
    nasty = "x</name><private>no</private>&\"'"
    text = secret_xml(UUID(int=1), kind, nasty, nasty)
    root = ET.fromstring(text)
    assert root.attrib == {"ephemeral": "yes", "private": "yes"}
    assert [element.tag for element in root] == ["description", "uuid", "usage"]
    assert root.findtext(f"usage/{child}") == nasty
    assert root.findtext("uuid") == str(UUID(int=1))
    assert secret_description(text) == nasty


def test_a_secret_without_a_description_has_none() -> None:
    assert secret_description(secret_xml(UUID(int=1), "ceph", "ovirt/x", "")) == ""


def test_a_snapshot_leaves_every_other_disk_alone() -> None:
    root = ET.fromstring(snapshot_xml(["vda", "vdb"], {"vdb": "/x/<b>"}, None))
    one, two = root.iterfind("disks/disk")
    assert one.attrib == {"name": "vda", "snapshot": "no"}
    assert two.attrib == {"name": "vdb", "snapshot": "external", "type": "file"}
    assert [(e.tag, e.attrib) for e in two] == [
        ("driver", {"type": "qcow2"}),
        ("source", {"file": "/x/<b>"}),
    ]
    assert root.find("memory") is None


def test_a_snapshot_with_memory_names_its_file() -> None:
    root = ET.fromstring(snapshot_xml(["vda"], {}, "/x/memory"))
    memory = root.find("memory")
    assert memory is not None
    assert memory.attrib == {"snapshot": "external", "file": "/x/memory"}
