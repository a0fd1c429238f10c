"""Making volumes and disks larger, so that guests see it, and never smaller."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.imageinfo import ImageInfo
from virtceph.ceph.workers import Call, NoReply
from virtceph.events import DiskExtended
from virtceph.host.diskasking import is_volume, libvirt_told
from virtceph.host.diskchanges import Change, DiskChanges, Key, qemu_of
from virtceph.host.events import Tell, untold
from virtceph.host.layout import require_within_quota
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts
from virtceph.schema import wire
from virtceph.virt.disks import DiskCalls, PluggedDisk
from virtceph.virt.domains import Domains

log = logging.getLogger(__name__)

_SECTOR_BYTES = 512
_MAX_BYTES = 1 << 50
_SIZE = f"a multiple of {_SECTOR_BYTES} from {_SECTOR_BYTES} to {_MAX_BYTES}"


@wire("DriveSpecs")
@dataclass(frozen=True)
class DriveSpecs:
    """A drive in the words of engines. The ids are those of other kinds of storage."""

    disk: str | None
    path: str | None
    disk_type: str | None
    device: str | None
    protocol: str | None
    domain_id: str | None
    pool_id: str | None
    image_id: str | None
    volume_id: str | None
    guid: str | None
    uuid: str | None

    def is_it(self, disk: PluggedDisk) -> bool:
        """Whether it is this disk."""
        if self.disk is not None:
            return disk.target == self.disk
        rbd = disk.rbd
        if rbd is None or self.path is None:
            return False
        return self.path == "/".join(part for part in (rbd.pool, rbd.namespace, rbd.image) if part)


@wire("ExtendedVolume")
@dataclass(frozen=True)
class ExtendedVolume:
    size_bytes: int
    vms: list[UUID]
    unaware: list[str]


class Extending:
    """Makes what is in RBD larger. Every method blocks. `timeout_s` is when a request to an image's owner is
    given up."""

    def __init__(
        self,
        domains: Domains,
        calls: DiskCalls,
        storage: StorageDomains,
        changes: DiskChanges,
        timeout_s: float,
        tell: Tell = untold,
    ) -> None:
        self._domains, self._calls, self._storage = domains, calls, storage
        self._changes, self._timeout_s, self._tell = changes, timeout_s, tell

    def extend_disk(
        self, vm_id: UUID, disk: str | None, specs: DriveSpecs | None, size: Any
    ) -> Any:
        """Make a disk of a running VM larger; the size, as it was asked for.

        Raises:
            BadDiskSize, InvalidParameter, NoSuchVM, VMDown, NoSuchDrive, MigrationInProgress, WouldShrink,
            DisksBusy, CephUnavailable, CephPermissionDenied: nothing was changed.
            ResizeFailed: libvirt's word.
            DiskChangeStalled: it may still become larger.
        """
        size_bytes = _size(size)
        self._domains.require_running(vm_id)
        found = self._disk(vm_id, _specs(disk, specs))
        domain = None if found.rbd is None else self._storage.of(found.rbd)
        if found.rbd is None or domain is None:
            where = "disk" if disk is not None else "driveSpecs"
            expected = f"a disk in a connected storage domain; {found.target} is in none"
            raise errors.InvalidParameter(where, expected)
        volume = found.rbd.image
        with self._changing(domain, volume, [vm_id]) as change:
            with _ceph_told(vm_id, found.target):
                _require_room(domain, _require_larger(domain, volume, size_bytes), size_bytes)
            if self._resize(change, domain, volume, (vm_id, found.target), size_bytes):
                domain.changed("extended", volume, size_bytes=size_bytes)
        return size

    def extend_volume(
        self, storage_domain_id: UUID, volume: str, size_bytes: int
    ) -> ExtendedVolume:
        """Make an image larger; whose guests see it.

        Raises:
            InvalidParameter, NoSuchStorageDomain, NoSuchVolume, WouldShrink, MigrationInProgress, DisksBusy,
            LibvirtUnavailable, CephUnavailable, CephPermissionDenied: nothing was changed.
            ResizeFailed: libvirt's word.
            LockOwnerStalled, DiskChangeStalled: it may still become larger.
        """
        if size_bytes % _SECTOR_BYTES:
            raise errors.InvalidParameter("newSize", _SIZE)
        domain = self._storage.get(storage_domain_id)
        now = _require_larger(domain, volume, size_bytes)
        _require_room(domain, now, size_bytes)
        # Who does not have it open needs not be told.
        users = self._users(domain, volume) if now.watchers else []
        with self._changing(domain, volume, [vm_id for vm_id, _ in users]) as change:
            resized = [self._resize(change, domain, volume, user, size_bytes) for user in users]
            if any(resized):
                domain.changed("extended", volume, size_bytes=size_bytes)
            if users:
                return ExtendedVolume(size_bytes, [vm_id for vm_id, _ in users], [])
            self._grow(domain, volume, size_bytes)
        if now.size_bytes != size_bytes:
            domain.changed("extended", volume, size_bytes=size_bytes)
        unaware = domain.images.watcher_addresses(volume)
        return ExtendedVolume(size_bytes, [], unaware)

    def _grow(self, domain: StorageDomain, volume: str, size_bytes: int) -> None:
        arguments = {"name": volume, "size_bytes": size_bytes}
        (outcome,) = domain.workers.run([Call("grow", domain.pool, arguments)], self._timeout_s)
        if isinstance(outcome, errors.VirtcephError):
            raise outcome
        if isinstance(outcome, NoReply) and domain.images.info(volume).size_bytes != size_bytes:
            raise errors.LockOwnerStalled(volume, self._timeout_s)
        log.info("extended %s", facts(image=f"{domain.pool}/{volume}", size_bytes=size_bytes))

    def _resize(
        self,
        change: Change,
        domain: StorageDomain,
        volume: str,
        user: tuple[UUID, str],
        size_bytes: int,
    ) -> bool:
        """Through QEMU, so that the guest is told. QEMU that knows of the size already is not asked, and that
        is answered by False."""
        vm_id, target = user
        asked = False

        def resize() -> None:
            nonlocal asked
            if self._calls.size_bytes(vm_id, target) == size_bytes:
                return
            asked = True
            # That may have hung, and the image be larger by now: QEMU would cut it off.
            with _ceph_told(vm_id, target):
                _require_larger(domain, volume, size_bytes)
            self._calls.resize(vm_id, target, size_bytes)

        change.call(resize)
        log.info("extended %s", facts(vm=vm_id, disk=target, size_bytes=size_bytes))
        if asked:
            ident = domain.settings.storage_domain_id
            self._tell(DiskExtended(vm_id, target, ident, volume, size_bytes))
        return asked

    def _disk(self, vm_id: UUID, specs: DriveSpecs) -> PluggedDisk:
        disks = self._calls.plugged(vm_id).live
        for disk in disks:
            if specs.is_it(disk):
                return disk
        targets = ", ".join(disk.target for disk in disks)
        where = "disk" if specs.disk is not None else "driveSpecs"
        raise errors.NoSuchDrive(vm_id, where, f"one of {targets}, or its `path`")

    def _users(self, domain: StorageDomain, volume: str) -> list[tuple[UUID, str]]:
        """The running VMs of this host that have a volume open, each with its disk."""
        with libvirt_told():
            return list(self._find_users(domain, volume))

    def _find_users(self, domain: StorageDomain, volume: str) -> Iterator[tuple[UUID, str]]:
        for state in self._domains.states():
            try:
                disks = self._calls.plugged(state.vm_id).live
            except errors.NoSuchVM:  # it ended since
                continue
            for disk in disks:
                if is_volume(disk, domain, volume):
                    yield state.vm_id, disk.target

    @contextmanager
    def _changing(self, domain: StorageDomain, volume: str, vm_ids: list[UUID]) -> Iterator[Change]:
        keys: list[Key] = [("volume", domain.snapshot_name(volume, "")), *map(qemu_of, vm_ids)]
        with self._changes.change(f"{domain.pool}/{volume}", keys) as change:
            for vm_id in vm_ids:
                with libvirt_told():
                    if self._domains.is_migrating(vm_id):
                        raise errors.MigrationInProgress(vm_id)
            yield change


def _require_larger(domain: StorageDomain, volume: str, size_bytes: int) -> ImageInfo:
    """Return what the image is now, if it is no larger than that. Raises WouldShrink."""
    info = domain.images.info(volume)
    if size_bytes < info.size_bytes:
        raise errors.WouldShrink(volume, info.size_bytes, size_bytes)
    return info


def _require_room(domain: StorageDomain, now: ImageInfo, size_bytes: int) -> None:
    """Return if the pool could hold an image that is to become larger. Raises InvalidParameter."""
    if size_bytes > now.size_bytes:
        pool = now.data_pool or domain.pool.pool
        require_within_quota(size_bytes, pool, domain.limits(), "newSize")


def _size(size: object) -> int:
    """A size as callers write it. Raises BadDiskSize."""
    if isinstance(size, str) and size.isascii() and size.isdigit() and len(size) <= 19:
        size = int(size)
    if type(size) is not int or not 0 < size <= _MAX_BYTES or size % _SECTOR_BYTES:
        raise errors.BadDiskSize("newSize", _SIZE)
    return size


def _specs(disk: str | None, specs: DriveSpecs | None) -> DriveSpecs:
    if (disk is None) == (specs is None):
        raise errors.InvalidParameter("disk", "either `disk` or `driveSpecs`")
    if specs is not None:
        return specs
    return DriveSpecs(disk, *[None] * (len(fields(DriveSpecs)) - 1))


@contextmanager
def _ceph_told(vm_id: UUID, target: str) -> Iterator[None]:
    try:
        yield
    except errors.NoSuchVolume as error:
        # Renamed, or put into the trash, under the running VM.
        raise errors.ResizeFailed(vm_id, target, error.message) from error
    except errors.CephFailed as error:
        raise errors.ResizeFailed(vm_id, target, error.message) from error
