"""Volumes: RBD images of connected storage domains, and what must hold before they are changed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from uuid import UUID

from virtceph import errors, request
from virtceph.ceph.images import Watch
from virtceph.ceph.workers import Call, NoReply
from virtceph.host.names import SnapshotNames
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts
from virtceph.schema import wire

log = logging.getLogger(__name__)

_NEEDS = {"object-map": "exclusive-lock", "fast-diff": "object-map"}
# Time kept of a deadline for the reply itself.
_MARGIN_S = 1.0


wire("Watcher")(Watch)


@wire("VolumeInfo")
@dataclass(frozen=True)
class VolumeInfo:
    volume_name: str
    id: str
    size_bytes: int
    object_size_bytes: int
    features: list[str]
    data_pool: str | None
    created_at_s: float
    parent: str | None
    snapshots: int
    watchers: list[Watch]
    lock_owner: str | None
    metadata: dict[str, str]


@wire("VolumeSummary")
@dataclass(frozen=True)
class VolumeSummary:
    volume_name: str
    size_bytes: int


@wire("SnapshotInfo")
@dataclass(frozen=True)
class SnapshotInfo:
    snapshot_name: str
    id: int
    size_bytes: int
    created_at_s: float
    consistency: str | None


class Volumes:
    """What callers do to images. Every method blocks, and raises NoSuchStorageDomain,
    CephUnavailable or CephFailed beside what it names."""

    def __init__(
        self, storage: StorageDomains, snapshot_timeout_s: float, names: SnapshotNames
    ) -> None:
        self._storage, self._snapshot_timeout_s = storage, snapshot_timeout_s
        self._names = names

    def create(
        self,
        storage_domain_id: UUID,
        name: str,
        size_bytes: int,
        object_size_bytes: int,
        features: list[str],
        data_pool: str | None,
    ) -> None:
        """Create an image, or find it made with the same arguments.

        Raises:
            InvalidParameter, VolumeExists, NoSuchPool, CephPermissionDenied
        """
        if object_size_bytes & (object_size_bytes - 1):
            raise errors.InvalidParameter("objectSize", "a power of two from 4096 to 33554432")
        for feature in features:
            if _NEEDS.get(feature, feature) not in features:
                raise errors.InvalidParameter("features", f"{_NEEDS[feature]} with {feature}")
        images = self._storage.get(storage_domain_id).images
        try:
            images.create(name, size_bytes, object_size_bytes, features, data_pool)
        except errors.VolumeExists:
            found = images.info(name)
            same = (found.size_bytes, found.object_size_bytes, found.data_pool, set(features)) == (
                size_bytes,
                object_size_bytes,
                data_pool,
                set(found.features) - {"data-pool", "operations"},
            )
            if not same:
                raise

    def delete(self, storage_domain_id: UUID, name: str) -> None:
        """Delete an image without snapshots that nobody has open.

        Raises:
            NoSuchVolume, VolumeInUse, VolumeHasSnapshots, CephPermissionDenied
        """
        domain = self._storage.get(storage_domain_id)
        info = domain.images.info(name)
        if info.snapshots:
            raise errors.VolumeHasSnapshots(name, info.snapshots)
        if info.watchers:
            raise errors.VolumeInUse(name, [watch.address for watch in info.watchers])
        # Its length grows with the image, and librbd cannot be told to stop.
        outcome = _run(domain, "remove", request.current().left_s() - _MARGIN_S, name=name)
        if isinstance(outcome, NoReply):
            raise errors.CephUnavailable("deleting took too long; repeat it to go on")

    def info(self, storage_domain_id: UUID, name: str) -> VolumeInfo:
        """All about an image. Raises NoSuchVolume."""
        found = self._storage.get(storage_domain_id).images.info(name)
        return VolumeInfo(
            volume_name=found.name,
            id=found.id,
            size_bytes=found.size_bytes,
            object_size_bytes=found.object_size_bytes,
            features=found.features,
            data_pool=found.data_pool,
            created_at_s=found.created_at_s,
            parent=found.parent,
            snapshots=len(found.snapshots),
            watchers=found.watchers,
            lock_owner=found.lock_owner,
            metadata=found.metadata,
        )

    def page(self, storage_domain_id: UUID, limit: int, after: str) -> list[VolumeSummary]:
        """Images and their sizes in the order of names, at most `limit`, those after `after`."""
        images = self._storage.get(storage_domain_id).images
        return [VolumeSummary(name, size) for name, size in images.sizes(after, limit)]

    def create_snapshot(self, storage_domain_id: UUID, name: str, snapshot: str) -> None:
        """Snapshot an image.

        Raises:
            NoSuchVolume, SnapshotExists, LockOwnerStalled, CephPermissionDenied
        """
        domain = self._storage.get(storage_domain_id)
        with self._names.reserve([domain.snapshot_name(name, snapshot)]):
            self._create_snapshot(domain, name, snapshot)
        log.info("made snapshot %s", facts(image=f"{domain.pool}/{name}", snapshot=snapshot))

    def _create_snapshot(self, domain: StorageDomain, name: str, snapshot: str) -> None:
        outcome = _run(
            domain, "create_snapshot", self._snapshot_timeout_s, name=name, snapshot=snapshot
        )
        if isinstance(outcome, NoReply):
            if not outcome.begun:
                raise errors.CephUnavailable("the image could not be opened in time")
            # Its name was free, so a snapshot that is there now is the one that was asked for.
            if not domain.images.has_snapshot(name, snapshot):
                domain.give_up(self._names, name, snapshot, self._snapshot_timeout_s)
                raise errors.LockOwnerStalled(name, self._snapshot_timeout_s)

    def delete_snapshot(self, storage_domain_id: UUID, name: str, snapshot: str) -> None:
        """Delete a snapshot.

        Raises:
            NoSuchVolume, NoSuchSnapshot, SnapshotProtected, LockOwnerStalled, CephPermissionDenied
        """
        domain = self._storage.get(storage_domain_id)
        outcome = _run(
            domain, "remove_snapshot", self._snapshot_timeout_s, name=name, snapshot=snapshot
        )
        if isinstance(outcome, NoReply) and domain.images.has_snapshot(name, snapshot):
            raise errors.LockOwnerStalled(name, self._snapshot_timeout_s)
        log.info("deleted snapshot %s", facts(image=f"{domain.pool}/{name}", snapshot=snapshot))

    def snapshots(self, storage_domain_id: UUID, name: str) -> list[SnapshotInfo]:
        """The snapshots of an image, oldest first. Raises NoSuchVolume."""
        images = self._storage.get(storage_domain_id).images
        return [
            SnapshotInfo(s.name, s.id, s.size_bytes, s.created_at_s, s.consistency)
            for s in images.snapshots(name)
        ]


def _run(domain: StorageDomain, operation: str, timeout_s: float, **arguments: str) -> object:
    """One operation in a worker: its result or NoReply; its error is raised. Blocks."""
    (outcome,) = domain.workers.run([Call(operation, domain.pool, arguments)], timeout_s)
    if isinstance(outcome, errors.VirtcephError):
        raise outcome
    return outcome
