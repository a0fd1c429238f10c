"""libvirt's calls on disks: which flags they are made with, and what its errors become."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import libvirt
import pytest

from tests.unit.test_faults import fault
from virtceph import errors
from virtceph.virt.disks import DiskCalls, PluggedDisk
from virtceph.virt.xml import RbdSource

VM = UUID(int=1)
DISK = PluggedDisk("vdc", "ua-x", RbdSource("vms", "", "web", ()), "<disk/>")
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG

XML = """<domain><devices>
  <disk type='network' device='disk'><source protocol='rbd' name='vms/ns/web'>
    <host name='fd00::1' port='6789'/></source><target dev='vda' bus='virtio'/>
    <alias name='virtio-disk0'/></disk>
  <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
</devices></domain>"""


class FakeDomain:
    """As virDomain: each call is noted, or raises `error`."""

    def __init__(self) -> None:
        self.error: libvirt.libvirtError | None = None
        self.active = self.persistent = True
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if self.error is not None:
                raise self.error
            self.calls.append((name, *arguments))
            return {"XMLDesc": XML, "blockInfo": [7, 8, 9]}.get(name)

        return call

    def isActive(self) -> bool:
        return self.active

    def isPersistent(self) -> bool:
        return self.persistent


class FakePool:
    """As ConnectionPool, over one domain; `missing` is what looking it up raises."""

    def __init__(self, domain: FakeDomain) -> None:
        self._domain = domain
        self.missing: libvirt.libvirtError | None = None
        self.version = 9_000_000

    def getLibVersion(self) -> int:
        return self.version

    @contextmanager
    def connection(self, _timeout_s: float) -> Iterator[FakePool]:
        yield self

    def lookupByUUIDString(self, _uuid: str) -> FakeDomain:
        if self.missing is not None:
            raise self.missing
        return self._domain


@pytest.fixture
def domain() -> FakeDomain:
    return FakeDomain()


@pytest.fixture
def pool(domain: FakeDomain) -> FakePool:
    return FakePool(domain)


@pytest.fixture
def calls(pool: FakePool) -> DiskCalls:
    return DiskCalls(pool)  # type: ignore[arg-type]


def test_every_kind_of_disk_takes_a_target(calls: DiskCalls, domain: FakeDomain) -> None:
    there = calls.plugged(VM)
    assert [(d.target, d.alias) for d in there.live] == [("vda", "virtio-disk0"), ("sda", "")]
    assert there.live[0].rbd == RbdSource("vms", "ns", "web", ("[fd00::1]:6789",))
    assert there.lasting is not None
    assert domain.calls == [("XMLDesc",), ("XMLDesc", libvirt.VIR_DOMAIN_XML_INACTIVE)]
    domain.active = domain.persistent = False
    there = calls.plugged(VM)
    assert (there.live, there.lasting) == ((), None)


def test_calls_are_made_with_the_flags_they_need(calls: DiskCalls, domain: FakeDomain) -> None:
    calls.plug(VM, "vdc", "<disk/>", live=True, lasting=True)
    calls.plug(VM, "vdc", "<disk/>", live=False, lasting=True)
    calls.ask_to_release(VM, DISK)
    calls.forget(VM, DISK)
    calls.resize(VM, "vdc", 1024)
    assert calls.size_bytes(VM, "vdc") == 7
    assert domain.calls == [
        ("attachDeviceFlags", "<disk/>", LIVE | CONFIG),
        ("attachDeviceFlags", "<disk/>", CONFIG),
        ("detachDeviceAlias", "ua-x", LIVE),
        ("detachDeviceFlags", "<disk/>", CONFIG),
        ("blockResize", "vdc", 1024, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES),
        ("blockInfo", "vdc"),
    ]


@pytest.mark.parametrize(("version", "knows"), [(9_000_000, False), (11_006_000, True)])
def test_older_libvirts_know_no_namespaces(
    calls: DiskCalls, pool: FakePool, version: int, knows: bool
) -> None:
    pool.version = version
    assert calls.knows_namespaces() is knows


def plug(calls: DiskCalls) -> None:
    calls.plug(VM, "vdc", "<disk/>", live=True, lasting=False)


def release(calls: DiskCalls) -> None:
    calls.ask_to_release(VM, DISK)


def resize(calls: DiskCalls) -> None:
    calls.resize(VM, "vdc", 1024)


INTERNAL, XML_ERROR = libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_ERR_XML_ERROR
INVALID = libvirt.VIR_ERR_OPERATION_INVALID
LOST = fault(libvirt.VIR_ERR_SYSTEM_ERROR, "broken pipe", libvirt.VIR_FROM_RPC)


@pytest.mark.parametrize(
    ("call", "error", "ours"),
    [
        (plug, LOST, errors.LibvirtUnavailable),
        (plug, fault(libvirt.VIR_ERR_NO_DOMAIN), errors.NoSuchVM),
        (plug, fault(libvirt.VIR_ERR_OPERATION_TIMEOUT), errors.DisksBusy),
        (plug, fault(XML_ERROR, "target 'vdc' duplicated for disk"), errors.PlugConflict),
        (plug, fault(INVALID, "target vdc already exists"), errors.PlugConflict),
        (plug, fault(XML_ERROR, "unknown bus"), errors.HotplugFailed),
        (plug, fault(INTERNAL, "No more available PCI slots"), errors.HotplugFailed),
        (plug, fault(libvirt.VIR_ERR_NO_SECRET), errors.HotplugFailed),
        (release, LOST, errors.LibvirtUnavailable),
        (release, fault(libvirt.VIR_ERR_DEVICE_MISSING), errors.DiskNotPlugged),
        (release, fault(INTERNAL, "no device found with alias ua-x"), errors.DiskNotPlugged),
        (release, fault(libvirt.VIR_ERR_OPERATION_TIMEOUT), errors.DisksBusy),
        (release, fault(INTERNAL, "disk vdc is in a block job"), errors.HotunplugFailed),
        (resize, fault(INTERNAL, "Failed to resize file"), errors.ResizeFailed),
        (resize, fault(libvirt.VIR_ERR_OPERATION_TIMEOUT), errors.DisksBusy),
        (resize, fault(libvirt.VIR_ERR_DEVICE_MISSING), errors.ResizeFailed),
        (resize, fault(INVALID, "not possible"), errors.ResizeFailed),
    ],
)
def test_libvirts_errors_are_told_as_what_they_are(
    calls: DiskCalls,
    domain: FakeDomain,
    call: Callable[[DiskCalls], None],
    error: libvirt.libvirtError,
    ours: type[errors.VirtcephError],
) -> None:
    domain.error = error
    with pytest.raises(ours) as caught:
        call(calls)
    assert type(caught.value) is ours
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("call", [plug, release, resize])
def test_a_vm_that_is_off_or_gone_is_told(
    calls: DiskCalls, domain: FakeDomain, pool: FakePool, call: Callable[[DiskCalls], None]
) -> None:
    domain.error, domain.active = fault(INVALID, "domain is not running"), False
    with pytest.raises(errors.VMDown):
        call(calls)
    pool.missing = fault(libvirt.VIR_ERR_NO_DOMAIN)
    with pytest.raises(errors.NoSuchVM):
        call(calls)


def test_a_guest_that_was_asked_already_is_waited_for(calls: DiskCalls, domain: FakeDomain) -> None:
    text = "Device virtio-disk2 is already in the process of unplug"
    domain.error = fault(INTERNAL, f"unable to execute QEMU command 'device_del': {text}")
    release(calls)
