"""Making an image larger: by its lock owner, where it has one. Worker only."""

from __future__ import annotations

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.owner import require_answers
from virtceph.ceph.snapshots import OwnedImages
from virtceph.errors import WouldShrink


def grow(images: OwnedImages, name: str, size_bytes: int) -> None:
    """Give an image a size that is at least its own. The owner itself refuses a smaller one, should the image
    have become larger meanwhile. Source: rbd_resize2 without `allow_shrink`.

    Raises:
        NoSuchVolume, WouldShrink, LockOwnerStalled, CephUnavailable
    """
    user = images.cluster.spec.user
    with images.opened(name, read_only=False) as image, ceph_faults("resize the image", user):
        found = int(image.size())
        if size_bytes < found:
            raise WouldShrink(name, found, size_bytes)
        if size_bytes == found:
            return
        require_answers(images.cluster, images.pool, image, name, images.dead)
        image.resize(size_bytes, allow_shrink=False)
