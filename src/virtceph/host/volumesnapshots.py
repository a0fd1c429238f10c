"""The snapshots of one volume: made, deleted, and gone back to."""

from __future__ import annotations

import logging
from uuid import UUID

from virtceph import errors
from virtceph.ceph.workers import NoReply
from virtceph.host.names import SnapshotNames
from virtceph.host.oneimage import full_told, run
from virtceph.host.onesnapshot import take_snapshot
from virtceph.host.storage import StorageDomains
from virtceph.log import facts

log = logging.getLogger(__name__)


class VolumeSnapshots:
    """Every method blocks, and raises NoSuchStorageDomain, PoolFull, CephUnavailable or CephFailed beside
    what it names."""

    def __init__(
        self, storage: StorageDomains, snapshot_timeout_s: float, names: SnapshotNames
    ) -> None:
        self._storage, self._snapshot_timeout_s = storage, snapshot_timeout_s
        self._names = names

    def create(self, storage_domain_id: UUID, name: str, snapshot: str) -> None:
        """Snapshot an image.

        Raises:
            NoSuchVolume, SnapshotExists, LockOwnerStalled, VolumeNotPrimary, CephPermissionDenied
        """
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            take_snapshot(domain, self._names, name, snapshot, self._snapshot_timeout_s)
        log.info("made snapshot %s", facts(image=f"{domain.pool}/{name}", snapshot=snapshot))
        domain.changed("snapshot-made", name, snapshot_name=snapshot)

    def delete(self, storage_domain_id: UUID, name: str, snapshot: str) -> None:
        """Delete a snapshot.

        Raises:
            NoSuchVolume, NoSuchSnapshot, SnapshotProtected, LockOwnerStalled, VolumeNotPrimary,
            CephPermissionDenied
        """
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            outcome = run(
                domain, "remove_snapshot", self._snapshot_timeout_s, name=name, snapshot=snapshot
            )
            if isinstance(outcome, NoReply) and domain.images.has_snapshot(name, snapshot):
                raise errors.LockOwnerStalled(name, self._snapshot_timeout_s)
        log.info("deleted snapshot %s", facts(image=f"{domain.pool}/{name}", snapshot=snapshot))
        domain.changed("snapshot-deleted", name, snapshot_name=snapshot)

    def roll_back(self, storage_domain_id: UUID, name: str, snapshot: str) -> None:
        """Bring an image that nobody has open back to a snapshot. Blocks until that is done: its length
        grows with the image, and an image that is half rolled back is worth nothing. Each request to the
        cluster is bounded.

        Raises:
            NoSuchVolume, NoSuchSnapshot, VolumeInUse, LockOwnerStalled, VolumeNotPrimary,
            CephPermissionDenied
        """
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            snap_id = domain.images.snapshot_id(name, snapshot)
            outcome = run(
                domain, "roll_back", float("inf"), name=name, snapshot=snapshot, snap_id=snap_id
            )
            if isinstance(outcome, NoReply):
                raise errors.CephUnavailable(
                    "the worker process ended; the image is partly rolled back, so do it again"
                )
        log.info("rolled back %s", facts(image=f"{domain.pool}/{name}", snapshot=snapshot))
        domain.changed("rolled-back", name, snapshot_name=snapshot)
