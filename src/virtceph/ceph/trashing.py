"""A pool's trash, where images have no names, only their ids. Worker only; every function blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import rbd

from virtceph.ceph.changes import clear
from virtceph.ceph.clones import clones
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.halfmoved import end_half_moving
from virtceph.ceph.halfrenamed import id_of
from virtceph.ceph.snapshotlist import SnapshotState, state_of
from virtceph.ceph.snapshots import OwnedImages
from virtceph.errors import (
    NotInTrash,
    VolumeExists,
    VolumeInUse,
    VolumeNotDeletable,
)


def move_to_trash(images: OwnedImages, name: str, delay_s: int) -> None:
    """Move an image that nobody has open to the trash, and have it kept there for `delay_s`. librbd itself
    would take it from under a VM. Source: rbd_trash_move.

    Raises:
        NoSuchVolume, VolumeInUse, LockOwnerStalled, CephUnavailable
    """
    with images.opened(name) as image:
        images.require_unused(image, name)
    with ceph_faults("move to the trash", _user(images), busy=VolumeInUse(name, [])):
        try:
            rbd.RBD().trash_move(images.cluster.ioctx(images.pool), name, delay_s)
        except rbd.ImageNotFound as error:
            raise images.gone_or_full(name) from error


def take_from_trash(images: OwnedImages, entry_id: str, new_name: str) -> None:
    """Give an image in the trash, or half in it, a name again. Source: rbd_trash_restore.

    Raises:
        NotInTrash, VolumeExists, CephUnavailable
    """
    if id_of(images, new_name) != entry_id:
        images.require_no_image(new_name)
    end_half_moving(images, entry_id, though_named=True)
    missing, exists = NotInTrash(entry_id), VolumeExists(new_name)
    with ceph_faults("restore from the trash", _user(images), not_found=missing, exists=exists):
        rbd.RBD().trash_restore(images.cluster.ioctx(images.pool), entry_id, new_name)


def purge(
    images: OwnedImages, entry_id: str, name: str, with_snapshots: bool, removing: bool = False
) -> None:
    """Remove an image in the trash that nobody has open; `with_snapshots` removes its own, unprotected ones
    first. Its length grows with the image. Source: rbd_trash_remove_with_progress.

    The lock of one whose removal was begun (`removing`) is that of the client that began it, so breaking it
    takes nothing from anybody.

    Raises:
        NotInTrash, VolumeInUse, LockOwnerStalled, VolumeNotDeletable, CephUnavailable
    """
    own: list[int] = []
    with _opened(images, entry_id) as image, ceph_faults("read the image", _user(images)):
        if image is not None:
            check = images.require_unwatched if removing else images.require_unused
            check(image, name)
            snapshots = [state_of(images.cluster, image, snap) for snap in image.list_snaps()]
            own = [s.id for s in snapshots if s.kind == "user" and not s.protected]
            _require_removable(images, image, name, snapshots, own if with_snapshots else [])
    # Before anything is removed: what still has its name keeps all that it has.
    end_half_moving(images, entry_id)
    if own:
        with _opened(images, entry_id, read_only=False) as image:
            if image is not None:
                clear(images, image, name, own)
    # Nobody has it open; so it is its entry that is busy. A restore that failed may leave it so.
    reason = "it is being restored or removed just now; if by nobody, restore it and begin anew"
    missing, busy = NotInTrash(entry_id), VolumeNotDeletable(name, reason)
    with ceph_faults("purge from the trash", _user(images), not_found=missing, busy=busy):
        # By force librbd goes on with a removal, and takes the lock for it, as it does itself by the name.
        rbd.RBD().trash_remove(images.cluster.ioctx(images.pool), entry_id, removing)


def _require_removable(
    images: OwnedImages,
    image: rbd.Image,
    name: str,
    snapshots: list[SnapshotState],
    removed: list[int],
) -> None:
    """Raise VolumeNotDeletable with what would be left of an image's snapshots, and of their clones."""
    hanging = clones(images.cluster, images.pool, image, snapshots)
    if hanging:
        raise VolumeNotDeletable(name, f"it has clones: {', '.join(map(str, hanging))}")
    left = [s for s in snapshots if s.id not in removed]
    if left:
        told = ", ".join(f"{s.name} of the group {s.group}" if s.group else s.name for s in left)
        raise VolumeNotDeletable(name, f"it has snapshots: {told}")


@contextlib.contextmanager
def _opened(
    images: OwnedImages, entry_id: str, *, read_only: bool = True
) -> Iterator[rbd.Image | None]:
    """An image by its id; None when there is none, as of an image whose removal had come to its end."""
    ioctx = images.cluster.ioctx(images.pool)
    try:
        with ceph_faults("open the image", _user(images), not_found=NotInTrash(entry_id)):
            image = rbd.Image(ioctx, image_id=entry_id, read_only=read_only)
    except NotInTrash:
        yield None
        return
    try:
        yield image
    finally:
        image.close()


def _user(images: OwnedImages) -> str:
    return images.cluster.spec.user
