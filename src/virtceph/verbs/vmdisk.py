"""VM.*: the disks of a guest."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from virtceph.host.diskasking import (
    HotplugParams,
    PluggedIn,
    Unplugged,
    asked_to_plug,
    asked_to_unplug,
)
from virtceph.host.extending import DriveSpecs
from virtceph.host.host import Host
from virtceph.verbs.registry import verb


@verb("VM.getDiskXML")
def get_disk_xml(
    host: Host,
    vm_id: UUID | None,
    storage_domain_id: UUID,
    volume_name: str,
    target: str | None,
    bus: str,
) -> str:
    """A volume's `<disk>`, with the monitors of this moment. Blocks. Source: the monitors' `mon dump`.

    Raises:
        NoSuchVM, NoSuchStorageDomain, NoSuchVolume, OperationNotSupported, CephPermissionDenied,
        LibvirtUnavailable
    """
    return host.disks.xml(vm_id, storage_domain_id, volume_name, target, bus)


@verb("VM.hotplugDisk")
def hotplug_disk(
    host: Host,
    vm_id: UUID,
    storage_domain_id: UUID | None,
    volume_name: str | None,
    target: str | None,
    bus: str,
    xml: str | None,
    params: HotplugParams | None,
) -> PluggedIn:
    """Plug a volume into a running VM. Blocks. Source: virDomainAttachDeviceFlags.

    Raises:
        NoSuchVM, VMDown, MigrationInProgress, DisksBusy, NoSuchStorageDomain, NoSuchVolume,
        OperationNotSupported, VolumeInUse, CephUnavailable, CephPermissionDenied, PlugConflict,
        HotplugFailed: the VM is as it was.
        DiskChangeStalled: it may still be plugged in.
    """
    asked = asked_to_plug(vm_id, storage_domain_id, volume_name, target, bus, xml, params)
    chosen = host.disks.plug(vm_id, asked)
    return PluggedIn(None if asked.device is not None else chosen)


@verb("VM.hotunplugDisk")
def hotunplug_disk(
    host: Host,
    vm_id: UUID,
    disk: str | None,
    storage_domain_id: UUID | None,
    volume_name: str | None,
    xml: str | None,
    params: HotplugParams | None,
) -> Unplugged:
    """Unplug a disk from a running VM. Blocks. Source: virDomainDetachDeviceAlias.

    Raises:
        NoSuchVM, VMDown, MigrationInProgress, DisksBusy, NoSuchStorageDomain, DiskNotPlugged,
        HotunplugFailed: the VM is as it was.
        DiskNotReleased: the guest did not let go; the disk is still there.
        DiskChangeStalled: the guest may still be asked for it.
    """
    asked = asked_to_unplug(vm_id, disk, storage_domain_id, volume_name, xml, params)
    host.disks.unplug(vm_id, asked)
    return Unplugged()


@verb("VM.diskSizeExtend")
def disk_size_extend(
    host: Host, vm_id: UUID, disk: str | None, drive_specs: DriveSpecs | None, new_size_bytes: Any
) -> Any:
    """Make a disk larger, image and guest alike; its size. Blocks. Source: virDomainBlockResize.

    Raises:
        BadDiskSize, NoSuchVM, VMDown, NoSuchDrive, MigrationInProgress, WouldShrink, DisksBusy,
        CephUnavailable, CephPermissionDenied, ResizeFailed: it is as large as it was.
        DiskChangeStalled: it may still become larger.
    """
    return host.extending.extend_disk(vm_id, disk, drive_specs, new_size_bytes)
