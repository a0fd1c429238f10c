"""Deleting volumes: why not, what would make it possible, and what force does of that.

Everything is looked at before anything is done. What force removes is the image's own; nobody is cut off,
and nothing of another image is touched.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from uuid import UUID

from virtceph import errors, request
from virtceph.ceph.workers import NoReply
from virtceph.host.obstacles import Known, Obstacle, obstacles
from virtceph.host.oneimage import MARGIN_S, full_told, run
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.host.users import ImageUsers, VolumeVM
from virtceph.log import facts
from virtceph.schema import wire

log = logging.getLogger(__name__)

_SNAPSHOTS = {"snapshot", "protected-snapshot", "group-snapshot", "deleted-snapshot"}
# Nobody follows more steps than that, and the first ones tell what it is about.
_TOLD_STEPS = 200
# What a worker finds although it was not there when the image was looked at.
_CHANGED = (
    errors.VolumeInUse,
    errors.VolumeHasSnapshots,
    errors.VolumeNotDeletable,
    errors.LockOwnerStalled,
    errors.SnapshotProtected,
)


@wire("DeletionPlan")
@dataclass(frozen=True)
class DeletionPlan:
    volume_name: str
    deletable: bool
    forceable: bool
    steps: list[Obstacle]
    step_count: int


class Deletions:
    """Every method blocks, and raises NoSuchStorageDomain, PoolFull, CephUnavailable or CephFailed beside
    what it names."""

    def __init__(self, storage: StorageDomains, users: ImageUsers) -> None:
        self._storage, self._users = storage, users

    def explain(self, storage_domain_id: UUID, name: str) -> DeletionPlan:
        """What has to be done before an image can be deleted. Raises NoSuchVolume, CephPermissionDenied."""
        found = obstacles(self.look_at(self._storage.get(storage_domain_id), name))
        forceable = all(one.forced for one in found)
        return DeletionPlan(name, not found, forceable, found[:_TOLD_STEPS], len(found))

    def delete(self, storage_domain_id: UUID, name: str, force: bool) -> None:
        """Delete an image that nothing stands in the way of; with `force` also one with snapshots of its own
        that nobody protects or has cloned, or in a group that a set of ours left.

        Raises:
            NoSuchVolume, VolumeInUse, VolumeHasSnapshots, VolumeNotDeletable, CephPermissionDenied
        """
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            try:
                known = self.look_at(domain, name)
            except errors.NoSuchVolume:
                if not _finish(domain, name):
                    raise
                domain.changed("deleted", name)
                return
            found = obstacles(known)
            if not all(force and one.forced for one in found):
                raise refusal(known, found)
            try:
                _delete(known)
            except _CHANGED as error:
                raise self._changed(domain, name, error) from error
        log.info("deleted %s", facts(image=known.path, force=force))
        domain.changed("deleted", name)

    def look_at(self, domain: StorageDomain, name: str) -> Known:
        """An image, and what is to be known to delete it. Raises NoSuchVolume, CephPermissionDenied."""
        found = domain.images.details(name, brief=True)
        return Known(
            self._storage, domain, found.info, found.clones, self._vms(domain, found.info.name)
        )

    def _vms(self, domain: StorageDomain, name: str) -> list[VolumeVM] | None:
        try:
            return self._users.vms_of(domain, name)
        except errors.LibvirtUnavailable:
            return None

    def _changed(
        self, domain: StorageDomain, name: str, error: errors.VirtcephError
    ) -> errors.VirtcephError:
        """What to tell when the image was not any more what it was a moment ago."""
        known = self.look_at(domain, name)
        found = obstacles(known)
        return refusal(known, found) if found else gone_again(error)


def gone_again(error: errors.VirtcephError) -> errors.CephUnavailable:
    """The error of what somebody was in the way of, and is no more."""
    return errors.CephUnavailable(f"a moment ago: {error.message}; ask again")


def refusal(known: Known, found: list[Obstacle]) -> errors.VirtcephError:
    """The error that tells what is in the way."""
    name, steps = known.info.name, [str(one) for one in found[:_TOLD_STEPS]]
    if known.info.watchers:
        return errors.VolumeInUse(name, [w.address for w in known.info.watchers], steps)
    if {one.obstacle for one in found} <= _SNAPSHOTS:
        names = [snap.name for snap in known.info.snapshots]
        return errors.VolumeHasSnapshots(name, names, steps)
    reasons = [one.what for one in found if one.obstacle not in _SNAPSHOTS]
    return errors.VolumeNotDeletable(name, "; ".join(reasons[:_TOLD_STEPS]), steps)


def _delete(known: Known) -> None:
    name = known.info.name
    if known.info.group is not None:
        group = {"pool": known.info.group_pool, "group": known.info.group}
        _run(known.domain, "leave_group", name=name, **group)
    snapshots = known.forced_snapshots()
    if snapshots:
        _run(known.domain, "remove_snapshots", name=name, snap_ids=snapshots)
    _run(known.domain, "remove", name=name)


def _finish(domain: StorageDomain, name: str) -> bool:
    """Go on with a deletion that was cut short: librbd moves an image to the trash before it removes it, and
    removes its name last. False when there is none."""
    for entry in domain.images.trash():
        if (entry.name, entry.source) == (name, "removing"):
            which = {"entry_id": entry.id, "name": name}
            with contextlib.suppress(errors.NotInTrash):  # somebody else was quicker
                _run(domain, "purge", **which, with_snapshots=False, removing=True)
            return True
    return _run(domain, "remove_half_made", name=name) is True


def _run(domain: StorageDomain, operation: str, **arguments: object) -> object:
    # Its length grows with the image, and librbd cannot be told to stop.
    outcome = run(domain, operation, request.current().left_s() - MARGIN_S, **arguments)
    if isinstance(outcome, NoReply):
        raise errors.CephUnavailable("deleting took too long; repeat it to go on")
    return outcome
