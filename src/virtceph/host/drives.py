"""What a snapshot is asked to make of each drive, checked against the VM before anything is touched."""

from __future__ import annotations

import os
from dataclasses import dataclass
from uuid import UUID

from virtceph import errors
from virtceph.host.paths import Exchange
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.schema import wire
from virtceph.virt.xml import Disk, Domain

_FORMS = (
    "`disk` and `snapshotName`, or `disk` and `path`, "
    "or `domainID`, `imageID`, `baseVolumeID` and `volumeID`"
)


@wire("SnapDrive")
@dataclass(frozen=True)
class SnapDrive:
    """One entry of `snapDrives`, in one of its three forms."""

    disk: str | None
    snapshot_name: str | None
    path: str | None
    domain_id: UUID | None
    image_id: UUID | None
    base_volume_id: UUID | None
    volume_id: UUID | None

    def form(self) -> str | None:
        """`rbd`, `file` or `vdsm`; None when it is none of them."""
        given = {name for name, value in vars(self).items() if value is not None}
        forms = {
            "rbd": {"disk", "snapshot_name"},
            "file": {"disk", "path"},
            "vdsm": {"domain_id", "image_id", "base_volume_id", "volume_id"},
        }
        return next((form for form, names in forms.items() if names == given), None)


@dataclass(frozen=True)
class RbdDrive:
    """An RBD snapshot to make."""

    target: str
    domain: StorageDomain
    image: str
    snapshot: str


@dataclass(frozen=True)
class Plan:
    """What a snapshot will make: RBD snapshots (`grouped`: at one instant, by an RBD group), overlays
    (target → path, existing ones if `reuse`), and the memory file. `targets` are all disks of the VM."""

    vm_id: UUID
    targets: list[str]
    rbd: list[RbdDrive]
    overlays: dict[str, str]
    reuse: bool
    memory_path: str | None
    grouped: bool = False

    @property
    def asks_libvirt(self) -> bool:
        """Whether there is anything for libvirt: it refuses a snapshot of nothing (code 67)."""
        return bool(self.overlays) or self.memory_path is not None

    def covered(self) -> set[str]:
        """The targets a snapshot is made of; all of them when none was named (another tool's)."""
        named = {drive.target for drive in self.rbd} | set(self.overlays)
        return named or set(self.targets)


