"""Plugging, unplugging and resizing the disks of domains.

Each of these is handed to QEMU, and hangs for as long as QEMU does (a stopped process, dead storage): nothing
bounds it. So they run on connections of their own, and their caller has them in a thread it can leave behind.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import libvirt

from virtceph import errors
from virtceph.virt.connection import ConnectionPool
from virtceph.virt.faults import is_connection_lost, libvirt_faults, reason_of
from virtceph.virt.xml import RbdSource, rbd_source

_CONNECT_S = 5.0
# 11.6.0, as libvirt writes a version: the first whose description of a `<source>` has namespaces. 9.0 was
# seen to look for `namespace/image` in the default one; a version that has them was not at hand to try.
_KNOWS_NAMESPACES = 11_006_000
# What libvirt's codes do not tell apart.
_UNPLUGGING_TEXT = "in the process of unplug"
_NO_ALIAS_TEXT = "no device found with alias"
_TAKEN_TEXTS = ("duplicated", "already exists")

Failure = Callable[[UUID, str, str], errors.VirtcephError]


@dataclass(frozen=True)
class PluggedDisk:
    """A disk of any kind, as a domain has it. `element` is libvirt's own XML of it."""

    target: str
    alias: str
    rbd: RbdSource | None
    element: str


@dataclass(frozen=True)
class PluggedDisks:
    """The disks of a running domain, and those of its lasting definition (None: it has none)."""

    live: tuple[PluggedDisk, ...]
    lasting: tuple[PluggedDisk, ...] | None

    def all(self) -> tuple[PluggedDisk, ...]:
        """Both; a disk that is in both is there twice."""
        return (*self.live, *(self.lasting or ()))


