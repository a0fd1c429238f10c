"""Restoring a set: its disks rolled back and its memory loaded, or its disks cloned beside the originals."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.workers import Outcome
from virtceph.host.cloning import Cloner
from virtceph.host.groupsnapshots import run_on_group
from virtceph.host.savedmemory import SavedMemory
from virtceph.host.setnotes import FoundSet, Member
from virtceph.host.sidebyside import failure_of, in_workers, on_all
from virtceph.log import facts
from virtceph.schema import wire
from virtceph.virt.xml import Domain

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RestoreRequest:
    """The arguments of VM.restoreConsistentSnapshot; equal ones under one job id are one job."""

    vm_id: UUID
    snapshot_name: str
    into: str
    clone_prefix: str | None
    with_memory: bool | None


@wire("RestoredDisk")
@dataclass(frozen=True)
class RestoredDisk:
    disk: str
    pool: str
    namespace: str
    volume_name: str


@wire("RestoreResult")
@dataclass(frozen=True)
class RestoreResult:
    snapshot_name: str
    into: str
    disks: list[RestoredDisk]
    memory_path: str | None = None
    guest: str | None = None


class Restorer:
    """Brings sets back. What a set's note names is done only to images that carry the note themselves."""

    def __init__(self, memory: SavedMemory, cloner: Cloner) -> None:
        self._memory, self._cloner = memory, cloner

    def check(self, asked: RestoreRequest, status: str) -> None:
        """What can be refused at once. Raises InvalidParameter, VMRunning."""
        if asked.into == "clones":
            if asked.clone_prefix is None:
                raise errors.InvalidParameter("clonePrefix", "a prefix, for into=clones")
            if asked.with_memory:
                # It knows the disks by the names of the originals.
                raise errors.InvalidParameter("withMemory", "no memory, for into=clones")
            return
        if asked.clone_prefix is not None:
            raise errors.InvalidParameter("clonePrefix", "no prefix, for into=rollback")
        if status != "Down":
            raise errors.VMRunning(asked.vm_id, status)

    def restore(self, asked: RestoreRequest, domain: Domain, found: FoundSet) -> RestoreResult:
        """Restore a set. Blocks: a rollback as long as it takes, each request to the cluster bounded, and
        then libvirt's loading of the memory.

        Raises:
            NoSuchSnapshot: a part of the set is gone.
            OperationNotSupported: a file disk is part of it, or a disk is no longer the VM's.
            PathNotAllowed, MemoryUnusable: its memory cannot be restored; no disk was touched.
            LibvirtUnavailable, LibvirtFailed: the disks are rolled back, the memory could not be loaded.
            VolumeInUse, VolumeExists, InvalidParameter, LockOwnerStalled, CephUnavailable,
            CephPermissionDenied, CephFailed
        """
        if found.missing:
            raise errors.NoSuchSnapshot(_image_of(found), asked.snapshot_name)
        if asked.into == "clones":
            prefix = asked.clone_prefix or ""
            self._cloner.clone(asked.vm_id, found, prefix)
            disks = [_restored(member, prefix + member.image) for member in found.members]
            result = RestoreResult(asked.snapshot_name, asked.into, disks)
        else:
            result = self._bring_back(asked, domain, found)
        log.info("restored %s", facts(vm=asked.vm_id, set=found.note.set_id, into=asked.into))
        return result

    def _bring_back(self, asked: RestoreRequest, domain: Domain, found: FoundSet) -> RestoreResult:
        path = self._memory_of(asked, found)
        result = RestoreResult(
            asked.snapshot_name, asked.into, self._roll_back(found, domain), path
        )
        if path is None:
            return result
        frozen = found.note.frozen_for_s is not None
        return replace(result, guest=self._memory.restore(asked.vm_id, path, frozen=frozen))

    def _memory_of(self, asked: RestoreRequest, found: FoundSet) -> str | None:
        """The file of the memory to restore, or None."""
        has_memory = found.note.memory_path is not None
        if asked.with_memory and not has_memory:
            raise errors.InvalidParameter("withMemory", "a set that has memory")
        wanted = has_memory and asked.with_memory is not False
        return self._memory.check(asked.vm_id, found) if wanted else None

    def _roll_back(self, found: FoundSet, domain: Domain) -> list[RestoredDisk]:
        if any(disk.path is not None for disk in found.note.disks):
            what = "to roll a file disk back"
            raise errors.OperationNotSupported(what, "a set of RBD disks; or into=clones")
        for member in found.members:
            if not any(map(member.lies_under, domain.disks)):
                what = f"to roll back {member.image}, which is no disk of the VM any more"
                raise errors.OperationNotSupported(what, "disks that the VM has; or into=clones")
        for member in found.members:
            # All are asked before any is touched; each worker asks again.
            users = member.domain.images.watcher_addresses(member.image)
            if users:
                raise errors.VolumeInUse(member.image, users)
        # The cluster bounds each request; how many there are grows with the image.
        if found.group is not None:
            outcome = run_on_group(found, found.group, "roll_back_group", float("inf"))
            outcomes = [(found.members[0], outcome)]
        else:
            outcomes = on_all(found.members, "roll_back", _snapshot, in_workers(float("inf")))
        _raise_first(outcomes, float("inf"))
        return [_restored(member, member.image) for member in found.members]


def _raise_first(outcomes: list[tuple[Member, Outcome]], timeout_s: float) -> None:
    for member, outcome in outcomes:
        error = failure_of(outcome, member.image, timeout_s)
        if error is not None:
            raise error


def _snapshot(member: Member) -> dict[str, Any]:
    snapshot = member.snapshot
    return {"name": member.image, "snapshot": snapshot.name, "snap_id": snapshot.id}


def _restored(member: Member, image: str) -> RestoredDisk:
    pool = member.domain.pool
    return RestoredDisk(member.disk.disk, pool.pool, pool.namespace, image)


def _image_of(found: FoundSet) -> str:
    """An image whose snapshot is missing."""
    gone = found.missing[0].disk
    return next(d.volume_name or "" for d in found.note.disks if d.disk == gone)
