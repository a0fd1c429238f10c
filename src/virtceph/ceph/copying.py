"""Copies of images, between pools, namespaces and clusters, with or without their snapshots. For movers only.

librbd's own deep copy can neither be stopped nor tell how far it is, and aborts the process on some images.
Here a copy is what a backup and its restore would make: the image as it was at its first snapshot, then what
changed up to each of the next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import rbd

from virtceph.ceph import extents
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.moving import Moving
from virtceph.ceph.parts import PART_PREFIX, PartSpec, made_note, new_part
from virtceph.ceph.pipeline import Piece, WriteBehind, filled_parts, pieces, read_ahead
from virtceph.ceph.snapshotlist import CONSISTENCY_KEY, is_users
from virtceph.ceph.sources import Place, reading

# Ours, and librbd's notes of live migration and mirroring: they speak of this image and no other.
_OF_ONE_IMAGE = ("virtceph.", ".rbd", "rbd_mirror")


@dataclass(frozen=True)
class Step:
    """The image at a snapshot (its head for None), to be made from how it was at the step before."""

    snapshot: str | None
    since: str | None

    def is_ours(self) -> bool:
        """Whether the copy gets no snapshot at this step: the head, or what only holds it still."""
        return self.snapshot is None or self.snapshot.startswith(PART_PREFIX)


def copy_image(
    moving: Moving,
    source: dict[str, Any],
    snapshot: str | None,
    target: dict[str, Any],
    with_snapshots: bool,
    note: dict[str, Any],
) -> dict[str, Any]:
    """Make a part that is as the source is at a snapshot, or at its head; with its user snapshots, if asked.
    `note` says for whom it was made. Blocks.

    Raises:
        NoSuchVolume, NoSuchSnapshot, VolumeExists (the part), VolumeChanged, NoSuchPool,
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    place, part = Place(**source), PartSpec.load(target)
    with reading(moving.clusters[place.cluster], place, snapshot) as opened:
        image = opened.image
        with ceph_faults("read the image", moving.user(place)):
            steps = _steps(image, snapshot) if with_snapshots else [Step(snapshot, None)]
            metadata = _metadata(image)
        with new_part(moving, part, _first_size(moving, place, image, steps)) as copy:
            for step in steps:
                _take(moving, place, step, copy, part, image)
            with ceph_faults("describe the copy", moving.user(part.place)):
                for key, value in metadata.items():
                    copy.metadata_set(key, value)
                made_note(copy, note)
                size_bytes = copy.size()
    return {
        "size_bytes": size_bytes,
        "transferred_bytes": moving.done_bytes,
        "snapshots": sum(not step.is_ours() for step in steps) if with_snapshots else 0,
        "version": opened.version,
    }


def _steps(image: rbd.Image, last: str | None) -> list[Step]:
    """The user's snapshots from the oldest to `last`, or all of them and the head."""
    names = [s["name"] for s in sorted(image.list_snaps(), key=_by_id) if is_users(s)]
    # One of our own is there only to hold the head still.
    names = [name for name in names if not name.startswith(PART_PREFIX) or name == last]
    upto = [*names[: names.index(last) + 1]] if last is not None else [*names, None]
    return [Step(at, before) for before, at in zip([None, *upto], upto, strict=False)]


def _by_id(snap: dict[str, Any]) -> int:
    return int(snap["id"])


def _first_size(moving: Moving, place: Place, image: rbd.Image, steps: list[Step]) -> int:
    with ceph_faults("read the image", moving.user(place)):
        sizes = {s["name"]: s["size"] for s in image.list_snaps()}
        first = steps[0].snapshot
        return int(image.size() if first is None else sizes[first])


def _take(
    moving: Moving, place: Place, step: Step, copy: rbd.Image, part: PartSpec, head: rbd.Image
) -> None:
    """Bring the copy from one step to the next."""
    if step.snapshot is None:
        apply_changes(moving, head, step.since, copy, place, part)
        return
    with reading(moving.clusters[place.cluster], place, step.snapshot) as opened:
        image = opened.image
        apply_changes(moving, image, step.since, copy, place, part)
        with ceph_faults("read the snapshot", moving.user(place)):
            snap_id = image.snap_get_id(step.snapshot)
            protected = image.is_protected_snap(step.snapshot)
            consistency = _value(head, CONSISTENCY_KEY.format(id=snap_id))
    if step.is_ours():
        return
    with ceph_faults("make the snapshot of the copy", moving.user(part.place)):
        copy.create_snap(step.snapshot)
        if protected:
            copy.protect_snap(step.snapshot)
        if consistency is not None:
            new_id = copy.snap_get_id(step.snapshot)
            copy.metadata_set(CONSISTENCY_KEY.format(id=new_id), consistency)


def apply_changes(
    moving: Moving,
    image: rbd.Image,
    since: str | None,
    copy: rbd.Image,
    place: Place,
    part: PartSpec,
) -> None:
    """Write to the copy what the image has, or what changed in it since a snapshot. Blocks."""
    user, copys_user = moving.user(place), moving.user(part.place)
    with ceph_faults("read the image", user):
        size_bytes = image.size()
        moving.expect(extents.measure(image, since))
    with ceph_faults("write the copy", copys_user):
        if copy.size() != size_bytes:
            copy.resize(size_bytes)
    writing = WriteBehind(copy, moving.advance)
    found = extents.filled(image) if since is None else extents.changed(image, since)

    def wanted() -> Iterator[Piece]:
        for extent in found:
            # Piece by piece also here: zeroing terabytes would be one request that cannot be stopped.
            for offset, length in pieces(extent.offset, extent.length):
                if extent.exists:
                    yield offset, length
                else:
                    writing.zero(offset, length)

    with ceph_faults("copy the image", user):
        for offset, data in read_ahead(image, wanted(), moving.going, moving.working):
            # Over what was there before, zeros have to be written too.
            left_out = len(data)
            for begin, filling in filled_parts(data) if since is None else [(0, data)]:
                writing.write(offset + begin, filling)
                left_out -= len(filling)
            moving.advance(left_out)
        writing.finish()


def _metadata(image: rbd.Image) -> dict[str, str]:
    """What is noted on an image and is as true of its copy."""
    return {key: value for key, value in image.metadata_list() if not key.startswith(_OF_ONE_IMAGE)}


def _value(image: rbd.Image, key: str) -> str | None:
    return dict(image.metadata_list()).get(key)
