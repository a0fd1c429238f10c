"""Images half in the trash, as a client that was killed while it moved one there leaves them. Worker only.

librbd enters the image in the trash, removes the object that leads from its name to it, takes the name out
of the directory, and marks the entry as whole. Until then it neither purges nor restores it. It would go on
when told to move an image of that name, but takes another one that has the name by then; so we go by the id.
"""

from __future__ import annotations

import contextlib

import rados

from virtceph.ceph.classrbd import end_moving, trash_entry
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.halfrenamed import id_of
from virtceph.ceph.images import Images
from virtceph.errors import VolumeNotDeletable


def end_half_moving(images: Images, entry_id: str, *, though_named: bool = False) -> None:
    """Let an image that is half in the trash be there wholly; every other is left as it is. Blocks.

    Raises:
        VolumeNotDeletable: its name still leads to it, so somebody may have used it ever since. Not raised
            with `though_named`.
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    entry = trash_entry(images.cluster, images.pool, entry_id)
    if entry is None or not entry.moving:
        return
    if id_of(images, entry.name) == entry_id:
        if not though_named:
            reason = (
                "its move to the trash was cut short, and it still has its name: delete it by that"
            )
            raise VolumeNotDeletable(entry.name, reason)
        ioctx = images.cluster.ioctx(images.pool)
        with (
            ceph_faults("end the move to the trash", images.cluster.spec.user),
            contextlib.suppress(rados.ObjectNotFound),
        ):
            ioctx.remove_object(f"rbd_id.{entry.name}")
    end_moving(images.cluster, images.pool, entry)
