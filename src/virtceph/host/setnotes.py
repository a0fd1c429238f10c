"""Sets of snapshots that belong together: what is noted of them on their images, and read back.

The notes are the only memory of a set: any host that reaches the images can read them. What stands in
them was written by whoever may write to the pool, so nothing is done by a note alone: each snapshot has
its own, on its own image, with that image's and that snapshot's ids.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.snapshotlist import Snapshot
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.schema import wire
from virtceph.virt.xml import Disk, Domain

# The year 10000, of which `datetime` knows nothing.
_LAST_S = 253402300800.0


@wire("SetDisk")
@dataclass(frozen=True)
class SetDisk:
    """One disk of a set: an RBD image, or (`path`) a file and the overlay beside it."""

    disk: str
    pool: str | None
    namespace: str | None
    volume_name: str | None
    path: str | None


@wire("MissingDisk")
@dataclass(frozen=True)
class MissingDisk:
    disk: str
    reason: str


@wire("SnapshotSet")
@dataclass(frozen=True)
class SnapshotSet:
    """A set as callers are told of it."""

    set_id: UUID
    snapshot_name: str
    created_at_s: float
    consistency: str
    reason: str
    frozen_for_s: float | None
    steps: dict[str, float]
    description: str | None
    memory_path: str | None
    disks: list[SetDisk]
    complete: bool
    missing: list[MissingDisk]
    method: str


@dataclass(frozen=True)
class SetNote:
    """What is noted on each image of a set. `fsids` are the clusters of its disks, "" for files; `method` is
    `parallel` or `group`."""

    set_id: UUID
    vm_id: UUID
    vm_name: str
    snapshot_name: str
    created_at_s: float
    consistency: str
    reason: str
    frozen_for_s: float | None
    steps: dict[str, float]
    description: str | None
    memory_path: str | None
    disks: tuple[SetDisk, ...]
    fsids: tuple[str, ...]
    method: str = "parallel"

    def told(self, missing: list[MissingDisk]) -> SnapshotSet:
        """The set for callers, with what is missing of it."""
        return SnapshotSet(
            self.set_id,
            self.snapshot_name,
            self.created_at_s,
            self.consistency,
            self.reason,
            self.frozen_for_s,
            self.steps,
            self.description,
            self.memory_path,
            list(self.disks),
            not missing,
            missing,
            self.method,
        )

    def dump(self) -> dict[str, Any]:
        """The note as JSON values. The worker that writes it adds the image's and the snapshot's ids."""
        return {
            "setID": str(self.set_id),
            "vmID": str(self.vm_id),
            "vmName": self.vm_name,
            "snapshotName": self.snapshot_name,
            "created": self.created_at_s,
            "consistency": self.consistency,
            "reason": self.reason,
            "frozenFor": self.frozen_for_s,
            "steps": {name: round(seconds, 6) for name, seconds in self.steps.items()},
            "description": self.description,
            "memoryPath": self.memory_path,
            "method": self.method,
            "disks": [
                {"fsid": fsid, **_dump_disk(disk)}
                for disk, fsid in zip(self.disks, self.fsids, strict=True)
            ],
        }


def read_note(untrusted: dict[str, Any]) -> SetNote | None:
    """The note in JSON values, or None when it is none of ours."""
    try:
        disks = untrusted["disks"]
        return SetNote(
            UUID(untrusted["setID"]),
            UUID(untrusted["vmID"]),
            _text(untrusted["vmName"]),
            _text(untrusted["snapshotName"]),
            _moment_s(untrusted["created"]),
            {"filesystem": "filesystem", "crash": "crash"}[untrusted["consistency"]],
            _text(untrusted["reason"]),
            None if untrusted["frozenFor"] is None else _number(untrusted["frozenFor"]),
            {_text(name): _number(value) for name, value in untrusted["steps"].items()},
            _text_or_none(untrusted["description"]),
            _text_or_none(untrusted["memoryPath"]),
            tuple(_read_disk(disk) for disk in disks),
            tuple(_text(disk["fsid"]) for disk in disks),
            {"parallel": "parallel", "group": "group"}[untrusted.get("method", "parallel")],
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


@dataclass(frozen=True)
class Member:
    """One RBD snapshot of a set that is there, with its note on its own image."""

    disk: SetDisk
    domain: StorageDomain
    image: str
    snapshot: Snapshot

    def lies_under(self, disk: Disk) -> bool:
        """Whether a disk is this member's image."""
        source = disk.rbd
        return source is not None and source.image == self.image and self.domain.owns(source)


