"""Disks of running VMs: plugged, unplugged, and told as they are, against libvirt, QEMU and the guest."""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import libvirt
import pytest
import rbd

from tests.integration.conftest import Rough, Site, domain_settings
from tests.integration.migrating import migrating
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.stall import stalled
from tests.integration.test_storage import NAMES_ONLY
from tests.lab.daemon import Daemon
from tests.lab.domain_xml import FileDisk, GuestSpec
from tests.lab.guest import Guest
from tests.lab.stack import CEPH_USER, POOL
from tests.lab.template import run_guest
from virtceph.client import ServerError
from virtceph.client.errors import ConnectionFailed
from virtceph.units import MiB

SIZE = 64 * MiB


@pytest.fixture
def volume(site: Site) -> str:
    """An empty volume to plug in. It stays until the end of the run: the watch of a QEMU that was killed
    would hold up its removal for 30 s."""
    name = f"plug-{uuid.uuid4().hex[:8]}"
    site.volume("create", name, size=SIZE)
    return name


@pytest.fixture
def guest(make_guest: Callable[..., Guest], make_image: Callable[..., Any]) -> Guest:
    """A running guest of the test's own, gone when it ends."""
    made = make_guest(disks=[make_image(keep=True)])
    made.wait_for_agent()
    return made


class Plugging:
    """The verbs on one guest."""

    def __init__(self, site: Site, guest: Guest, client: RecordingClient | None = None) -> None:
        self.site, self.guest, self._client = site, guest, client or site.client

    def plug(self, volume: str, **how: Any) -> Any:
        named = {"storageDomainID": self.site.storage_domain_id, "volumeName": volume}
        return self.ask("VM.hotplugDisk", **named, **how)

    def unplug(self, **how: Any) -> Any:
        return self.ask("VM.hotunplugDisk", **how)

    def ask(self, verb: str, **how: Any) -> Any:
        return self._client.call(verb, vmID=self.guest.uuid, **how)

    def disks(self) -> dict[str, str | None]:
        """The image of each disk, as the daemon tells it."""
        told = self.site.call("VM.getInfo", vmID=self.guest.uuid)["disks"]
        return {d["disk"]: d.get("volume", {}).get("volumeName") for d in told}


@pytest.fixture
def on(site: Site, guest: Guest) -> Plugging:
    return Plugging(site, guest)


def disk_xml(site: Site, volume: str, **how: Any) -> str:
    named = {"storageDomainID": site.storage_domain_id, "volumeName": volume}
    return str(site.call("VM.getDiskXML", **named, **how))


def wrapped(xml: str, root: str = "hotplug") -> str:
    """As engines send it."""
    metadata = (
        '<metadata xmlns:ovirt-vm="x"><ovirt-vm:vm><ovirt-vm:device/></ovirt-vm:vm></metadata>'
    )
    return f"<{root}><devices>{xml}</devices>{metadata}</{root}>"


def sees(guest: Guest, target: str) -> bool:
    return guest.command(f"sh test -e /sys/block/{target} && echo yes || echo no") == "yes"


def wait_until_seen(guest: Guest, target: str) -> None:
    deadline_s = time.monotonic() + 30
    while not sees(guest, target):
        assert time.monotonic() < deadline_s, f"the guest does not see {target}"
        time.sleep(0.1)


def lasting(guest: Guest) -> list[str]:
    flag = libvirt.VIR_DOMAIN_XML_INACTIVE
    found = ET.fromstring(guest.domain.XMLDesc(flag)).iterfind("devices/disk/target")
    return [target.get("dev", "") for target in found]


def outcome(call: Any, *args: Any, **how: Any) -> Any:
    """What a call answers, or its error's name."""
    try:
        return call(*args, **how)
    except ServerError as error:
        return error.name


# --- the XML of a disk ---


