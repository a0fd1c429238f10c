"""Names without an image, as a creation or a removal that was cut short leaves them. Worker only.

librbd enters a name before it makes the image's header, and removes the header before the name. In between
the name leads nowhere: nothing of that name can be opened, listed or created.
"""

from __future__ import annotations

import struct
import time

import rados
import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.images import Images

# Whoever is creating or removing it at this moment is done by then.
_SETTLES_S = 1.0
# The object that leads from a name to an id: a string, with its length before it.
_HEAD = "rbd_id."


def remove_half_made(images: Images, name: str) -> bool:
    """Free a name that leads to no image, and has done so for a second; whether it was one. Blocks. Source:
    rbd_remove, which goes on where it finds no header.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    ioctx = images.cluster.ioctx(images.pool)
    with ceph_faults("free the name", images.cluster.spec.user):
        found = _id_without_header(ioctx, name)
        if found is None:
            return False
        time.sleep(_SETTLES_S)
        if _id_without_header(ioctx, name) != found:
            return False
        if _entered(ioctx, name):
            rbd.RBD().remove(ioctx, name)
        else:
            # librbd looks in the directory only. While this object is there nobody can make the name anew.
            ioctx.remove_object(f"{_HEAD}{name}")
    return True


def _id_without_header(ioctx: rados.Ioctx, name: str) -> str | None:
    """The id that a name leads to, if there is no header of that id. An image on its way into the trash has
    one. None too where a name leads to two."""
    ids = _entered(ioctx, name) | _id_in(ioctx, f"{_HEAD}{name}")
    if len(ids) != 1:
        return None
    (ident,) = ids
    try:
        ioctx.stat(f"rbd_header.{ident}")
    except rados.ObjectNotFound:
        return ident
    return None


def _entered(ioctx: rados.Ioctx, name: str) -> set[str]:
    """What the pool's directory has for the name."""
    return {str(entry["id"]) for entry in rbd.RBD().list2(ioctx) if entry["name"] == name}


def _id_in(ioctx: rados.Ioctx, key: str) -> set[str]:
    try:
        content = ioctx.read(key)
    except rados.ObjectNotFound:
        return set()
    (length,) = struct.unpack_from("<I", content)
    return {content[4 : 4 + length].decode()}