class Planner:
    """Turns a request into a Plan, or says which field is wrong."""

    def __init__(self, storage: StorageDomains, exchange: Exchange) -> None:
        self._storage, self._exchange = storage, exchange

    def plan(
        self, vm_id: UUID, domain: Domain, drives: list[SnapDrive], memory: str | None
    ) -> Plan:
        """Check the drives against the VM's disks. Blocks on the file system only.

        Raises:
            InvalidParameter, NoSuchDrive, OperationNotSupported,
            PathNotAllowed, PathExists
        """
        rbd: list[RbdDrive] = []
        overlays: dict[str, str] = {}
        forms = {drive.form() for drive in drives}
        for index, drive in enumerate(drives):
            where = f"snapDrives[{index}]"
            form = drive.form()
            if form is None:
                raise errors.InvalidParameter(where, _FORMS)
            path = drive.path or ""
            if form == "vdsm":
                disk, path = self._vdsm(vm_id, domain, drive, where)
            else:
                disk = _disk_of(vm_id, domain, drive.disk, f"{where}.disk")
            if disk.target in overlays or any(d.target == disk.target for d in rbd):
                raise errors.InvalidParameter(
                    where, f"each disk once; {disk.target} is there twice"
                )
            if form == "rbd":
                rbd.append(self._rbd(disk, drive.snapshot_name or "", where))
                continue
            if disk.type != "file":
                raise errors.InvalidParameter(where, f"a file disk; {disk.target} is {disk.type}")
            overlay = path if form == "vdsm" else self._exchange.new_file(path)
            if overlay in overlays.values():
                raise errors.InvalidParameter(where, f"each file once; {overlay} is there twice")
            overlays[disk.target] = overlay
        if {"vdsm", "file"} <= forms:
            raise errors.InvalidParameter("snapDrives", "overlays that all exist, or all do not")
        memory_path = self._memory(memory)
        if memory_path in overlays.values():
            raise errors.InvalidParameter("snapMemory", "another file than the overlays")
        targets = [disk.target for disk in domain.disks]
        return Plan(vm_id, targets, rbd, overlays, "vdsm" in forms, memory_path)

    def plan_set(
        self,
        vm_id: UUID,
        domain: Domain,
        snapshot: str,
        targets: list[str] | None,
        memory: str | None,
        *,
        grouped: bool = False,
    ) -> Plan:
        """A set of all writable disks, or of `targets`: RBD snapshots, and overlays beside the files of
        file disks. Blocks on the file system only.

        Raises:
            InvalidParameter: a disk cannot be snapshotted, or is named twice, or none lies in RBD, or one
                cannot be `grouped` with the others.
            NoSuchDrive, PathNotAllowed, PathExists
        """
        chosen = [(disk, f"disks: {disk.target}") for disk in domain.disks]
        if targets is not None:
            wheres = [(target, f"disks[{index}]") for index, target in enumerate(targets)]
            chosen = [(_disk_of(vm_id, domain, t, where), where) for t, where in wheres]
        rbd: list[RbdDrive] = []
        overlays: dict[str, str] = {}
        for disk, where in chosen:
            if disk.target in overlays or any(d.target == disk.target for d in rbd):
                raise errors.InvalidParameter(
                    where, f"each disk once; {disk.target} is there twice"
                )
            if disk.rbd is None and disk.path is not None and disk.type == "file":
                overlays[disk.target] = _new_overlay(f"{disk.path}.{snapshot}")
            else:
                rbd.append(self._rbd(disk, snapshot, where))
        if not rbd:
            # What belongs to a set is noted on its images.
            raise errors.InvalidParameter(
                "disks", "at least one RBD disk; VM.snapshot overlays files"
            )
        if grouped:
            _require_one_home(rbd)
        memory_path = None if memory is None else self._exchange.new_file(memory)
        if memory_path in overlays.values():
            raise errors.InvalidParameter("memoryPath", "another file than the overlays")
        all_targets = [disk.target for disk in domain.disks]
        return Plan(vm_id, all_targets, rbd, overlays, False, memory_path, grouped)

    def _vdsm(self, vm_id: UUID, domain: Domain, drive: SnapDrive, where: str) -> tuple[Disk, str]:
        ending = f"/{drive.image_id}/{drive.base_volume_id}"
        for disk in domain.disks:
            if disk.path is not None and disk.path.endswith(ending):
                overlay = f"{os.path.dirname(disk.path)}/{drive.volume_id}"
                if not _may_exist(overlay):
                    raise errors.NoSuchDrive(vm_id, f"{where}.volumeID", f"the overlay {overlay}")
                return disk, overlay
        raise errors.NoSuchDrive(
            vm_id, f"{where}.baseVolumeID", f"a disk whose source ends in {ending}"
        )

    def _rbd(self, disk: Disk, snapshot: str, where: str) -> RbdDrive:
        if disk.rbd is None:
            raise errors.InvalidParameter(where, f"an RBD disk; {disk.target} is {disk.type}")
        domain = self._storage.of(disk.rbd)
        if domain is None:
            raise errors.InvalidParameter(
                where, f"a connected storage domain with the pool {disk.rbd.pool}"
            )
        return RbdDrive(disk.target, domain, disk.rbd.image, snapshot)

    def _memory(self, memory: str | None) -> str | None:
        if memory is None:
            return None
        if "," in memory:
            raise errors.OperationNotSupported(
                "snapMemory as volume ids", "a path under an exchange directory"
            )
        return self._exchange.new_file(memory)


def _require_one_home(rbd: list[RbdDrive]) -> None:
    """Return if one user can make a group of all these images. Raises InvalidParameter."""
    homes = {(d.domain.cluster.fsid, d.domain.settings.user, d.domain.pool.namespace) for d in rbd}
    if len(homes) > 1:
        raise errors.InvalidParameter(
            "method",
            "`parallel`; `group` is for disks of one cluster and one namespace, as one user",
        )


def _disk_of(vm_id: UUID, domain: Domain, target: str | None, field: str) -> Disk:
    for disk in domain.disks:
        if disk.target == target:
            return disk
    targets = ", ".join(disk.target for disk in domain.disks)
    raise errors.NoSuchDrive(vm_id, field, f"one of {targets}")


def _new_overlay(path: str) -> str:
    try:
        os.lstat(path)
    except OSError:
        # Not there; or not ours to see, and then libvirt judges.
        return path
    raise errors.PathExists(path)


def _may_exist(path: str) -> bool:
    """False only when the file is surely missing; what we may not see is libvirt's to judge."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