@pytest.mark.parametrize("port", ["6789", "3300"])
def test_the_xml_of_a_disk_is_what_libvirt_takes_and_names_the_monitors_of_this_moment(
    site: Site, volume: str, guest: Guest, port: str
) -> None:
    """The domain was connected with a monitor that is none; each protocol leads to its own port."""
    monitors = [f"{site.ceph.address}:{port}", "127.0.0.1:1"]
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), monitors=monitors)
    site.call("StorageDomain.connect", **settings)
    named = {"storageDomainID": settings["storageDomainID"], "volumeName": volume}
    text = site.call("VM.getDiskXML", vmID=guest.uuid, **named)
    disk = ET.fromstring(text)
    hosts = [(h.get("name"), h.get("port")) for h in disk.iterfind("source/host")]
    assert hosts == [(site.ceph.address, port)]
    assert disk.find("source").attrib == {"protocol": "rbd", "name": f"{POOL}/{volume}"}
    assert disk.find("target").attrib == {"dev": "vdb", "bus": "virtio"}
    assert disk.find("driver").attrib == {
        "name": "qemu", "type": "raw", "cache": "none", "error_policy": "stop",
        "io": "threads", "discard": "unmap",
    }  # fmt: skip
    assert disk.find("auth").get("username") == CEPH_USER
    assert disk.find("auth/secret").get("uuid") == str(site.secret_uuid)
    assert disk.findtext("serial") == site.volume("getInfo", volume)["id"]
    guest.domain.attachDevice(text)
    wait_until_seen(guest, "vdb")
    # A disk with an address of the monitor's that the domain was not connected with is the domain's.
    (plugged,) = [
        d for d in site.call("VM.getInfo", vmID=guest.uuid)["disks"] if d["disk"] == "vdb"
    ]
    assert plugged["volume"]["volumeName"] == volume
    assert "storageDomainID" in plugged["volume"]
    site.call("StorageDomain.disconnect", storageDomainID=settings["storageDomainID"])


def test_a_free_target_is_chosen_for_the_bus_and_a_taken_one_refused(
    site: Site, volume: str, guest: Guest
) -> None:
    def target(**how: Any) -> str:
        return str(ET.fromstring(disk_xml(site, volume, **how)).find("target").get("dev"))

    assert target() == "vda"
    assert target(bus="scsi") == target(bus="sata") == "sda"
    assert target(vmID=guest.uuid) == "vdb"
    assert target(vmID=guest.uuid, bus="scsi") == "sda"
    assert target(vmID=guest.uuid, target="vdx") == "vdx"
    error = error_of(disk_xml, site, volume, vmID=guest.uuid, target="vda")
    assert (error.name, error.data["field"]) == ("InvalidParameter", "target")
    own = guest.spec.disks[0].image  # type: ignore[union-attr]
    assert ET.fromstring(disk_xml(site, own, vmID=guest.uuid)).find("target").get("dev") == "vda"


def test_a_volume_in_a_namespace_needs_a_libvirt_that_knows_of_them(
    site: Site, on: Plugging, guest: Guest
) -> None:
    """An older one looks for an image with a slash in its name, in the default namespace: another image."""
    with site.ceph.pool(POOL) as ioctx:
        if "plugged" not in rbd.RBD().namespace_list(ioctx):
            rbd.RBD().namespace_create(ioctx, "plugged")
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), namespace="plugged")
    site.call("StorageDomain.connect", **settings)
    named = {"storageDomainID": settings["storageDomainID"], "volumeName": "inside"}
    site.call("Volume.create", **named, size=SIZE)
    if guest.domain.connect().getLibVersion() >= 11_006_000:
        text = site.call("VM.getDiskXML", **named)
        assert ET.fromstring(text).find("source").get("name") == f"{POOL}/plugged/inside"
        assert on.ask("VM.hotplugDisk", **named) == {"disk": "vdb"}
        assert on.unplug(**named) == {}
    else:
        for ask in ("VM.getDiskXML", "VM.hotplugDisk"):
            error = error_of(on.ask, ask, **named)
            assert (error.name, error.code) == ("OperationNotSupported", 75)
            assert "namespace plugged" in error.message
    site.call("Volume.delete", **named)
    site.call("StorageDomain.disconnect", storageDomainID=settings["storageDomainID"])


# --- plugging ---


