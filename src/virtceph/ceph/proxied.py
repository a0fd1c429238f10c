"""Changes that an image's lock owner makes for whoever asks: done, also where it leaves before it says so.

librbd hands such a change to the owner. One that does it and then closes the image, as every short-lived
client does, may be gone before its answer is: librbd asks anew, and finds the snapshot there, or gone,
already. librbd 16 calls that done; librbd 18 tells it as an error. Callers of these functions have looked
just before, so here it is done in both.

Source: C_InvokeAsyncRequest in librbd/Operations.cc, whose `filter_error_codes` became empty.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import rbd

from virtceph.ceph.imageinfo import has_parent
from virtceph.ceph.snapshotlist import CONSISTENCY_KEY, SET_KEY
from virtceph.errors import CephUnavailable


def create_snapshot(image: rbd.Image, snapshot: str) -> None:
    """Make a snapshot whose name was seen free. Blocks. Raises rbd.Error. Source: rbd_snap_create2."""
    with contextlib.suppress(rbd.ImageExists):
        image.create_snap(snapshot)


def remove_snapshot(image: rbd.Image, snapshot: str) -> None:
    """Remove a snapshot that was seen. Blocks. Raises rbd.Error. Source: rbd_snap_remove."""
    with contextlib.suppress(rbd.ImageNotFound):
        image.remove_snap(snapshot)


def remove_metadata(image: rbd.Image, key: str) -> None:
    """Remove a key of an image's metadata, if it is there. Blocks. Raises rbd.Error.
    Source: rbd_metadata_remove."""
    # KeyError is the binding's word for "no such key".
    with contextlib.suppress(KeyError, rbd.ImageNotFound):
        image.metadata_remove(key)


def forget(image: rbd.Image, snap_id: int) -> None:
    """Remove what was noted of a snapshot that is gone. Blocks. Raises CephUnavailable."""
    for key in (CONSISTENCY_KEY, SET_KEY):
        try:
            remove_metadata(image, key.format(id=snap_id))
        except rbd.Error as error:
            raise CephUnavailable("the snapshot is gone, its note may be left") from error


def flatten(image: rbd.Image, on_progress: Callable[[int, int], int]) -> None:
    """Make a clone independent of the parent that it was seen to have. Blocks. Raises rbd.Error, and
    rbd.OperationCanceled when `on_progress` returns less than 0. Source: rbd_flatten_with_progress."""
    try:
        image.flatten(on_progress=on_progress)
    except rbd.InvalidArgument:
        if has_parent(image):
            raise
