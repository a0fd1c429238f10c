"""Removing sets of snapshots: all their images side by side, each bounded."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from uuid import UUID

from virtceph import errors
from virtceph.ceph.workers import Outcome
from virtceph.host.groupsnapshots import run_on_group
from virtceph.host.setnotes import FoundSet, Member
from virtceph.host.sidebyside import failure_of, in_workers, on_all
from virtceph.log import facts
from virtceph.virt.xml import Domain

log = logging.getLogger(__name__)


def of_name(found: list[FoundSet], name: str, domain: Domain) -> list[FoundSet]:
    """The sets of a name, oldest first, at least one. Raises NoSuchSnapshot."""
    named = [one for one in found if one.note.snapshot_name == name]
    if not named:
        images = [disk.rbd.image for disk in domain.disks if disk.rbd is not None]
        raise errors.NoSuchSnapshot(", ".join(images), name)
    return named


def remove_set(one: FoundSet, timeout_s: float) -> None:
    """Remove the RBD snapshots of a set, its images side by side. Overlays and memory files are left. Blocks
    up to `timeout_s`.

    Nothing of a set is removed while a part of it is protected. What is gone already is removed; all images
    are tried before an error is raised.

    Raises:
        SnapshotProtected, LockOwnerStalled, CephUnavailable, CephPermissionDenied, CephFailed
    """
    _require_unprotected(one)
    failure = None
    for member, outcome in _remove(one, timeout_s):
        told = facts(image=member.image, snapshot=member.snapshot.name, set=one.note.set_id)
        error = failure_of(outcome, member.image, timeout_s)
        if error is None or isinstance(error, errors.NoSuchSnapshot | errors.NoSuchVolume):
            log.info("deleted snapshot %s", told)
        else:
            log.warning("snapshot not deleted %s %s", told, facts(reason=error))
            failure = failure or error
    if failure is not None:
        raise failure


def prune_sets(
    vm_id: UUID,
    sets: list[FoundSet],
    timeout_s: float,
    on_removed: Callable[[FoundSet], None],
) -> None:
    """Remove sets, one after the other; `on_removed` is called with each. Blocks up to `timeout_s` for each.
    Raises PruneFailed when some could not be removed: the others were."""
    deleted, failed, reasons = [], [], []
    for one in sets:
        try:
            remove_set(one, timeout_s)
        except errors.VirtcephError as error:
            failed.append(one.note.snapshot_name)
            reasons.append(error.message)
        else:
            deleted.append(one.note.snapshot_name)
            on_removed(one)
    if failed:
        raise errors.PruneFailed(vm_id, failed, reasons[0], deleted)


def _remove(one: FoundSet, timeout_s: float) -> list[tuple[Member, Outcome]]:
    if one.group is None:
        return on_all(one.members, "remove_snapshot", _arguments, in_workers(timeout_s))
    outcome = run_on_group(one, one.group, "remove_group", timeout_s)
    return [(member, outcome) for member in one.members]


def _require_unprotected(one: FoundSet) -> None:
    if one.group is not None:
        return  # librbd protects no snapshot of a group
    for member in one.members:
        with contextlib.suppress(errors.NoSuchSnapshot, errors.NoSuchVolume):  # gone since
            if member.domain.images.is_protected(member.image, member.snapshot.name):
                raise errors.SnapshotProtected(member.image, member.snapshot.name)


def _arguments(member: Member) -> dict[str, object]:
    # By its number too: somebody may have made another of the same name.
    snapshot = member.snapshot
    return {"name": member.image, "snapshot": snapshot.name, "snap_id": snapshot.id}
