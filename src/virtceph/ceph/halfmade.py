"""Names without an image, as a creation or a removal that was cut short leaves them. Worker only.

librbd enters a name before it makes the image's header, and removes the header before the name. In between
the name leads nowhere: nothing of that name can be opened, listed or created.
"""

from __future__ import annotations

import time

import rados
import rbd

from virtceph.ceph.classrbd import ids_of_name
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.images import Images

# Whoever is creating or removing it at this moment is done by then.
_SETTLES_S = 1.0


def remove_half_made(images: Images, name: str) -> bool:
    """Free a name that leads to no image, and has done so for a second; whether it was one. Blocks. Source:
    rbd_remove, which goes on where it finds no header.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    ioctx = images.cluster.ioctx(images.pool)
    with ceph_faults("free the name", images.cluster.spec.user):
        found = _leads_nowhere(images, name)
        if found is None:
            return False
        time.sleep(_SETTLES_S)
        if _leads_nowhere(images, name) != found:
            return False
        _own, entry = found
        if entry is not None:
            rbd.RBD().remove(ioctx, name)
        else:
            # librbd looks in the directory only. While this object is there nobody can make the name anew.
            ioctx.remove_object(f"rbd_id.{name}")
    return True


def _leads_nowhere(images: Images, name: str) -> tuple[str | None, str | None] | None:
    """What a name leads to, by its object and by the directory, if there is no header of that id. An image on
    its way into the trash has one. None too where a name leads to two."""
    found = ids_of_name(images.cluster, images.pool, name)
    ids = {ident for ident in found if ident is not None}
    if len(ids) != 1:
        return None
    try:
        images.cluster.ioctx(images.pool).stat(f"rbd_header.{ids.pop()}")
    except rados.ObjectNotFound:
        return found
    return None
