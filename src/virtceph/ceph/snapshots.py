"""What is asked of an image's owner: making, removing, noting and rolling back snapshots. Worker only.

A stalled lock owner makes librbd wait, and after about 30 s put that owner on the blocklist. So every
request asks first whether the image's users answer, and runs where it can be killed (see `worker`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import rbd

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import not_primary, watchers_of
from virtceph.ceph.images import Images
from virtceph.ceph.owner import require_answers
from virtceph.ceph.proxied import create_snapshot, forget, remove_snapshot
from virtceph.ceph.snapshotlist import (
    CONSISTENCY_KEY,
    SET_KEY,
    number_of,
    takes_name,
)
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import (
    NoSuchSnapshot,
    NoSuchVolume,
    PoolFull,
    SnapshotExists,
    SnapshotProtected,
    VirtcephError,
    VolumeExists,
    VolumeHasSnapshots,
    VolumeInUse,
    VolumeNotDeletable,
)

Handles = dict[tuple[PoolSpec, str], rbd.Image]


class OwnedImages(Images):
    """Images, with what only a worker may do to them.

    `handles` are the images that stay open from one request to the next: `open_image` before a guest is
    frozen, `close_image` when all is done. `on_begin` is called just before what cannot be taken back.
    """

    def __init__(
        self,
        cluster: Cluster,
        pool: PoolSpec,
        handles: Handles | None = None,
        on_begin: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(cluster, pool)
        self._handles = {} if handles is None else handles
        self._on_begin = on_begin

    def open_image(self, name: str, snapshot: str) -> None:
        """Open an image for `create_snapshot`, and keep it open until `close_image`.

        Raises:
            NoSuchVolume, SnapshotExists, LockOwnerStalled, CephUnavailable
        """
        if (self.pool, name) not in self._handles:
            with ceph_faults("open the image", self._user, not_found=NoSuchVolume(name)):
                self._handles[self.pool, name] = rbd.Image(self._ioctx, name)
        with self._writable(name) as image:
            self._require_free(image, name, snapshot)
            require_answers(self.cluster, self.pool, image, name, self.dead)

    def close_image(self, name: str) -> None:
        """Close what `open_image` opened; an image that is not open is closed already."""
        image = self._handles.pop((self.pool, name), None)
        if image is not None:
            with ceph_faults("close the image", self._user):
                image.close()

    def create_snapshot(self, name: str, snapshot: str) -> None:
        """Make a snapshot. `on_begin` is called when the name was seen free and the image's users have
        answered, just before the snapshot is asked for. Source: rbd_snap_create2.

        Raises:
            NoSuchVolume, SnapshotExists, LockOwnerStalled, CephUnavailable
        """
        exists = SnapshotExists(name, snapshot)
        with (
            self._writable(name) as image,
            self._changes("create the snapshot", image, name, exists=exists),
        ):
            self._require_free(image, name, snapshot)
            require_answers(self.cluster, self.pool, image, name, self.dead)
            self._on_begin()
            create_snapshot(image, snapshot)

    def remove_snapshot(self, name: str, snapshot: str, snap_id: int | None = None) -> None:
        """Remove a snapshot and what was noted of it; with `snap_id` only if that is its number.

        Raises:
            NoSuchVolume, NoSuchSnapshot, SnapshotProtected, LockOwnerStalled, CephUnavailable
        """
        missing, busy = NoSuchSnapshot(name, snapshot), SnapshotProtected(name, snapshot)
        with (
            self._writable(name) as image,
            self._changes("remove the snapshot", image, name, not_found=missing, busy=busy),
        ):
            found = _number(image, name, snapshot, snap_id)
            require_answers(self.cluster, self.pool, image, name, self.dead)
            remove_snapshot(image, snapshot)
            forget(image, found)

    def annotate_snapshot(
        self,
        name: str,
        snapshot: str,
        consistency: str,
        set_note: dict[str, Any] | None = None,
        group: str | None = None,
    ) -> None:
        """Note on the image how consistent a snapshot (of a group) is, and the set it belongs to. librbd
        takes the exclusive lock for it, for some milliseconds, and gives it back.

        Raises:
            NoSuchVolume, NoSuchSnapshot, LockOwnerStalled, CephUnavailable
        """
        with (
            self._writable(name) as image,
            self._changes("note what the snapshot is", image, name),
        ):
            found = _number(image, name, snapshot, group=group)
            require_answers(self.cluster, self.pool, image, name, self.dead)
            image.metadata_set(CONSISTENCY_KEY.format(id=found), consistency)
            if set_note is not None:
                # Copies and clones get this text too: the two ids tell whose it is.
                note = {**set_note, "imageID": image.id(), "snapID": found}
                image.metadata_set(SET_KEY.format(id=found), json.dumps(note))

    def roll_back(self, name: str, snapshot: str, snap_id: int) -> None:
        """Bring an image that nobody else has open back to its snapshot `snap_id`. Its length has no
        bound; each request to the cluster has. Source: rbd_snap_rollback.

        Raises:
            NoSuchVolume, NoSuchSnapshot, VolumeInUse, LockOwnerStalled, CephUnavailable
        """
        missing = NoSuchSnapshot(name, snapshot)
        with (
            self._writable(name) as image,
            self._changes("roll the image back", image, name, not_found=missing),
        ):
            _number(image, name, snapshot, snap_id)
            self.require_unused(image, name)
            image.rollback_to_snap(snapshot)

    def clone(
        self,
        name: str,
        snapshot: str,
        snap_id: int,
        new_name: str,
        place: tuple[str, str] | None = None,
    ) -> None:
        """Make an image that begins as the snapshot, in the same pool or in another `place` (pool and
        namespace). `on_begin` is called when its name was seen free. Source: rbd_clone3, format 2, which
        needs no protected snapshot.

        Raises:
            NoSuchVolume, NoSuchSnapshot, NoSuchPool, VolumeExists, CephUnavailable
        """
        pool = self.pool if place is None else PoolSpec(*place)
        with self.opened(name) as image, ceph_faults("read the image", self._user):
            _number(image, name, snapshot, snap_id)
            data_pool = self._data_pool(image, image.features()) if pool == self.pool else None
        OwnedImages(self.cluster, pool).require_no_image(new_name)
        self._on_begin()
        exists, missing = VolumeExists(new_name), NoSuchSnapshot(name, snapshot)
        with ceph_faults("clone the snapshot", self._user, exists=exists, not_found=missing):
            ioctx = self.cluster.ioctx(pool)
            rbd.RBD().clone(self._ioctx, name, snapshot, ioctx, new_name, data_pool=data_pool)

    def remove(self, name: str) -> None:
        """Remove an image without snapshots that nobody has open. Its length grows with the image. A lock
        whose owner does not answer is left alone; only names that no volume can have are ours anyway.

        Raises:
            NoSuchVolume, VolumeInUse, VolumeHasSnapshots, LockOwnerStalled, CephUnavailable
        """
        if not name.startswith("."):
            with self.opened(name) as image:
                self.require_unused(image, name)
        grouped = VolumeNotDeletable(name, "it is in a group")
        with ceph_faults("remove the image", self._user, linked=grouped):
            try:
                rbd.RBD().remove(self._ioctx, name)
            except rbd.ImageNotFound as error:
                raise self.gone_or_full(name) from error
            except rbd.ImageBusy as error:
                raise VolumeInUse(name, self.watcher_addresses(name)) from error
            except rbd.ImageHasSnapshots as error:
                names = [s.name for s in self.info(name).snapshots]
                raise VolumeHasSnapshots(name, names) from error

    def gone_or_full(self, name: str) -> VirtcephError:
        """What librbd means by "not found" of an image that was there: that it is gone; or that there was no
        room for the pool's trash, which an image passes on its way out."""
        if self.exists(name):
            return PoolFull([], "make the pool's trash, where nothing was deleted before")
        return NoSuchVolume(name)

    @contextmanager
    def removed_if_not_whole(self, part: str) -> Iterator[None]:
        """Remove the image of that name when the block fails. What cannot be removed is left to the asker."""
        try:
            yield
        except BaseException:
            with suppress(VirtcephError):
                self.remove(part)
            raise

    def _changes(
        self,
        what: str,
        image: rbd.Image,
        name: str,
        *,
        not_found: VirtcephError | None = None,
        exists: VirtcephError | None = None,
        busy: VirtcephError | None = None,
    ) -> AbstractContextManager[None]:
        """`ceph_faults` for the change of an open image, which may be a mirror's secondary."""
        return ceph_faults(
            what,
            self._user,
            not_found=not_found,
            exists=exists,
            busy=busy,
            read_only=lambda: not_primary(image, name),
        )

    @contextmanager
    def _writable(self, name: str) -> Iterator[rbd.Image]:
        """The image, open for writing: kept open if it was, else only inside the block."""
        held = self._handles.get((self.pool, name))
        if held is not None:
            yield held
            return
        with self.opened(name, read_only=False) as image:
            yield image

    def require_ready(self, name: str, snapshot: str) -> None:
        """Return if the image has no such snapshot and all its users answer.

        Raises:
            NoSuchVolume, SnapshotExists, LockOwnerStalled, CephUnavailable
        """
        with self.opened(name) as image:
            self._require_free(image, name, snapshot)
            require_answers(self.cluster, self.pool, image, name, self.dead)

    def require_no_image(self, name: str) -> None:
        """Return if there is no image of that name. Raises VolumeExists."""
        if self.exists(name):
            raise VolumeExists(name)

    def require_unused(self, image: rbd.Image, name: str) -> None:
        """Return if nobody else has the image open, nor a lock of it that may be a stalled VM's: that is not
        ours to break. Raises VolumeInUse, LockOwnerStalled, CephUnavailable."""
        self.require_unwatched(image, name)
        require_answers(self.cluster, self.pool, image, name, self.dead)

    def require_unwatched(self, image: rbd.Image, name: str) -> None:
        """Return if nobody else has the image open. Raises VolumeInUse."""
        others = [w.address for w in watchers_of(image) if w.client != self.cluster.client_id]
        if others:
            raise VolumeInUse(name, others)

    def _require_free(self, image: rbd.Image, name: str, snapshot: str) -> None:
        with ceph_faults("list snapshots", self._user):
            if any(takes_name(snap, snapshot) for snap in image.list_snaps()):
                raise SnapshotExists(name, snapshot)


def _number(
    image: rbd.Image,
    name: str,
    snapshot: str,
    wanted: int | None = None,
    *,
    group: str | None = None,
) -> int:
    """The snapshot's number. Raises NoSuchSnapshot, also when it is another than `wanted`."""
    found = number_of(image, snapshot, group)
    if found is None or wanted not in (None, found):
        raise NoSuchSnapshot(name, snapshot)
    return found