def test_a_volume_is_plugged_used_and_unplugged(on: Plugging, guest: Guest, volume: str) -> None:
    assert on.plug(volume) == {"disk": "vdb"}
    assert on.disks()["vdb"] == volume
    serial = on.site.volume("getInfo", volume)["id"]
    wait_until_seen(guest, "vdb")
    assert guest.command("sh cat /sys/block/vdb/serial") == serial
    guest.command("sh echo plugged | dd of=/dev/vdb conv=fsync 2>/dev/null")
    assert on.unplug(disk="vdb") == {}
    assert not sees(guest, "vdb")
    assert "vdb" not in on.disks()
    with on.site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, volume, read_only=True) as image:
        assert image.read(0, 8) == b"plugged\n"


def test_the_same_again_answers_the_same_and_another_disk_is_in_the_way(
    on: Plugging, volume: str, image: str
) -> None:
    assert on.plug(volume, target="vdx") == {"disk": "vdx"}
    assert on.plug(volume, target="vdx") == {"disk": "vdx"}
    assert on.plug(volume) == {"disk": "vdx"}
    before = on.disks()
    for other in ({"volume": image, "target": "vdx"}, {"volume": volume, "target": "vdy"}):
        error = error_of(on.plug, **other)
        assert (error.name, error.code) == ("PlugConflict", 45)
    error = error_of(on.plug, image, target="vda")
    assert error.data["reason"] == "another disk has this target"
    assert on.disks() == before
    on.unplug(storageDomainID=on.site.storage_domain_id, volumeName=volume)
    error = error_of(on.unplug, disk="vdx")
    assert (error.name, error.code) == ("DiskNotPlugged", 46)
    assert "Disk not found" in error.message


@pytest.mark.parametrize("root", ["hotplug", None])
def test_a_disk_in_an_engines_words_is_plugged_and_unplugged(
    on: Plugging, guest: Guest, volume: str, root: str | None
) -> None:
    xml = disk_xml(on.site, volume, target="vdd")
    alias = f"ua-{uuid.uuid4()}"
    xml = xml.replace("</disk>", f'<alias name="{alias}"/></disk>')
    xml = xml.replace("<serial>", "<iotune><total_iops_sec>5000</total_iops_sec></iotune><serial>")
    if root is None:
        assert on.ask("VM.hotplugDisk", xml=xml) == {}
    else:
        params = {"vmId": guest.uuid, "xml": wrapped(xml)}
        assert on.ask("VM.hotplugDisk", params=params) == {}
        assert on.ask("VM.hotplugDisk", params=params) == {}
    assert on.disks()["vdd"] == volume
    libvirts = guest.domain.XMLDesc()
    assert alias in libvirts
    assert "<total_iops_sec>5000<" in libvirts
    if root is None:
        assert on.unplug(xml=xml) == {}
    else:
        bare = wrapped(f'<disk><alias name="{alias}"/></disk>', "hotunplug")
        assert on.unplug(params={"vmId": guest.uuid, "xml": bare}) == {}
    assert error_of(on.unplug, xml=xml).name == "DiskNotPlugged"
    assert "vdd" not in on.disks()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<disk ", "<!DOCTYPE disk [<!ENTITY a 'b'>]><disk ", "without a document type"),
        ('type="network"', 'type="file"', "type: one of network"),
        ('device="disk"', 'device="lun"', "device: one of disk"),
        ('protocol="rbd"', 'protocol="nbd"', "protocol: one of rbd"),
        ("<host", '<config file="/etc/passwd"/><host', "without `<config>`"),
        ("<host", '<snapshot name="s"/><host', "without `<snapshot>`"),
        ('cache="none"', 'cache="unsafe"', "cache: one of"),
        ('type="raw"', 'type="qcow2"', "type: one of raw"),
        ("<serial>", "<encryption/><serial>", "without `<encryption>`"),
        ("<serial>", "<backingStore/><serial>", "without `<backingStore>`"),
        ("<serial>", "<shareable/><serial>", "without `<shareable>`"),
        (f'name="{POOL}/', f'name="other-{POOL}/', "a connected storage domain with the pool"),
        (f'name="{POOL}/', f'name="{POOL}/ns/', "a connected storage domain with the pool"),
        ('<host name="127.', '<host name="10.', "a connected storage domain with the pool"),
        (f'username="{CEPH_USER}"', 'username="admin"', "the user and the secret"),
        ('<secret type="ceph"', '<secret type="ceph" usage="x"', "without `usage`"),
        ("<disk ", "<notdisk ", "XML"),
    ],
)
def test_what_is_no_disk_of_a_connected_domain_is_refused_and_changes_nothing(
    on: Plugging, guest: Guest, volume: str, old: str, new: str, expected: str
) -> None:
    xml = disk_xml(on.site, volume, target="vdd").replace(old, new, 1)
    before = definition(guest)
    error = error_of(on.ask, "VM.hotplugDisk", xml=xml)
    assert (error.name, error.data["field"]) == ("InvalidParameter", "xml")
    assert expected in error.data["expected"]
    assert definition(guest) == before


