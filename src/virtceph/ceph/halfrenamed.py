"""Images with two names, as a request that was killed while it renamed one leaves them. Worker only."""

from __future__ import annotations

import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.images import Images
from virtceph.errors import NoSuchVolume


def id_of(images: Images, name: str) -> str | None:
    """The id of the image that a name leads to. Blocks. Raises CephUnavailable."""
    try:
        with images.opened(name) as image, ceph_faults("read the image", images.cluster.spec.user):
            return str(image.id())
    except NoSuchVolume:
        return None


def has_two_names(images: Images, name: str, other: str) -> bool:
    """Whether both lead to one image. Blocks. Raises CephUnavailable."""
    ident = id_of(images, name)
    return ident is not None and ident == id_of(images, other)


def end_half_renaming(images: Images, name: str, new_name: str) -> bool:
    """Let an image that a killed request left under two names have the one that the directory has; whether
    that is the new one. librbd makes the object that leads from the new name to the image, then enters the
    name in the directory, and then removes the old name's object. Blocks. Raises CephUnavailable."""
    ioctx = images.cluster.ioctx(images.pool)
    with ceph_faults("finish the renaming", images.cluster.spec.user):
        is_new = new_name in rbd.RBD().list(ioctx)
        ioctx.remove_object(f"rbd_id.{name if is_new else new_name}")
    return is_new
