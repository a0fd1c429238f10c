"""Images under way: built under a name of their job's own and renamed when they are whole, so that a part is
never taken for a volume."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rados
import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import FEATURES
from virtceph.ceph.moving import Moving
from virtceph.ceph.sources import Place
from virtceph.errors import NoSuchPool, VolumeExists

# No volume's name begins so: the contract's Name does not allow it.
PART_PREFIX = ".virtceph-"
# What is noted on an image of the job that made it.
MADE_KEY = "virtceph.made"
# cls_rbd_types.h
_TRASH = "rbd_trash"


@dataclass(frozen=True)
class PartSpec:
    """An image to be made. `stripe_unit` and `stripe_count` are 0 for the usual layout."""

    place: Place
    object_size_bytes: int
    features: tuple[str, ...]
    data_pool: str | None = None
    stripe_unit: int = 0
    stripe_count: int = 0

    @classmethod
    def load(cls, raw: dict[str, Any]) -> PartSpec:
        """From its form as JSON."""
        known = {**raw, "place": Place(**raw["place"]), "features": tuple(raw["features"])}
        return cls(**known)


@contextmanager
def new_part(moving: Moving, part: PartSpec, size_bytes: int) -> Iterator[rbd.Image]:
    """A new image, open for writing. It stays when the block fails: who recorded it removes it. Blocks.

    Raises:
        VolumeExists, NoSuchPool (the data pool), CephPermissionDenied, CephUnavailable, CephFailed
    """
    name, user = part.place.name, moving.user(part.place)
    missing = NoSuchPool(part.data_pool) if part.data_pool else None
    ioctx = moving.ioctx(part.place)
    with ceph_faults("create the image", user, exists=VolumeExists(name), not_found=missing):
        _have_trash(ioctx)
        rbd.RBD().create(
            ioctx,
            name,
            size_bytes,
            order=part.object_size_bytes.bit_length() - 1,
            old_format=False,
            features=sum(FEATURES[f] for f in part.features),
            stripe_unit=part.stripe_unit,
            stripe_count=part.stripe_count,
            data_pool=part.data_pool,
        )
    with opened_part(moving, part.place) as image:
        yield image


def _have_trash(ioctx: rados.Ioctx) -> None:
    """Make the object that lists a pool's trash, if there is none: librbd needs it to remove an image, and
    cannot make it when the image has filled the pool. Blocks."""
    with rados.WriteOpCtx() as write:
        write.new(rados.LIBRADOS_CREATE_IDEMPOTENT)
        ioctx.operate_write_op(write, _TRASH)


@contextmanager
def opened_part(moving: Moving, place: Place) -> Iterator[rbd.Image]:
    """An image of this job's, open for writing. Blocks."""
    with ceph_faults("open the image", moving.user(place)):
        image = rbd.Image(moving.ioctx(place), place.name)
    try:
        yield image
    finally:
        image.close()


def made_note(image: rbd.Image, note: dict[str, Any]) -> None:
    """Note on an image which job made it. Copies and clones get this text too: the id tells whose it is.
    Blocks. Raises rbd.Error."""
    image.metadata_set(MADE_KEY, json.dumps({**note, "imageID": image.id()}))


def read_made_note(metadata: dict[str, str], image_id: str) -> dict[str, Any] | None:
    """What was noted of the job that made this very image; None when there is nothing that is its own."""
    try:
        note = json.loads(metadata[MADE_KEY])
        own = note["imageID"] == image_id
    except (KeyError, TypeError, ValueError):
        return None
    return dict(note) if own else None
