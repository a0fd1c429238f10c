"""Which parts of an image hold data, or differ from an earlier snapshot. For movers only.

The object map says it without asking for every object, but it may be marked as invalid, and then says
nothing that can be relied on: an image is read as a whole then, never by a map that may be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import rbd

from virtceph.units import GiB

# librbd tells of a range at a time. A multiple of every object size: it counts from object boundaries.
_WINDOW_BYTES = 64 * GiB
_RBD_FLAG_OBJECT_MAP_INVALID, _RBD_FLAG_FAST_DIFF_INVALID = 1, 2  # rbd/librbd.h


class Extent(NamedTuple):
    """A range of an image; `exists` is False where data was discarded since the snapshot."""

    offset: int
    length: int
    exists: bool


def has_map(image: rbd.Image) -> bool:
    """Whether the object map of the image, as it is opened, can be relied on. Blocks.
    Source: rbd_get_flags."""
    if not image.features() & rbd.RBD_FEATURE_FAST_DIFF:
        return False
    invalid = _RBD_FLAG_OBJECT_MAP_INVALID | _RBD_FLAG_FAST_DIFF_INVALID
    return not image.flags() & invalid


def filled(image: rbd.Image) -> Iterator[Extent]:
    """What has to be read to have all of an image: its objects that exist, or everything when no map tells
    which do. Blocks."""
    if has_map(image):
        yield from _joined(_iterate(image, None, whole_objects=True))
    elif size_bytes := image.size():
        yield Extent(0, size_bytes, True)


def changed(image: rbd.Image, since: str | None) -> Iterator[Extent]:
    """What was written or discarded since a snapshot (from the beginning, for None), to the byte as the OSDs
    know it. Blocks. Source: rbd_diff_iterate2.

    Unchanged objects are skipped by librbd where there is a map; else each one is asked for. No extent
    reaches beyond its object.
    """
    return _iterate(image, since, whole_objects=False)


def measure(image: rbd.Image, since: str | None) -> int:
    """About how many bytes `filled` or `changed` will name: exact to the object where a map tells, else the
    size of the image. Blocks."""
    if not has_map(image):
        return int(image.size())
    return sum(extent.length for extent in _iterate(image, since, whole_objects=True))


def _iterate(image: rbd.Image, since: str | None, *, whole_objects: bool) -> Iterator[Extent]:
    """Extents in the order of their offsets."""
    size_bytes = image.size()
    for begin in range(0, size_bytes, _WINDOW_BYTES):
        found: list[Extent] = []

        def told(offset: int, length: int, exists: bool, found: list[Extent] = found) -> None:
            found.append(Extent(offset, length, bool(exists)))

        length = min(_WINDOW_BYTES, size_bytes - begin)
        image.diff_iterate(begin, length, since, told, True, whole_objects)
        found.sort()
        yield from found


def _joined(found: Iterator[Extent]) -> Iterator[Extent]:
    """The same, neighbours of one kind as one."""
    last: Extent | None = None
    for extent in found:
        if last is not None and (last.offset + last.length, last.exists) == (
            extent.offset,
            extent.exists,
        ):
            last = Extent(last.offset, last.length + extent.length, last.exists)
            continue
        if last is not None:
            yield last
        last = extent
    if last is not None:
        yield last
