"""Volumes: RBD images of connected storage domains, made, renamed and limited.

What is asked again with the same arguments, because its reply was lost, finds what it did: see
docs/decisions/0009-asking-twice.md.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from uuid import UUID

from virtceph import errors
from virtceph.ceph.changes import is_renamed_from
from virtceph.ceph.qos import Qos, qos_of
from virtceph.ceph.workers import NoReply
from virtceph.host.cloning import remove_images
from virtceph.host.layout import require_layout, require_qos, require_within_quota
from virtceph.host.names import SnapshotNames, nothing
from virtceph.host.oneimage import full_told, run
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts
from virtceph.schema import wire

log = logging.getLogger(__name__)

# What librbd adds to the features that were asked for.
_ADDED_FEATURES = {"data-pool", "operations"}


@wire("VolumeQos")
@dataclass(frozen=True)
class VolumeQos:
    """What a volume says itself, and what its pool says of what the volume leaves open."""

    volume: Qos
    pool: Qos


@dataclass(frozen=True)
class NewVolume:
    """What a caller says of a volume to be made."""

    name: str
    size_bytes: int
    object_size_bytes: int
    features: list[str]
    data_pool: str | None
    qos: Qos


class Volumes:
    """What callers do to images. Every method blocks, and raises NoSuchStorageDomain, PoolFull,
    CephUnavailable or CephFailed beside what it names."""

    def __init__(self, storage: StorageDomains, owner_timeout_s: float) -> None:
        # Given up by then, an image's owner that stalls is not yet cut off.
        self._storage, self._owner_timeout_s = storage, owner_timeout_s
        self._names = SnapshotNames()

    def create(self, storage_domain_id: UUID, wanted: NewVolume) -> None:
        """Create an image, or find it made with the same arguments.

        Raises:
            InvalidParameter, VolumeExists, NoSuchPool, CephPermissionDenied
        """
        require_layout(wanted.size_bytes, wanted.object_size_bytes, wanted.features)
        require_qos(wanted.qos)
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            pool = wanted.data_pool or domain.pool.pool
            require_within_quota(wanted.size_bytes, pool, domain.limits())
            try:
                domain.images.create(
                    wanted.name,
                    wanted.size_bytes,
                    wanted.object_size_bytes,
                    wanted.features,
                    wanted.data_pool,
                )
            except errors.VolumeExists:
                if not _is_made(domain, wanted):
                    raise
                return
            self._limit_new(domain, wanted)
        domain.changed("created", wanted.name, size_bytes=wanted.size_bytes)

    def _limit_new(self, domain: StorageDomain, wanted: NewVolume) -> None:
        """Limit an image that was just made: without its limits it is not what was asked for, and removed."""
        if wanted.qos == Qos():
            return
        try:
            self._limit(domain, wanted.name, wanted.qos)
        except errors.VirtcephError:
            remove_images([(domain, wanted.name)], self._names, nothing)
            raise

    def rename(self, storage_domain_id: UUID, name: str, new_name: str) -> None:
        """Rename an image that nobody has open, or find it renamed so.

        Raises:
            InvalidParameter, NoSuchVolume, VolumeExists, VolumeInUse, LockOwnerStalled, VolumeNotPrimary,
            CephPermissionDenied
        """
        if name == new_name:
            raise errors.InvalidParameter("newName", "another name than the volume has")
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            try:
                outcome = run(domain, "rename", self._owner_timeout_s, name=name, new_name=new_name)
            except errors.NoSuchVolume:
                if not is_renamed(domain, name, new_name):
                    raise
                return
            if isinstance(outcome, NoReply):
                # What it left by half is finished, or undone, by the next one.
                raise errors.CephUnavailable("renaming took too long; ask again")
        log.info("renamed %s", facts(image=f"{domain.pool}/{name}", to=new_name))
        domain.changed("renamed", new_name, from_volume=name)

    def qos(self, storage_domain_id: UUID, name: str) -> VolumeQos:
        """The limits of an image. Raises NoSuchVolume, CephPermissionDenied."""
        of_image, of_pool = self._storage.get(storage_domain_id).images.qos(name)
        return VolumeQos(of_image, of_pool)

    def set_qos(self, storage_domain_id: UUID, name: str, qos: Qos) -> None:
        """Let an image have these limits and no others, at once, also where it is open.

        Raises:
            InvalidParameter, NoSuchVolume, LockOwnerStalled, VolumeNotPrimary, CephPermissionDenied
        """
        require_qos(qos)
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            self._limit(domain, name, qos)
        log.info("limited %s", facts(image=f"{domain.pool}/{name}", **_given(qos)))
        domain.changed("limited", name)

    def _limit(self, domain: StorageDomain, name: str, qos: Qos) -> None:
        outcome = run(domain, "limit", self._owner_timeout_s, name=name, limits=_given(qos))
        if isinstance(outcome, NoReply):
            raise errors.LockOwnerStalled(name, self._owner_timeout_s)


def _given(qos: Qos) -> dict[str, int]:
    return {field: value for field, value in asdict(qos).items() if value is not None}


def _is_made(domain: StorageDomain, wanted: NewVolume) -> bool:
    """Whether an image of that name is what creating it would have made."""
    try:
        found = domain.images.info(wanted.name)
    except errors.NoSuchVolume as error:
        gone = (
            f"{wanted.name} is just being made or deleted; ask again, and if that stays, delete it"
        )
        raise errors.CephUnavailable(gone) from error
    there = found.size_bytes, found.object_size_bytes, found.data_pool, found.parent
    asked = wanted.size_bytes, wanted.object_size_bytes, wanted.data_pool, None
    features = set(found.features) - _ADDED_FEATURES
    same = there == asked and features == set(wanted.features)
    return same and qos_of(found.metadata) == wanted.qos


def is_renamed(domain: StorageDomain, name: str, new_name: str) -> bool:
    """Whether an image has its name from an earlier request for that. Blocks. Raises CephPermissionDenied,
    CephUnavailable."""
    try:
        found = domain.images.info(new_name)
    except errors.NoSuchVolume:
        return False
    return is_renamed_from(found.metadata, found.id, new_name, name)