@dataclass(frozen=True)
class FoundSet:
    """A set, as far as it is there. `home` is the storage domain of its first image, in whose pool its group
    lies, if that is connected."""

    note: SetNote
    members: tuple[Member, ...]
    missing: list[MissingDisk]
    home: StorageDomain | None

    @property
    def group(self) -> str | None:
        """The RBD group that holds its snapshots, as it is called by now."""
        return self.members[0].snapshot.group if self.members else None

    def told(self) -> SnapshotSet:
        return self.note.told(self.missing)


class SetNotes:
    """Reads the notes of sets from images. Every method blocks."""

    def __init__(self, storage: StorageDomains) -> None:
        self._storage = storage

    def of(self, vm_id: UUID, domain: Domain) -> list[FoundSet]:
        """The sets of a VM, oldest first, by the notes on the images of its disks that lie in connected
        storage domains.

        Raises:
            CephUnavailable, CephPermissionDenied, CephFailed
        """
        notes: dict[UUID, SetNote] = {}
        seen: dict[tuple[StorageDomain, str], list[Snapshot]] = {}
        for disk in domain.disks:
            for note in self._notes_on(disk, seen):
                if note.vm_id == vm_id:
                    notes.setdefault(note.set_id, note)
        found = [self._find(note, seen) for note in notes.values()]
        return sorted(found, key=lambda one: one.note.created_at_s)

    def _notes_on(
        self, disk: Disk, seen: dict[tuple[StorageDomain, str], list[Snapshot]]
    ) -> Iterable[SetNote]:
        domain = self._storage.of(disk.rbd) if disk.rbd is not None else None
        if domain is None or disk.rbd is None:
            return []
        raw = [s.set_note for s in _snapshots(domain, disk.rbd.image, seen)]
        notes = [read_note(note) for note in raw if note is not None]
        return [note for note in notes if note is not None]

    def _find(
        self, note: SetNote, seen: dict[tuple[StorageDomain, str], list[Snapshot]]
    ) -> FoundSet:
        members, missing, homes = [], [], []
        for disk, fsid in zip(note.disks, note.fsids, strict=True):
            if disk.volume_name is None:
                continue
            domain = self._storage.find(fsid, disk.pool or "", disk.namespace or "")
            homes.append(domain)
            if domain is None:
                missing.append(MissingDisk(disk.disk, "its storage domain is not connected"))
                continue
            snapshot = _own(note, _snapshots(domain, disk.volume_name, seen))
            if snapshot is None:
                missing.append(MissingDisk(disk.disk, "its snapshot is gone"))
            else:
                members.append(Member(disk, domain, disk.volume_name, snapshot))
        return FoundSet(note, tuple(members), missing, homes[0] if homes else None)


def _snapshots(
    domain: StorageDomain, image: str, seen: dict[tuple[StorageDomain, str], list[Snapshot]]
) -> list[Snapshot]:
    """The snapshots of an image, asked for once; none of an image that is gone."""
    if (domain, image) not in seen:
        try:
            seen[domain, image] = domain.images.snapshots(image, of_groups=True)
        except errors.NoSuchVolume:
            seen[domain, image] = []
    return seen[domain, image]


def _own(note: SetNote, snapshots: list[Snapshot]) -> Snapshot | None:
    """The image's snapshot that says itself that it is of this set, whatever it is called by now."""
    for snapshot in snapshots:
        if snapshot.set_note is not None and (snapshot.group is None) == (note.method != "group"):
            own = read_note(snapshot.set_note)
            if own is not None and (own.set_id, own.vm_id) == (note.set_id, note.vm_id):
                return snapshot
    return None


def _dump_disk(disk: SetDisk) -> dict[str, Any]:
    if disk.path is not None:
        return {"disk": disk.disk, "path": disk.path}
    return {
        "disk": disk.disk,
        "pool": disk.pool,
        "namespace": disk.namespace,
        "volumeName": disk.volume_name,
    }


def _read_disk(untrusted: dict[str, Any]) -> SetDisk:
    disk = _text(untrusted["disk"])
    if "path" in untrusted:
        return SetDisk(disk, None, None, None, _text(untrusted["path"]))
    pool, namespace, image = (_text(untrusted[n]) for n in ("pool", "namespace", "volumeName"))
    return SetDisk(disk, pool, namespace, image, None)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _text_or_none(value: object) -> str | None:
    return None if value is None else _text(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _moment_s(value: object) -> float:
    moment_s = _number(value)
    if not 0 <= moment_s < _LAST_S:
        raise ValueError
    return moment_s
