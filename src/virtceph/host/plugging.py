"""Disks of running VMs: their XML, plugging and unplugging, and when that may be done."""

from __future__ import annotations

import itertools
import logging
import string
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID

from virtceph import errors
from virtceph.ceph.imageinfo import ImageInfo
from virtceph.events import DiskPlugged, DiskUnplugged
from virtceph.host.diskasking import Plug, Unplug, is_volume, libvirt_told, with_serial
from virtceph.host.diskchanges import Change, DiskChanges, disks_of, qemu_of
from virtceph.host.events import Tell, untold
from virtceph.host.leases import Leases
from virtceph.host.releases import Releases
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts
from virtceph.virt.disks import DiskCalls, PluggedDisk, PluggedDisks
from virtceph.virt.diskxml import DiskOptions, RbdDiskDevice, disk_xml
from virtceph.virt.domains import Domains
from virtceph.virt.events import Happened
from virtceph.virt.xml import RbdSource

log = logging.getLogger(__name__)

_PREFIX = {"virtio": "vd", "scsi": "sd", "sata": "sd"}
# A guest lets go in a fraction of a second (ACPI), or in five and a bit (native PCIe blinks first).
RELEASE_S = 20.0
# Events get lost with the connection that would have told them.
_LOOK_AGAIN_S = 1.0


class Disks:
    """The disks of this host's VMs. Every method blocks."""

    def __init__(
        self,
        domains: Domains,
        calls: DiskCalls,
        storage: StorageDomains,
        leases: Leases,
        changes: DiskChanges,
        releases: Releases,
        release_s: float = RELEASE_S,
        tell: Tell = untold,
    ) -> None:
        self._domains, self._calls, self._storage = domains, calls, storage
        self._leases, self._changes, self._releases = leases, changes, releases
        self._release_s, self._tell = release_s, tell

    def xml(
        self, vm_id: UUID | None, storage_domain_id: UUID, volume: str, target: str | None, bus: str
    ) -> str:
        """A volume's `<disk>`.

        Raises:
            NoSuchStorageDomain, NoSuchVolume, NoSuchVM, CephUnavailable, CephPermissionDenied,
            LibvirtUnavailable
            OperationNotSupported: libvirt cannot reach it.
            InvalidParameter: another disk of the VM has the target.
        """
        domain = self._storage.get(storage_domain_id)
        with libvirt_told():
            self._require_reachable(domain)
            there = PluggedDisks((), None) if vm_id is None else self._calls.plugged(vm_id)
        info = domain.images.info(volume)
        chosen = target or _target_for(there, domain, volume, bus)
        for disk in there.all():
            if disk.target == chosen and not is_volume(disk, domain, volume):
                raise errors.InvalidParameter("target", f"a free one; {chosen} is another disk")
        return _xml(domain, volume, chosen, bus, DiskOptions(serial=info.id))

    def plug(self, vm_id: UUID, asked: Plug) -> str:
        """Plug a volume in; its target. In the VM's lasting definition as well, where it has one.

        Raises:
            InvalidParameter, NoSuchVM, VMDown, MigrationInProgress, DisksBusy, NoSuchStorageDomain,
            NoSuchVolume, VolumeInUse, CephUnavailable, CephPermissionDenied, OperationNotSupported:
                nothing was changed.
            PlugConflict: another disk has the target, or the volume is plugged under another one.
            HotplugFailed: libvirt's word.
            DiskChangeStalled: it may still be plugged in.
        """
        domain = asked.domain_in(self._storage)
        self._require_reachable(domain)
        with self._changing(vm_id) as change:
            there = self._calls.plugged(vm_id)
            target = asked.target or _target_for(there, domain, asked.volume, asked.bus)
            lacks = partial(_lacks, vm_id, domain, asked.volume, target)
            live = lacks(there.live)
            lasting = there.lasting is not None and lacks(there.lasting)
            if not live and not lasting:
                return target
            with _ceph_told(vm_id, target):
                info = domain.images.info(asked.volume)
                options = with_serial(asked.options, info.id)
                xml = _xml(domain, asked.volume, target, asked.bus, options)
            if live:
                _require_unused(info)
            change.call(lambda: self._calls.plug(vm_id, target, xml, live=live, lasting=lasting))
        image = f"{domain.pool}/{asked.volume}"
        log.info("plugged %s", facts(vm=vm_id, disk=target, image=image, lasting=lasting))
        if live:
            ident = domain.settings.storage_domain_id
            self._tell(DiskPlugged(vm_id, target, ident, asked.volume))
        return target

    def unplug(self, vm_id: UUID, asked: Unplug) -> None:
        """Unplug a disk in RBD: first from the running VM, then from its lasting definition.

        Raises:
            InvalidParameter, NoSuchVM, VMDown, MigrationInProgress, DisksBusy, NoSuchStorageDomain:
                nothing was changed.
            DiskNotPlugged: it is not there.
            DiskNotReleased: the guest did not let go of it; the lasting definition is as it was.
            HotunplugFailed: libvirt's word.
            DiskChangeStalled: the guest may still be asked.
        """
        name, is_it = asked.finder(self._storage)
        with self._changing(vm_id) as change:
            there = self._calls.plugged(vm_id)
            live = [disk for disk in there.live if is_it(disk)]
            # An alias that libvirt chose stands in the running VM's XML only.
            known = {(disk.target, disk.rbd) for disk in live}
            lasting = [d for d in there.lasting or () if is_it(d) or (d.target, d.rbd) in known]
            if not live and not lasting:
                raise errors.DiskNotPlugged(vm_id, name)
            for disk in (*live, *lasting):
                if disk.rbd is None:
                    raise errors.InvalidParameter("disk", f"an RBD disk; {disk.target} is none")
            for disk in live:
                self._release(change, vm_id, disk)
                self._tell(DiskUnplugged(vm_id, disk.target))
            for disk in lasting:
                change.call(partial(self._calls.forget, vm_id, disk))
        log.info("unplugged %s", facts(vm=vm_id, disk=name, lasting=bool(lasting)))

    def _release(self, change: Change, vm_id: UUID, disk: PluggedDisk) -> None:
        if self._domains.require_running(vm_id) == "Paused":
            # Asked all the same, it would lose the disk when it is resumed, long after the answer.
            reason = "the VM is paused, and its guest was not asked"
            raise errors.DiskNotReleased(vm_id, disk.target, 0.0, reason)
        began_s = time.monotonic()
        with self._releases.awaiting(vm_id, disk.alias) as awaited:
            change.call(partial(self._calls.ask_to_release, vm_id, disk))
            asked_s = time.monotonic()
            while (left_s := asked_s + self._release_s - time.monotonic()) > 0:
                told = awaited.wait(min(left_s, _LOOK_AGAIN_S))
                if told is Happened.DEVICE_REMOVED:
                    return
                if told is Happened.DEVICE_KEPT:
                    took_s, reason = time.monotonic() - began_s, "the guest refuses to let go of it"
                    raise errors.DiskNotReleased(vm_id, disk.target, took_s, reason)
                if not self._is_there(vm_id, disk):
                    return
        reason = "the guest does not let go of it, and may still do so"
        raise errors.DiskNotReleased(vm_id, disk.target, self._release_s, reason)

    def _is_there(self, vm_id: UUID, disk: PluggedDisk) -> bool:
        return any(d.alias == disk.alias for d in self._calls.plugged(vm_id).live)

    def _require_reachable(self, domain: StorageDomain) -> None:
        """Return if libvirt can open the volumes of a domain. Raises OperationNotSupported."""
        if domain.pool.namespace and not self._calls.knows_namespaces():
            raise errors.OperationNotSupported(
                f"a disk in the namespace {domain.pool.namespace}", "libvirt 11.6 or later"
            )

    @contextmanager
    def _changing(self, vm_id: UUID) -> Iterator[Change]:
        """A change of which disks a running VM has, while nobody needs them as they are."""
        what = f"VM {vm_id}"
        with self._changes.change(what, [disks_of(vm_id), qemu_of(vm_id)], vm_id=vm_id) as change:
            self._domains.require_running(vm_id)
            if self._domains.is_migrating(vm_id):
                raise errors.MigrationInProgress(vm_id)
            window = self._leases.window_of(vm_id)
            if window is not None:
                raise errors.DisksBusy(what, f"its freeze by {window.owner} is not over")
            yield change


