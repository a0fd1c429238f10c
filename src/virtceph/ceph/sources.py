"""Images that are read while others might write to them. For movers only.

A snapshot stays as it is. The head of an image does too as long as nobody takes its exclusive lock, and
whoever takes it changes the image's header object, whose version librados tells. So a head that was read is
the image of one moment if that version is the same before and after. (An image that is opened for writing
and not written to keeps its version; one that others read gets another now and then, when they note the time:
so a change of it is a reason to read again, from a snapshot, and none to fail. Seen with librbd 16.2.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import rados
import rbd

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import locks_of, reopened
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import NoSuchSnapshot, NoSuchVolume, VolumeChanged


@dataclass(frozen=True)
class Place:
    """An image: which of a mover's clusters, which pool and namespace, and its name there."""

    cluster: int
    pool: str
    namespace: str
    name: str

    @property
    def spec(self) -> PoolSpec:
        return PoolSpec(self.pool, self.namespace)


def header_version(ioctx: rados.Ioctx, image: rbd.Image) -> int:
    """The version of an image's header object: another one as soon as somebody took its exclusive lock.
    Blocks. Source: rados_stat, rados_get_last_version."""
    ioctx.stat(f"rbd_header.{image.id()}")
    return int(ioctx.get_last_version())


def is_still(image: rbd.Image) -> bool:
    """Whether nobody could write to the head of an image, when it was opened, without changing its header:
    nobody held its exclusive lock, and it has one. Blocks."""
    return bool(image.features() & rbd.RBD_FEATURE_EXCLUSIVE_LOCK) and not locks_of(image)


def still_version(ioctx: rados.Ioctx, image: rbd.Image, name: str) -> int:
    """The version of the header of a head that nobody can write to without changing it. Blocks. Raises
    VolumeChanged, rados.Error, rbd.Error."""
    version = header_version(ioctx, image)
    # In this order: who took the lock before that version was told is listed.
    with reopened(ioctx, image) as now:
        if not is_still(now):
            raise VolumeChanged(name)
    return version


@dataclass(frozen=True)
class Source:
    """An image opened for reading. `version` is its header's, for a head: as it was at the beginning."""

    image: rbd.Image
    version: int | None


@contextmanager
def reading(cluster: Cluster, place: Place, snapshot: str | None) -> Iterator[Source]:
    """An image opened for reading, at a snapshot or at its head. Blocks.

    Raises:
        NoSuchVolume, NoSuchSnapshot
        VolumeChanged: the head was written to, or was about to be, before the block ended.
    """
    user, missing = cluster.spec.user, _missing(place.name, snapshot)
    # Of its own: the version that a context tells is that of its last answer.
    ioctx = cluster.new_ioctx(place.spec)
    try:
        with ceph_faults("open the image", user, not_found=missing):
            image = rbd.Image(ioctx, place.name, snapshot=snapshot, read_only=True)
        try:
            version = None
            if snapshot is None:
                with ceph_faults("read the image", user, not_found=missing):
                    version = still_version(ioctx, image, place.name)
            yield Source(image, version)
            with ceph_faults("read the image", user, not_found=missing):
                if version is not None and header_version(ioctx, image) != version:
                    raise VolumeChanged(place.name)
        finally:
            image.close()
    finally:
        ioctx.close()


def _missing(name: str, snapshot: str | None) -> NoSuchVolume | NoSuchSnapshot:
    return NoSuchVolume(name) if snapshot is None else NoSuchSnapshot(name, snapshot)