def test_another_secret_than_the_domains_is_refused(on: Plugging, volume: str) -> None:
    xml = disk_xml(on.site, volume).replace(str(on.site.secret_uuid), str(uuid.uuid4()))
    error = error_of(on.ask, "VM.hotplugDisk", xml=xml)
    assert error.data["expected"] == "the user and the secret of the storage domain"


def test_what_is_written_to_libvirt_is_not_what_came_from_the_caller(
    on: Plugging, guest: Guest, volume: str
) -> None:
    """A monitor that the cluster does not have, beside one that it has."""
    xml = disk_xml(on.site, volume, target="vdd").replace(
        "<host", '<host name="10.9.9.9" port="6789"/><host', 1
    )
    on.ask("VM.hotplugDisk", xml=wrapped(xml))
    assert "10.9.9.9" not in guest.domain.XMLDesc()


@pytest.mark.parametrize(
    ("verb", "params"),
    [
        ("hotplugDisk", {}),
        ("hotplugDisk", {"volumeName": "x"}),
        ("hotplugDisk", {"storageDomainID": uuid.UUID(int=1)}),
        ("hotplugDisk", {"xml": "<disk/>", "volumeName": "x"}),
        ("hotplugDisk", {"xml": "<disk/>", "target": "vdb"}),
        ("hotplugDisk", {"xml": "<disk/>", "params": {"xml": "<disk/>"}}),
        ("hotplugDisk", {"params": {"xml": "<disk/>", "vmId": uuid.UUID(int=1)}}),
        ("hotplugDisk", {"xml": "x" * 65537}),
        ("hotunplugDisk", {}),
        ("hotunplugDisk", {"disk": "vda", "volumeName": "x"}),
        ("hotunplugDisk", {"disk": "vda", "xml": "<disk/>"}),
        ("hotunplugDisk", {"xml": "<disk/>"}),
        ("hotunplugDisk", {"xml": "<hotunplug><devices/></hotunplug>"}),
        ("hotunplugDisk", {"disk": "../vda"}),
        ("diskSizeExtend", {"newSize": 1 << 30}),
        ("diskSizeExtend", {"newSize": 1 << 30, "disk": "vda", "driveSpecs": {"disk": "vda"}}),
    ],
)
def test_a_request_that_says_too_little_or_too_much_is_refused(
    site: Site, vm: Guest, verb: str, params: dict[str, Any]
) -> None:
    assert error_of(site.call, f"VM.{verb}", vmID=vm.uuid, **params).name == "InvalidParameter"


def test_a_volume_that_somebody_has_open_is_not_plugged(
    on: Plugging, volume: str, vm: Guest
) -> None:
    """Two VMs that write to one image destroy it."""
    theirs = vm.spec.disks[0].image  # type: ignore[union-attr]
    error = error_of(on.plug, theirs)
    assert (error.name, error.code) == ("VolumeInUse", 5024)
    assert error.data["watchers"]
    with on.site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, volume) as image:
        image.write(b"x", 0)
        assert error_of(on.plug, volume).name == "VolumeInUse"
    assert list(on.disks()) == ["vda"]


