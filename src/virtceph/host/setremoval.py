"""Removing sets of snapshots: all their images side by side, each bounded."""

from __future__ import annotations

import contextlib
import logging

from virtceph import errors
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


def remove_sets(found: list[FoundSet], timeout_s: float) -> None:
    """Remove the RBD snapshots of sets, one set after the other, a set's images side by side. Overlays and
    memory files are left. Blocks up to `timeout_s` for each set.

    Nothing of a set is removed while a part of it is protected. What is gone already is removed; all images
    of a set are tried before an error is raised.

    Raises:
        SnapshotProtected, LockOwnerStalled, CephUnavailable, CephPermissionDenied, CephFailed
    """
    for one in found:
        _require_unprotected(one)
        failure = None
        outcomes = on_all(one.members, "remove_snapshot", _arguments, in_workers(timeout_s))
        for member, outcome in outcomes:
            told = facts(image=member.image, snapshot=member.snapshot.name, set=one.note.set_id)
            error = failure_of(outcome, member.image, timeout_s)
            if error is None or isinstance(error, errors.NoSuchSnapshot | errors.NoSuchVolume):
                log.info("deleted snapshot %s", told)
            else:
                log.warning("snapshot not deleted %s reason=%r", told, error.message)
                failure = failure or error
        if failure is not None:
            raise failure


def _require_unprotected(one: FoundSet) -> None:
    for member in one.members:
        with contextlib.suppress(errors.NoSuchSnapshot, errors.NoSuchVolume):  # gone since
            if member.domain.images.is_protected(member.image, member.snapshot.name):
                raise errors.SnapshotProtected(member.image, member.snapshot.name)


def _arguments(member: Member) -> dict[str, object]:
    # By its number too: somebody may have made another of the same name.
    snapshot = member.snapshot
    return {"name": member.image, "snapshot": snapshot.name, "snap_id": snapshot.id}
