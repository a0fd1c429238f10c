"""What becomes of images under way and of those they take the place of. Worker only."""

from __future__ import annotations

import contextlib

import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.groups import GroupedImages
from virtceph.ceph.halfmoved import end_half_moving
from virtceph.ceph.halfrenamed import end_half_renaming, has_two_names
from virtceph.ceph.imageinfo import watchers_of
from virtceph.ceph.parts import PART_PREFIX, made_note
from virtceph.ceph.proxied import remove_snapshot
from virtceph.ceph.snapshotlist import is_users
from virtceph.ceph.sources import header_version
from virtceph.errors import (
    NoSuchSnapshot,
    NoSuchVolume,
    OperationNotSupported,
    VolumeChanged,
    VolumeExists,
    VolumeInUse,
)


class PartImages(GroupedImages):
    """Images, with what jobs that move data do to whole ones."""

    def finish_part(self, part: str, name: str) -> None:
        """Give a whole part its name. What was done of that by half is finished. Source: rbd_rename.

        Raises:
            NoSuchVolume (the part; it may have its name), VolumeExists, CephPermissionDenied,
            CephUnavailable, CephFailed
        """
        try:
            self._rename(part, name)
        except VolumeExists:
            if not has_two_names(self, part, name):
                raise
            if not end_half_renaming(self, part, name):
                self._rename(part, name)

    def _rename(self, part: str, name: str) -> None:
        missing, exists = NoSuchVolume(part), VolumeExists(name)
        with ceph_faults("rename the image", self._user, not_found=missing, exists=exists):
            rbd.RBD().rename(self._ioctx, part, name)

    def discard_part(self, name: str, new_name: str = "") -> None:
        """Remove an image under way, with the snapshots it got so far. One that is not there is removed
        already, and one that the directory has as `new_name` is a part no longer: it only loses its old name.
        Its length grows with the image.

        Raises:
            VolumeInUse: its maker died and still counts as its user, for 30 s.
            OperationNotSupported: the name is no part's.
            CephUnavailable, CephFailed
        """
        if not name.startswith(PART_PREFIX):
            raise OperationNotSupported(f"discard {name}", f"a name that begins with {PART_PREFIX}")
        try:
            self._require_unwatched(name)
            if self._is_named(name, new_name):
                return
            self._remove_snapshots(name)
            self.remove(name)
        except NoSuchVolume:
            return

    def _is_named(self, part: str, name: str) -> bool:
        """Whether a part that a request was renaming when it was killed has its name by now; it has one name
        alone from here on."""
        return (
            bool(name) and has_two_names(self, part, name) and end_half_renaming(self, part, name)
        )

    def trash_moved(self, name: str, image_id: str, version: int) -> None:
        """Put a volume that was copied as a whole into the trash, if it is still what was copied: nobody can
        open it from then on. Source: rbd_trash_move.

        Raises:
            NoSuchVolume, VolumeInUse
            VolumeChanged: it was written to since, or is another one.
        """
        self._require_same(name, image_id, version)
        with ceph_faults("move it to the trash", self._user, not_found=NoSuchVolume(name)):
            rbd.RBD().trash_move(self._ioctx, name, 0)
        try:
            # Nobody can open it any more; who did in the moment before has it open still.
            self._require_unwatched_id(name, image_id)
        except BaseException:
            self.restore_moved(name, image_id)
            raise

    def restore_moved(self, name: str, image_id: str) -> None:
        """Bring a volume back from the trash, or half-way to it; one that is not there is back already.
        Source: rbd_trash_restore. Raises VolumeExists, CephUnavailable, CephFailed."""
        end_half_moving(self, image_id, though_named=True)
        with ceph_faults("restore it", self._user, exists=VolumeExists(name)):
            try:
                rbd.RBD().trash_restore(self._ioctx, image_id, name)
            except rbd.ImageNotFound:
                return

    def purge_moved(self, image_id: str) -> None:
        """Remove what was copied as a whole from the trash, with its snapshots. What is not there is removed
        already. Its length grows with the image. Source: rbd_trash_remove.

        Raises:
            CephUnavailable, CephFailed
        """
        with ceph_faults("remove it from the trash", self._user):
            with contextlib.suppress(rbd.ImageNotFound):
                self._clear_moved(image_id)
            with contextlib.suppress(rbd.ImageNotFound):
                rbd.RBD().trash_remove(self._ioctx, image_id, True)

    def _clear_moved(self, image_id: str) -> None:
        with rbd.Image(self._ioctx, image_id=image_id) as image:
            _remove_own_snapshots(image)

    def rename_unused(self, name: str, new_name: str) -> None:
        """Give a volume that nobody has open another name. Source: rbd_rename.

        Raises:
            NoSuchVolume, VolumeInUse, VolumeExists, CephUnavailable, CephFailed
        """
        self._require_unwatched(name)
        self.finish_part(name, new_name)
        # librbd renames under its users; one that came in the very moment has it open still.
        addresses = self.watcher_addresses(new_name)
        if addresses:
            self.finish_part(new_name, name)
            raise VolumeInUse(name, addresses)

    def roll_part_back(self, name: str, snapshot: str, made: str) -> None:
        """Bring a volume that was taken out of reach back to its snapshot, without the one that was `made`
        since. Its length grows with the image. Source: rbd_snap_rollback.

        Raises:
            NoSuchVolume, NoSuchSnapshot, VolumeInUse, CephUnavailable, CephFailed
        """
        self._require_unwatched(name)
        missing = NoSuchSnapshot(name, snapshot)
        with self.opened(name, read_only=False) as image:
            with ceph_faults("remove the snapshot that was made since", self._user):
                if made and any(snap["name"] == made for snap in image.list_snaps()):
                    remove_snapshot(image, made)
            with ceph_faults("roll the image back", self._user, not_found=missing):
                image.rollback_to_snap(snapshot)

    def note_made(self, name: str, job: str) -> None:
        """Note on a part which job made it. Raises NoSuchVolume, CephUnavailable, CephFailed."""
        with (
            self.opened(name, read_only=False) as image,
            ceph_faults("describe the image", self._user),
        ):
            made_note(image, {"job": job})

    def _require_unwatched(self, name: str) -> None:
        addresses = self.watcher_addresses(name)
        if addresses:
            raise VolumeInUse(name, addresses)

    def _remove_snapshots(self, name: str) -> None:
        with (
            self.opened(name, read_only=False) as image,
            ceph_faults("remove its snapshots", self._user),
        ):
            _remove_own_snapshots(image)

    def _require_same(self, name: str, image_id: str, version: int) -> None:
        self._require_unwatched(name)
        ioctx = self.cluster.new_ioctx(self.pool)
        try:
            with self.opened(name) as image, ceph_faults("read the image", self._user):
                same = image.id() == image_id and header_version(ioctx, image) == version
        finally:
            ioctx.close()
        if not same:
            raise VolumeChanged(name)

    def _require_unwatched_id(self, name: str, image_id: str) -> None:
        with (
            ceph_faults("read the image", self._user),
            rbd.Image(self._ioctx, image_id=image_id, read_only=True) as image,
        ):
            watchers = [watch.address for watch in watchers_of(image)]
        if watchers:
            raise VolumeInUse(name, watchers)


def _remove_own_snapshots(image: rbd.Image) -> None:
    for snap in [one for one in image.list_snaps() if is_users(one)]:
        if image.is_protected_snap(snap["name"]):
            image.unprotect_snap(snap["name"])
        remove_snapshot(image, snap["name"])