def test_volumes_domains_and_vms_that_are_not_there_are_told(
    site: Site, on: Plugging, volume: str, kept: Guest
) -> None:
    other = {"storageDomainID": uuid.uuid4(), "volumeName": volume}
    for verb in ("getDiskXML", "hotplugDisk", "hotunplugDisk"):
        assert error_of(on.ask, f"VM.{verb}", **other).name == "NoSuchStorageDomain"
    assert error_of(on.plug, "nosuch").name == "NoSuchVolume"
    assert error_of(disk_xml, site, "nosuch").name == "NoSuchVolume"
    named = {"storageDomainID": site.storage_domain_id, "volumeName": volume}
    for verb in ("getDiskXML", "hotplugDisk", "hotunplugDisk"):
        error = error_of(site.call, f"VM.{verb}", vmID=uuid.uuid4(), **named)
        assert (error.name, error.code) == ("NoSuchVM", 1)
    kept.domain.destroy()
    for verb in ("hotplugDisk", "hotunplugDisk"):
        error = error_of(site.call, f"VM.{verb}", vmID=kept.uuid, **named)
        assert (error.name, error.code) == ("VMDown", 6)


def test_a_user_that_may_not_read_images_is_told(
    site: Site,
    on: Plugging,
    volume: str,
    connect_as: Callable[..., Any],
) -> None:
    named = {"storageDomainID": connect_as(NAMES_ONLY), "volumeName": volume}
    assert error_of(site.call, "VM.getDiskXML", **named).name == "CephPermissionDenied"
    assert error_of(on.ask, "VM.hotplugDisk", **named).name == "CephPermissionDenied"


def test_what_qemu_refuses_is_told_in_its_words(on: Plugging, volume: str) -> None:
    error = error_of(on.plug, volume, bus="sata")
    assert (error.name, error.code) == ("HotplugFailed", 45)
    assert "hotplug" in error.data["reason"]
    assert list(on.disks()) == ["vda"]


def test_a_disk_under_a_block_job_is_not_unplugged_and_told_in_libvirts_words(
    on: Plugging, guest: Guest, volume: str, tmp_path: Path
) -> None:
    on.plug(volume)
    tmp_path.chmod(0o777)
    copy = f"<disk type='file'><source file='{tmp_path}/copy'/><driver type='raw'/></disk>"
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755 if folder != tmp_path else 0o777)
    guest.domain.blockCopy("vdb", copy, {}, 0)
    try:
        error = error_of(on.unplug, disk="vdb")
    finally:
        guest.domain.blockJobAbort("vdb")
    assert (error.name, error.code) == ("HotunplugFailed", 46)
    assert "block job" in error.data["reason"]
    assert on.unplug(disk="vdb") == {}


def test_only_disks_in_rbd_are_unplugged(
    site: Site, make_guest: Callable[..., Guest], tmp_path: Path
) -> None:
    path = Path(f"/var/tmp/virtceph-test-{uuid.uuid4().hex[:8]}.raw")
    path.write_bytes(bytes(32 * MiB))
    path.chmod(0o666)
    try:
        guest = make_guest(disks=[FileDisk(path)])
        error = error_of(Plugging(site, guest).unplug, disk="vda")
        assert (error.name, error.data["expected"]) == (
            "InvalidParameter", "an RBD disk; vda is none",
        )  # fmt: skip
        error = error_of(site.call, "VM.diskSizeExtend", vmID=guest.uuid, disk="vda", newSize=SIZE)
        assert error.name == "InvalidParameter"
    finally:
        path.unlink()


# --- what lasts ---


