"""Making a clone independent of its parent. For movers only."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Set
from typing import Any

import rbd

from virtceph.ceph import wire
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import has_parent
from virtceph.ceph.moving import Moving, Stopped
from virtceph.ceph.owner import require_answers
from virtceph.ceph.proxied import flatten
from virtceph.ceph.sources import Place
from virtceph.errors import NoSuchVolume, VirtcephError

# A stalled owner loses its lock after some 30 s of librbd's waiting; it is looked at well before.
_WATCH_S = 3.0
_ECANCELED = 125


def flatten_image(moving: Moving, target: dict[str, Any], dead: list[int]) -> dict[str, Any]:
    """Copy to an image what it still has from its parent. Where a VM has it open, the VM's own librbd
    does it: it is watched meanwhile, and this process ends at once when it no longer answers. Blocks.
    Source: rbd_flatten_with_progress.

    Raises:
        NoSuchVolume, LockOwnerStalled, CephPermissionDenied, CephUnavailable, CephFailed
    """
    place = Place(**target)
    user = moving.user(place)
    with ceph_faults("open the image", user, not_found=NoSuchVolume(place.name)):
        image = rbd.Image(moving.ioctx(place), place.name)
    try:
        size_bytes = _flatten(moving, place, image, frozenset(dead))
    finally:
        image.close()
    return {"size_bytes": size_bytes, "transferred_bytes": moving.done_bytes}


def _flatten(moving: Moving, place: Place, image: rbd.Image, dead: Set[int]) -> int:
    user = moving.user(place)
    with ceph_faults("read the image", user):
        size_bytes = int(image.size())
        overlap_bytes = _overlap(image)
    if not overlap_bytes:
        return size_bytes
    moving.expect(overlap_bytes)

    def told(done: int, total: int) -> int:
        # Objects, not bytes; and an exception would be swallowed.
        upto = overlap_bytes * done // max(1, total)
        try:
            moving.advance(max(0, upto - moving.done_bytes))
        except Stopped:
            return -_ECANCELED
        return 0

    with _watched_owner(moving, place, dead), ceph_faults("flatten the image", user):
        try:
            flatten(image, told)
        except rbd.OperationCanceled:
            raise Stopped from None
    return size_bytes


def _overlap(image: rbd.Image) -> int:
    """How much of an image its parent lies under; 0 without one."""
    return int(image.overlap()) if has_parent(image) else 0


@contextlib.contextmanager
def _watched_owner(moving: Moving, place: Place, dead: Set[int]) -> Iterator[None]:
    """Ask who has the image open again and again; end the process when one does not answer."""
    done = threading.Event()

    def ask() -> None:
        cluster = moving.clusters[place.cluster]
        with (
            contextlib.suppress(rbd.Error),
            rbd.Image(moving.ioctx(place), place.name, read_only=True) as image,
        ):
            require_answers(cluster, place.spec, image, place.name, dead)

    def watch() -> None:
        while not done.wait(_WATCH_S):
            try:
                ask()
            except VirtcephError as error:
                if done.is_set():
                    return
                moving.tell({"error": wire.dump_error(error)})
                # Closing the image would wait for the owner; the request dies with this process.
                os._exit(1)

    ask()
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