class DiskCalls:
    """libvirt's calls on disks, over connections of their own.

    Every method blocks, without a bound where it says so, and raises NoSuchVM, VMDown, LibvirtUnavailable,
    LaneBusy beside what it names.
    """

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def plugged(self, vm_id: UUID) -> PluggedDisks:
        """All disks, cdroms and the like too. Source: virDomainGetXMLDesc.

        Raises:
            LibvirtFailed
        """
        with self._pool.connection(_CONNECT_S) as connection, libvirt_faults("read disks", vm_id):
            domain = connection.lookupByUUIDString(str(vm_id))
            live = _disks(domain.XMLDesc()) if domain.isActive() else ()
            lasting = None
            if domain.isPersistent():
                lasting = _disks(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
            return PluggedDisks(live, lasting)

    def knows_namespaces(self) -> bool:
        """Whether libvirt takes `pool/namespace/image`. Source: virConnectGetLibVersion.

        Its version is asked, since trying would open another image: an older one looks in the pool's default
        namespace, for an image whose name has a slash in it.

        Raises:
            LibvirtFailed
        """
        with self._pool.connection(_CONNECT_S) as connection, libvirt_faults("ask its version"):
            return bool(connection.getLibVersion() >= _KNOWS_NAMESPACES)

    def plug(self, vm_id: UUID, target: str, xml: str, *, live: bool, lasting: bool) -> None:
        """Add a disk to the running domain, its lasting definition, or both. No bound.
        Source: virDomainAttachDeviceFlags.

        Raises:
            PlugConflict: another disk has its target.
            HotplugFailed, DisksBusy
        """
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if live else 0
        flags |= libvirt.VIR_DOMAIN_AFFECT_CONFIG if lasting else 0
        with self._domain(vm_id, target, errors.HotplugFailed) as domain:
            domain.attachDeviceFlags(xml, flags)

    def ask_to_release(self, vm_id: UUID, disk: PluggedDisk) -> None:
        """Have the guest asked to let go of a disk; whether it does is told by an event. No bound.
        Source: virDomainDetachDeviceAlias.

        Raises:
            DiskNotPlugged, HotunplugFailed, DisksBusy
        """
        with self._domain(vm_id, disk.target, errors.HotunplugFailed) as domain:
            try:
                domain.detachDeviceAlias(disk.alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
            except libvirt.libvirtError as error:
                # It was asked before, and has not answered yet.
                if _UNPLUGGING_TEXT not in reason_of(error):
                    raise

    def forget(self, vm_id: UUID, disk: PluggedDisk) -> None:
        """Take a disk out of the lasting definition. Source: virDomainDetachDeviceFlags.

        Raises:
            DiskNotPlugged, HotunplugFailed, DisksBusy
        """
        with self._domain(vm_id, disk.target, errors.HotunplugFailed) as domain:
            domain.detachDeviceFlags(disk.element, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    def size_bytes(self, vm_id: UUID, target: str) -> int:
        """The size of a disk as QEMU, and so the guest, has it. No bound. Source: virDomainGetBlockInfo.

        Raises:
            ResizeFailed, DisksBusy
        """
        with self._domain(vm_id, target, errors.ResizeFailed) as domain:
            return int(domain.blockInfo(target)[0])

    def resize(self, vm_id: UUID, target: str, size_bytes: int) -> None:
        """Give a disk's image and the guest's disk a new size. Neither libvirt nor QEMU refuses a smaller
        one. No bound. Source: virDomainBlockResize.

        Raises:
            ResizeFailed, DisksBusy
        """
        with self._domain(vm_id, target, errors.ResizeFailed) as domain:
            domain.blockResize(target, size_bytes, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)

    def close(self) -> None:
        """Close the connections; calls in flight fail."""
        self._pool.close()

    @contextmanager
    def _domain(self, vm_id: UUID, target: str, failed: Failure) -> Iterator[libvirt.virDomain]:
        """The domain; libvirt's errors of the block become ours, once."""
        with self._pool.connection(_CONNECT_S) as connection:
            domain: libvirt.virDomain | None = None
            try:
                domain = connection.lookupByUUIDString(str(vm_id))
                yield domain
            except libvirt.libvirtError as error:
                raise _told(error, domain, vm_id, target, failed) from error


def _told(
    error: libvirt.libvirtError,
    domain: libvirt.virDomain | None,
    vm_id: UUID,
    target: str,
    failed: Failure,
) -> errors.VirtcephError:
    """Our error for one of libvirt's. Blocks for a look at the domain, where that decides."""
    code, reason = error.get_error_code(), reason_of(error)
    if is_connection_lost(error):
        return errors.LibvirtUnavailable(reason)
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return errors.NoSuchVM(vm_id)
    if code == libvirt.VIR_ERR_OPERATION_INVALID and domain is not None and not _is_active(domain):
        return errors.VMDown(vm_id)
    if code == libvirt.VIR_ERR_OPERATION_TIMEOUT:
        # Another client's call, or a job, has the domain for itself.
        return errors.DisksBusy(f"VM {vm_id}", reason)
    is_missing = code == libvirt.VIR_ERR_DEVICE_MISSING or _NO_ALIAS_TEXT in reason
    if failed is errors.HotunplugFailed and is_missing:
        return errors.DiskNotPlugged(vm_id, target)
    if failed is errors.HotplugFailed and _is_taken(code, reason):
        return errors.PlugConflict(vm_id, target, reason)
    return failed(vm_id, target, reason)


def _is_taken(code: int, reason: str) -> bool:
    # "target 'vdc' duplicated for disk sources …", "target vdc already exists".
    codes = (libvirt.VIR_ERR_XML_ERROR, libvirt.VIR_ERR_OPERATION_INVALID)
    return code in codes and "target" in reason and any(word in reason for word in _TAKEN_TEXTS)


def _is_active(domain: libvirt.virDomain) -> bool:
    try:
        return bool(domain.isActive())
    except libvirt.libvirtError:
        return False


def _disks(xml: str) -> tuple[PluggedDisk, ...]:
    return tuple(_disk(element) for element in ET.fromstring(xml).iterfind("devices/disk"))


def _disk(element: ET.Element) -> PluggedDisk:
    target, alias, source = element.find("target"), element.find("alias"), element.find("source")
    is_rbd = source is not None and source.get("protocol") == "rbd"
    return PluggedDisk(
        target.get("dev", "") if target is not None else "",
        alias.get("name", "") if alias is not None else "",
        rbd_source(source) if is_rbd and source is not None else None,
        ET.tostring(element, encoding="unicode"),
    )