def test_the_lasting_definition_follows_the_running_vm(
    site: Site, kept: Guest, volume: str
) -> None:
    on = Plugging(site, kept)
    on.plug(volume, target="vdd")
    assert lasting(kept) == ["vda", "vdb", "vdd"]
    assert on.plug(volume) == {"disk": "vdd"}
    # Somebody took it out of the definition alone: plugging again brings it back there.
    definition = ET.fromstring(kept.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    (element,) = [d for d in definition.iter("disk") if d.find("target").get("dev") == "vdd"]
    kept.domain.detachDeviceFlags(ET.tostring(element, "unicode"), libvirt.VIR_DOMAIN_AFFECT_CONFIG)
    assert lasting(kept) == ["vda", "vdb"]
    assert on.plug(volume) == {"disk": "vdd"}
    assert lasting(kept) == ["vda", "vdb", "vdd"]
    # Somebody took it from the running VM alone: unplugging finishes that.
    (element,) = [
        d for d in ET.fromstring(kept.domain.XMLDesc()).iter("disk")
        if d.find("target").get("dev") == "vdd"
    ]  # fmt: skip
    kept.domain.detachDeviceFlags(ET.tostring(element, "unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    assert on.unplug(disk="vdd") == {}
    assert lasting(kept) == ["vda", "vdb"]
    on.plug(volume, target="vdd")
    assert on.unplug(disk="vdd") == {}
    assert lasting(kept) == ["vda", "vdb"]


# --- guests that do not let go ---


@pytest.fixture
def deaf(site: Site, connection: libvirt.virConnect, volume: str) -> Iterator[Guest]:
    """A VM without a system in it: nobody there to let go of anything. It lasts in libvirt."""
    domain = ET.Element("domain", type="qemu")
    ident = str(uuid.uuid4())
    ET.SubElement(domain, "name").text = f"deaf-{ident[:8]}"
    ET.SubElement(domain, "uuid").text = ident
    ET.SubElement(domain, "memory", unit="MiB").text = "64"
    system = ET.SubElement(domain, "os")
    ET.SubElement(system, "type", arch="x86_64", machine="q35").text = "hvm"
    ET.SubElement(ET.SubElement(domain, "features"), "acpi")
    devices = ET.SubElement(domain, "devices")
    ET.SubElement(devices, "controller", type="pci", model="pcie-root")
    for _ in range(3):
        ET.SubElement(devices, "controller", type="pci", model="pcie-root-port")
    devices.append(ET.fromstring(disk_xml(site, volume, target="vdb")))
    made = connection.defineXML(ET.tostring(domain, encoding="unicode"))
    made.create()
    guest = Guest.__new__(Guest)
    guest.domain = made
    yield _Named(guest, ident)  # type: ignore[misc]
    with contextlib.suppress(libvirt.libvirtError):
        made.destroy()
    made.undefine()


class _Named:
    """As much of a Guest as is needed here."""

    def __init__(self, guest: Guest, ident: str) -> None:
        self.domain, self.uuid = guest.domain, ident


def test_a_guest_that_does_not_let_go_keeps_its_disk_and_that_is_told_in_time(
    site: Site, deaf: Guest
) -> None:
    on = Plugging(site, deaf)
    began_s = time.monotonic()
    error = error_of(on.unplug, disk="vdb")
    assert time.monotonic() - began_s < 45
    assert (error.name, error.code, error.data["retry"]) == ("DiskNotReleased", 46, True)
    assert error.data["timeout"] == 20
    assert list(on.disks()) == ["vdb"]
    assert lasting(deaf) == ["vdb"]
    # Asked again while the first request is still with the guest, it is the same.
    assert error_of(on.unplug, disk="vdb").name == "DiskNotReleased"
    # QEMU lets go when the guest is reset: what is left is finished by asking again.
    deaf.domain.reset()
    deadline_s = time.monotonic() + 30
    while on.disks():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    assert lasting(deaf) == ["vdb"]
    assert on.unplug(disk="vdb") == {}
    assert lasting(deaf) == []


def test_what_a_killed_daemon_left_half_unplugged_is_finished_by_asking_again(
    site: Site,
    deaf: Guest,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
) -> None:
    daemon = start_daemon("daemon-plug", overrides={"secrets": {"usage_prefix": "plug/"}})
    other = Plugging(site, deaf, connect(daemon))
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(other.unplug, disk="vdb")
        time.sleep(2)
        daemon.kill()
        with pytest.raises(ConnectionFailed):
            asking.result(30)
    on = Plugging(site, deaf)
    assert (list(on.disks()), lasting(deaf)) == (["vdb"], ["vdb"])
    deaf.domain.reset()
    deadline_s = time.monotonic() + 30
    while on.disks():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    assert on.unplug(disk="vdb") == {}
    assert lasting(deaf) == []


def test_a_paused_vms_guest_is_not_asked_to_let_go(on: Plugging, guest: Guest, volume: str) -> None:
    """It would lose the disk when it is resumed, long after the answer."""
    on.plug(volume)
    guest.domain.suspend()
    error = error_of(on.unplug, disk="vdb")
    assert (error.name, error.data["timeout"]) == ("DiskNotReleased", 0)
    assert "paused" in error.data["reason"]
    guest.domain.resume()
    time.sleep(1)
    assert on.disks()["vdb"] == volume
    assert on.unplug(disk="vdb") == {}


def test_a_paused_vm_gets_a_disk(on: Plugging, guest: Guest, volume: str) -> None:
    guest.domain.suspend()
    assert on.plug(volume) == {"disk": "vdb"}
    guest.domain.resume()
    wait_until_seen(guest, "vdb")


# --- what must not be disturbed ---


def test_no_disk_comes_or_goes_while_the_guest_is_frozen(
    on: Plugging, guest: Guest, volume: str, image: str
) -> None:
    on.plug(volume)
    window = on.site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    for error in (error_of(on.unplug, disk="vdb"), error_of(on.plug, image)):
        assert (error.name, error.code) == ("DisksBusy", 5050)
        assert "freeze" in error.data["reason"]
    thaw = on.site.call("VM.thaw", vmID=guest.uuid)
    assert (thaw["windowID"], thaw["intact"]) == (window["windowID"], True)
    assert on.unplug(disk="vdb") == {}


def test_a_disk_that_somebody_else_unplugs_breaks_the_freeze(
    on: Plugging, guest: Guest, volume: str
) -> None:
    on.plug(volume)
    on.site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    (element,) = [
        d for d in ET.fromstring(guest.domain.XMLDesc()).iter("disk")
        if d.find("target").get("dev") == "vdb"
    ]  # fmt: skip
    guest.domain.detachDeviceFlags(ET.tostring(element, "unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)
    deadline_s = time.monotonic() + 30
    while "vdb" in on.disks():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    thaw = on.site.call("VM.thaw", vmID=guest.uuid)
    assert thaw["intact"] is False
    assert "a device was unplugged" in thaw["reason"]


def test_no_disk_comes_or_goes_while_it_is_snapshotted(
    on: Plugging, guest: Guest, volume: str, connect: Callable[..., RecordingClient]
) -> None:
    """Also without a freeze: between the request and the snapshot the set must not change."""
    on.plug(volume)
    job = uuid.uuid4()
    guest.command("agent-stop")
    # The freeze waits for its agent, half of `maxFrozen`; the snapshot's job holds the disks from its start.
    on.site.call(
        "VM.createConsistentSnapshot", vmID=guest.uuid, snapshotName="held", freeze="preferred",
        maxFrozen=10, jobUUID=job,
    )  # fmt: skip
    told = set()
    try:
        while on.site.call("Host.getJobs", job_ids=[job])[str(job)]["status"] == "running":
            try:
                on.unplug(disk="vdb")
                break  # the job ended just before that
            except ServerError as error:
                told.add(error.name)
            time.sleep(0.1)
    finally:
        guest.command("agent-cont")
    ended = on.site.client.wait_for_job(job, 60)
    assert ended["status"] == "done", ended
    assert [disk["disk"] for disk in ended["result"]["disks"]] == ["vda", "vdb"]
    assert told == {"DisksBusy"}
    on.site.call("VM.thaw", vmID=guest.uuid, force=True)
    deadline_s = time.monotonic() + 30
    while "vdb" in on.disks():
        # The freeze that came late is thawed first.
        with contextlib.suppress(ServerError):
            assert on.unplug(disk="vdb") == {}
        assert time.monotonic() < deadline_s
        time.sleep(0.5)


def test_a_migrating_vms_disks_are_left_alone(
    site: Site, on: Plugging, guest: Guest, volume: str, lab_state: Path, ceph_key: str
) -> None:
    own = guest.spec.disks[0].image  # type: ignore[union-attr]
    with migrating(guest, lab_state, "hotplug", key=(site.secret_uuid, ceph_key)):
        for ask in (
            lambda: on.plug(volume),
            lambda: on.unplug(disk="vda"),
            lambda: on.ask("VM.diskSizeExtend", disk="vda", newSize=1 << 30),
            lambda: site.volume("extendSize", own, newSize=1 << 30),
        ):
            error = error_of(ask)
            assert (error.name, error.code) == ("MigrationInProgress", 51)


# --- what hangs ---


def test_a_stalled_qemu_is_told_in_time_and_what_was_asked_is_found_done_later(
    on: Plugging, guest: Guest, volume: str, image: str
) -> None:
    with stalled(guest):
        began_s = time.monotonic()
        error = error_of(on.plug, volume, target="vdd")
        assert (error.name, error.data["retry"]) == ("DiskChangeStalled", True)
        assert time.monotonic() - began_s < 30
        # While it hangs nothing else is asked of it, and other VMs do not wait.
        began_s = time.monotonic()
        assert error_of(on.plug, image).name == "DisksBusy"
        assert error_of(on.unplug, disk="vda").name == "DisksBusy"
        on.site.call("Host.getVMList")
        assert time.monotonic() - began_s < 10
    deadline_s = time.monotonic() + 60
    while "vdd" not in on.disks():
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    assert on.plug(volume, target="vdd") == {"disk": "vdd"}
    with stalled(guest):
        assert error_of(on.unplug, disk="vdd").name == "DiskChangeStalled"
    deadline_s = time.monotonic() + 60
    while (told := outcome(on.unplug, disk="vdd")) != "DiskNotPlugged":
        assert told in ("DisksBusy", "DiskNotReleased", {})
        assert time.monotonic() < deadline_s
        time.sleep(0.5)
    assert "vdd" not in on.disks()


def test_two_who_plug_one_volume_at_once_plug_it_once(
    on: Plugging, guest: Guest, volume: str, connect: Callable[..., RecordingClient]
) -> None:
    both = [Plugging(on.site, guest, connect(on.site.daemon)) for _ in range(2)]

    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(lambda one: outcome(one.plug, volume), both))
    assert {"disk": "vdb"} in told
    assert all(answer in ({"disk": "vdb"}, "DisksBusy") for answer in told)
    assert list(on.disks()) == ["vda", "vdb"]


def test_without_the_cluster_nothing_is_asked_of_qemu(rough: Rough) -> None:
    """QEMU would open the image with its main loop held, until the cluster is back."""
    site = rough.site
    site.volume("create", "rough-c", size=SIZE)
    with rough.libvirtd.connection() as connection:
        spec = GuestSpec("rough-plug", rough.disks)
        guest = run_guest(connection, spec, rough.state / "guests")
        guest.wait_for_agent()
        on = Plugging(site, guest)
        site.ceph.suspend_osd()
        try:
            assert error_of(on.plug, "rough-c").name == "CephUnavailable"
            error = error_of(on.ask, "VM.diskSizeExtend", disk="vda", newSize=1 << 30)
            assert error.name == "CephUnavailable"
            assert guest.domain.info()[0] == libvirt.VIR_DOMAIN_RUNNING
        finally:
            site.ceph.resume_osd()
        assert on.plug("rough-c")["disk"] == "vdc"
        assert on.unplug(disk="vdc") == {}
        site.volume("delete", "rough-c")
        rough.libvirtd.kill()
        try:
            named = {"storageDomainID": site.storage_domain_id, "volumeName": "rough-a"}
            error = error_of(site.call, "VM.getDiskXML", vmID=guest.uuid, **named)
            assert error.name == "LibvirtUnavailable"
            error = error_of(site.volume, "extendSize", "rough-a", newSize=1 << 30)
            assert error.name == "LibvirtUnavailable"
        finally:
            rough.libvirtd.restart()
    with rough.libvirtd.connection() as connection:
        # Destroyed while libvirtd still finds it again, it would be lost and go on.
        deadline_s = time.monotonic() + 30
        while outcome(site.call, "VM.getInfo", vmID=guest.uuid)["agent"] != "connected":
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
        # One that libvirtd could not take over it has ended itself.
        guest.reattach(connection)
        guest.destroy()


def definition(guest: Guest) -> str:
    """The domain's XML but for whether an agent is connected, which changes by itself."""
    return re.sub(r" state='(dis)?connected'", "", guest.domain.XMLDesc())
