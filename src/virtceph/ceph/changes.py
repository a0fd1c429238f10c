"""What is done to one image as a whole, besides its snapshots and its content. Worker only.

Every function blocks, and asks first whether the image's users answer (see `owner`): librbd hands these
changes to the lock's owner, or takes the lock for them, and would break that of one that is stalled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.halfrenamed import end_half_renaming, id_of
from virtceph.ceph.imageinfo import not_primary
from virtceph.ceph.owner import require_answers
from virtceph.ceph.proxied import forget, remove_snapshot
from virtceph.ceph.qos import set_qos
from virtceph.ceph.snapshots import OwnedImages
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import NoSuchVolume, SnapshotProtected, VolumeExists

# In the metadata of an image that `rename` renamed: its id, and what it was called before and since.
RENAMED_KEY = "virtceph.renamed"
# Each removal of a snapshot waits for a round of the monitors.
_REMOVALS = 8


def rename(images: OwnedImages, name: str, new_name: str) -> None:
    """Rename an image that nobody has open: QEMU would go on, and its domain's XML name nothing. What an
    earlier request that was killed did by half is finished or undone. Source: rbd_rename.

    Raises:
        NoSuchVolume, VolumeExists, VolumeInUse, LockOwnerStalled, VolumeNotPrimary, CephUnavailable
    """
    ident, other = id_of(images, name), id_of(images, new_name)
    if ident is None:
        raise NoSuchVolume(name)
    if ident == other and end_half_renaming(images, name, new_name):
        return
    if other not in (None, ident):
        raise VolumeExists(new_name)
    _note_renaming(images, name, new_name)
    exists, missing = VolumeExists(new_name), NoSuchVolume(name)
    with ceph_faults("rename the image", _user(images), exists=exists, not_found=missing):
        rbd.RBD().rename(images.cluster.ioctx(images.pool), name, new_name)


def _note_renaming(images: OwnedImages, name: str, new_name: str) -> None:
    """Note on an image what it was and will be called, so that a repeated request finds it. Raises
    VolumeInUse, LockOwnerStalled, VolumeNotPrimary."""
    with (
        images.opened(name, read_only=False) as image,
        ceph_faults("note the name", _user(images), read_only=lambda: not_primary(image, name)),
    ):
        images.require_unused(image, name)
        note = {"imageID": image.id(), "from": name, "to": new_name}
        image.metadata_set(RENAMED_KEY, json.dumps(note))


def clone_whole(
    images: OwnedImages,
    name: str,
    snapshot: str,
    snap_id: int,
    part: str,
    new_name: str,
    place: tuple[str, str],
) -> None:
    """Make a clone in a pool and namespace of the same cluster. It is called `part`, a name of this request's
    own, until it is whole: librbd may be stopped when the image is there and not yet known to its parent.

    Raises:
        NoSuchVolume, NoSuchSnapshot, NoSuchPool, VolumeExists, CephUnavailable
    """
    to = OwnedImages(images.cluster, PoolSpec(*place))
    to.require_no_image(new_name)
    with to.removed_if_not_whole(part):
        images.clone(name, snapshot, snap_id, part, place)
        exists = VolumeExists(new_name)
        with ceph_faults("name the clone", _user(images), exists=exists):
            rbd.RBD().rename(images.cluster.ioctx(to.pool), part, new_name)


def limit(images: OwnedImages, name: str, limits: Mapping[str, int]) -> None:
    """Let an image have these limits (fields of Qos) and no others, at once, also where it is open.

    Raises:
        NoSuchVolume, LockOwnerStalled, VolumeNotPrimary, CephUnavailable
    """
    user = _user(images)
    with images.opened(name, read_only=False) as image:
        require_answers(images.cluster, images.pool, image, name, images.dead)
        with ceph_faults("set the limits", user, read_only=lambda: not_primary(image, name)):
            set_qos(image, limits)


def remove_snapshots(images: OwnedImages, name: str, snap_ids: list[int]) -> None:
    """Remove snapshots of an image that nobody else has open, by their numbers; one that is gone is removed.

    Raises:
        NoSuchVolume, SnapshotProtected, VolumeInUse, LockOwnerStalled, CephUnavailable
    """
    with images.opened(name, read_only=False) as image:
        images.require_unused(image, name)
        clear(images, image, name, snap_ids)


def clear(images: OwnedImages, image: rbd.Image, name: str, snap_ids: list[int]) -> None:
    """Remove snapshots of an image that we have open for writing. Raises SnapshotProtected."""
    names = {snap["id"]: snap["name"] for snap in image.list_snaps() if snap["id"] in snap_ids}

    def remove(snap_id: int) -> None:
        busy = SnapshotProtected(name, names[snap_id])
        with ceph_faults("remove the snapshot", _user(images), busy=busy):
            remove_snapshot(image, names[snap_id])
        forget(image, snap_id)

    with ThreadPoolExecutor(_REMOVALS, "remove-snapshots") as threads:
        list(threads.map(remove, names))


def leave_group(images: OwnedImages, name: str, pool: str, group: str) -> None:
    """Take an image that nobody has open out of a group. Source: rbd_group_image_remove.

    Raises:
        NoSuchVolume, VolumeInUse, LockOwnerStalled, CephUnavailable
    """
    with images.opened(name) as image:
        images.require_unused(image, name)
    ioctx = images.cluster.ioctx(PoolSpec(pool, images.pool.namespace))
    with ceph_faults("take the image out of the group", _user(images)):
        rbd.Group(ioctx, group).remove_image(images.cluster.ioctx(images.pool), name)


def is_renamed_from(metadata: Mapping[str, str], image_id: str, name: str, old_name: str) -> bool:
    """Whether the image that is called `name` was called `old_name`, by its own note. (librbd hands metadata
    on to copies and clones, so the note has the id of its image.)"""
    try:
        note: Any = json.loads(metadata[RENAMED_KEY])
        return bool((note["imageID"], note["from"], note["to"]) == (image_id, old_name, name))
    except (KeyError, TypeError, ValueError):
        return False


def _user(images: OwnedImages) -> str:
    return images.cluster.spec.user
