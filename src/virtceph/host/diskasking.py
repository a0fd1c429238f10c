"""What is asked of a VM's disks, in the forms of callers: a volume, a target, or XML as engines send it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from uuid import UUID

from virtceph import errors
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.schema import wire
from virtceph.virt.disks import PluggedDisk
from virtceph.virt.diskxml import DiskOptions, RbdDiskDevice, disk_element, read_disk, target_of
from virtceph.virt.xml import RbdSource, rbd_source

Finder = Callable[[PluggedDisk], bool]

# libvirt's prefix of names that callers give to devices. Its own names are not in a lasting definition.
_USER_ALIAS = "ua-"


@wire("HotplugParams")
@dataclass(frozen=True)
class HotplugParams:
    """The object that engines put a disk's XML into."""

    vm_id: UUID | None
    xml: str


@wire("PluggedIn")
@dataclass(frozen=True)
class PluggedIn:
    disk: str | None = None


@wire("Unplugged")
@dataclass(frozen=True)
class Unplugged:
    """There is nothing to say of it."""


@dataclass(frozen=True)
class Plug:
    """A volume to plug in. Its storage domain is named, or found by what the XML says of it."""

    volume: str
    target: str | None
    bus: str
    storage_domain_id: UUID | None = None
    device: RbdDiskDevice | None = None
    options: DiskOptions = field(default_factory=DiskOptions)

    def domain_in(self, storage: StorageDomains) -> StorageDomain:
        """The storage domain of the volume.

        Raises:
            NoSuchStorageDomain
            InvalidParameter: the XML's disk lies in none that is connected, or names another user or secret.
        """
        if self.storage_domain_id is not None:
            return storage.get(self.storage_domain_id)
        assert self.device is not None, "there is one of the two"
        owners = storage.owners(self.device.source)
        if not owners:
            pool = self.device.source.pool
            raise errors.InvalidParameter("xml", f"a connected storage domain with the pool {pool}")
        wanted = self.device.user, self.device.secret_uuid
        for domain in owners:
            if (domain.settings.user, domain.settings.secret_uuid) == wanted:
                return domain
        raise errors.InvalidParameter("xml", "the user and the secret of the storage domain")


@dataclass(frozen=True)
class Unplug:
    """A disk to unplug: all that is given has to be true of it."""

    target: str | None = None
    alias: str | None = None
    source: RbdSource | None = None
    storage_domain_id: UUID | None = None
    volume: str = ""

    def finder(self, storage: StorageDomains) -> tuple[str, Finder]:
        """What to call the disk, and which it is. Raises NoSuchStorageDomain."""
        if self.storage_domain_id is not None:
            domain = storage.get(self.storage_domain_id)
            return self.volume, lambda disk: is_volume(disk, domain, self.volume)
        name = self.target or self.alias or (self.source.image if self.source else "")
        return name, self._is_it

    def _is_it(self, disk: PluggedDisk) -> bool:
        if self.target is not None and disk.target != self.target:
            return False
        if self.source is not None and not _same_image(disk.rbd, self.source):
            return False
        return self.alias is None or self._has_alias(disk)

    def _has_alias(self, disk: PluggedDisk) -> bool:
        known_otherwise = self.target is not None or self.source is not None
        if known_otherwise and (not disk.alias or not (self.alias or "").startswith(_USER_ALIAS)):
            return True
        return disk.alias == self.alias


def asked_to_plug(
    vm_id: UUID,
    storage_domain_id: UUID | None,
    volume: str | None,
    target: str | None,
    bus: str,
    xml: str | None,
    params: HotplugParams | None,
) -> Plug:
    """What VM.hotplugDisk is asked. Does not block. Raises InvalidParameter."""
    text = _xml_of(vm_id, xml, params)
    if text is None:
        if storage_domain_id is None or volume is None:
            raise errors.InvalidParameter(
                "volumeName" if volume is None else "storageDomainID",
                "`storageDomainID` and `volumeName`, or `xml`",
            )
        return Plug(volume, target, bus, storage_domain_id)
    _alone("xml", storageDomainID=storage_domain_id, volumeName=volume, target=target)
    device = read_disk(disk_element(text))
    source = device.source
    return Plug(source.image, device.target, device.bus, None, device, device.options)


def asked_to_unplug(
    vm_id: UUID,
    disk: str | None,
    storage_domain_id: UUID | None,
    volume: str | None,
    xml: str | None,
    params: HotplugParams | None,
) -> Unplug:
    """What VM.hotunplugDisk is asked. Does not block. Raises InvalidParameter."""
    text = _xml_of(vm_id, xml, params)
    if text is not None:
        _alone("xml", disk=disk, storageDomainID=storage_domain_id, volumeName=volume)
        return _of_xml(text)
    if disk is not None:
        _alone("disk", storageDomainID=storage_domain_id, volumeName=volume)
        return Unplug(target=disk)
    if storage_domain_id is None or volume is None:
        expected = "`disk`, or `storageDomainID` and `volumeName`, or `xml`"
        raise errors.InvalidParameter("disk", expected)
    return Unplug(storage_domain_id=storage_domain_id, volume=volume)


def is_volume(disk: PluggedDisk, domain: StorageDomain, volume: str) -> bool:
    """Whether a disk is this volume."""
    return disk.rbd is not None and disk.rbd.image == volume and domain.owns(disk.rbd)


def with_serial(options: DiskOptions, serial: str) -> DiskOptions:
    """The options, with a serial if they have none."""
    return options if options.serial is not None else replace(options, serial=serial)


def _of_xml(text: str) -> Unplug:
    # Only looked up: nothing of it is used any further, so the rest may say what it likes.
    element = disk_element(text)
    target, alias, source = (element.find(tag) for tag in ("target", "alias", "source"))
    asked = Unplug(
        target=None if target is None else target_of(target),
        alias=None if alias is None else alias.get("name", ""),
        source=None if source is None else rbd_source(source),
    )
    if asked == Unplug():
        raise errors.InvalidParameter("xml", "a disk with `<target>`, `<alias>` or `<source>`")
    return asked


def _same_image(ours: RbdSource | None, theirs: RbdSource) -> bool:
    names = (theirs.pool, theirs.namespace, theirs.image)
    return ours is not None and (ours.pool, ours.namespace, ours.image) == names


def _xml_of(vm_id: UUID, xml: str | None, params: HotplugParams | None) -> str | None:
    if params is None:
        return xml
    _alone("params", xml=xml)
    if params.vm_id not in (None, vm_id):
        raise errors.InvalidParameter("params.vmId", f"{vm_id}, as `vmID` says")
    return params.xml


def _alone(name: str, **others: object) -> None:
    for other, value in others.items():
        if value is not None:
            raise errors.InvalidParameter(other, f"nothing beside `{name}`")


@contextmanager
def libvirt_told() -> Iterator[None]:
    """What libvirt refuses when it is only looked at means that it cannot be asked: LibvirtUnavailable."""
    try:
        yield
    except errors.LibvirtFailed as error:
        raise errors.LibvirtUnavailable(error.message) from error