def _xml(domain: StorageDomain, volume: str, target: str, bus: str, options: DiskOptions) -> str:
    """The `<disk>`, with the monitors of this moment. Blocks."""
    pool, settings = domain.pool, domain.settings
    source = RbdSource(pool.pool, pool.namespace, volume, domain.monitors_now())
    user, secret_uuid = settings.user, settings.secret_uuid
    return disk_xml(RbdDiskDevice(source, user, secret_uuid, target, bus, options))


def _target_for(there: PluggedDisks, domain: StorageDomain, volume: str, bus: str) -> str:
    """The target under which a volume is plugged already, or the first free one."""
    for disk in there.all():
        if is_volume(disk, domain, volume):
            return disk.target
    taken, letters = {disk.target for disk in there.all()}, string.ascii_lowercase
    ends = itertools.chain(letters, map("".join, itertools.product(letters, letters)))
    return next(name for end in ends if (name := _PREFIX[bus] + end) not in taken)


def _lacks(
    vm_id: UUID, domain: StorageDomain, volume: str, target: str, disks: tuple[PluggedDisk, ...]
) -> bool:
    """Whether these disks lack the volume, and have room for it. Raises PlugConflict."""
    for disk in disks:
        is_it = is_volume(disk, domain, volume)
        if disk.target == target:
            if is_it:
                return False
            raise errors.PlugConflict(vm_id, target, "another disk has this target")
        if is_it:
            raise errors.PlugConflict(vm_id, target, f"{volume} is plugged as {disk.target}")
    return True


def _require_unused(info: ImageInfo) -> None:
    """Two VMs that write to one image destroy each other's file system. Raises VolumeInUse."""
    if info.watchers:
        raise errors.VolumeInUse(info.name, [watch.address for watch in info.watchers])


@contextmanager
def _ceph_told(vm_id: UUID, target: str) -> Iterator[None]:
    try:
        yield
    except errors.CephFailed as error:
        raise errors.HotplugFailed(vm_id, target, error.message) from error
