"""Cutting off a client that is dead but holds an image's lock. Worker only; every function blocks."""

from __future__ import annotations

import contextlib
from typing import Any

import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import Lock, lock_of, reopened
from virtceph.ceph.monitors import blocklisted_until_s
from virtceph.ceph.owner import silent_owners
from virtceph.ceph.snapshots import OwnedImages
from virtceph.errors import CephFailed, InvalidParameter, NoSuchVolume, VolumeInUse


def require_silent(images: OwnedImages, name: str, client: int) -> str:
    """The address of the client that holds the image's lock and does not answer.

    Raises:
        NoSuchVolume, CephUnavailable
        InvalidParameter: another client holds the lock, or none.
        VolumeInUse: the client answers, so it lives.
    """
    with images.opened(name) as image:
        return _silent_owner(images, image, name, client).address


def evict(images: OwnedImages, name: str, client: int) -> dict[str, Any]:
    """Put the client that holds the image's lock on the blocklist, if it still does not answer, and break the
    lock; then see that both are done: its address, and until when it is on the blocklist. In this order, so
    that it can write nothing by the time that another may. Source: rbd_break_lock.

    Raises:
        NoSuchVolume, InvalidParameter, VolumeInUse, CephPermissionDenied, CephUnavailable, CephFailed
    """
    user = images.cluster.spec.user
    with images.opened(name) as image:
        lock = _silent_owner(images, image, name, client)
        needs = "mon 'profile rbd'"
        # Somebody else may be quicker; what counts is looked at below.
        with (
            ceph_faults("break the lock", user, needs=needs),
            contextlib.suppress(rbd.ImageNotFound),
        ):
            image.break_lock(f"client.{client}", lock.cookie)
    with images.opened(name) as image, ceph_faults("read the lock", user):
        left = lock_of(image)
    until_s = blocklisted_until_s(images.cluster, lock.address)
    if until_s is None:
        raise CephFailed("break the lock", 0, f"{lock.address} is not on the blocklist")
    if left is not None and left.client == client:
        raise CephFailed("break the lock", 0, f"{lock.address} still holds it")
    return {"client": client, "address": lock.address, "until_s": until_s}


def _silent_owner(images: OwnedImages, image: rbd.Image, name: str, client: int) -> Lock:
    ioctx, user = images.cluster.ioctx(images.pool), images.cluster.spec.user
    with ceph_faults("ask who has the image open", user, not_found=NoSuchVolume(name)):
        _owned(lock_of(image), name, client)
        stalled = silent_owners(images.cluster, images.pool, image, name)
        with reopened(ioctx, image) as now:
            lock = _owned(lock_of(now), name, client)
        if client not in stalled:
            raise VolumeInUse(name, [lock.address])
        return lock


def _owned(lock: Lock | None, name: str, client: int) -> Lock:
    """The lock, if that client holds it. Raises InvalidParameter."""
    if lock is None or lock.client != client:
        holder = "it has no lock" if lock is None else f"client {lock.client} holds it"
        raise InvalidParameter("client", f"the client that holds the lock of {name}: {holder}")
    return lock
