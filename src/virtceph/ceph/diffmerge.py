"""Consecutive diffs made into one, as `rbd merge-diff` does, of any number at once. Pure: see `diffstream`.

All streams are walked side by side in the order of offsets, and of each place the latest word counts. What
one of them wrote beyond a size that a later one cut the image to is gone; where the image grew again after
that, it is zeros, and these are written down: the image that the result is applied to may have other bytes
there. Memory holds one extent of each stream; the data go from file to file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from virtceph.ceph.diffstream import DiffHeader, DiffReader, Extent
from virtceph.ceph.diffwriter import DiffWriter


@dataclass(frozen=True)
class Source:
    """One diff in a regular file, open for reading; `path` is what it is called in errors."""

    file: BinaryIO
    path: str


def merge_diffs(
    sources: Sequence[Source],
    file: BinaryIO,
    *,
    base_size_bytes: int | None = None,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> DiffHeader:
    """Write to `file` what all of `sources`, oldest first, come to; the header of the result. Blocks on all
    of them. Source: `rbd merge-diff`.

    `base_size_bytes` is the size of the image at the first one's beginning, where it is known: less has to
    be zeroed then. `advance` hears how many bytes of data more are written. After an error what `file` has
    is worthless.

    Raises:
        BadDiff: one of them is not right (this may come late), or does not begin where the last one ends.
        OSError: of any of the files.
    """
    readers = [DiffReader(source.file, source.path) for source in sources]
    header = _joined_header(readers)
    writer = DiffWriter(file, header)
    files = {
        id(reader): source.file.fileno() for reader, source in zip(readers, sources, strict=True)
    }
    for part in _adjacent_zeros_joined(_visible(_layers(readers, base_size_bytes))):
        if part.at is None or part.reader is None:
            writer.zeros(part.offset, part.length)
            advance(0)
            continue
        writer.begin(part.offset, part.length)
        if writer.copy(files[id(part.reader)], part.at, part.length) < part.length:
            raise part.reader.bad("it became shorter while it was read", part.at)
        advance(part.length)
    writer.end()
    return header


def _joined_header(readers: Sequence[DiffReader]) -> DiffHeader:
    for before, after in pairwise(readers):
        ends, begins = before.header.to_snapshot, after.header.from_snapshot
        if ends is None or ends != begins:
            reason = f"it begins at {_place(begins)}; expected where the one before it ends, {_place(ends)}"
            raise after.bad(reason, after.from_at)
    first, last = readers[0].header, readers[-1].header
    return DiffHeader(first.from_snapshot, last.to_snapshot, last.size_bytes)


def _place(snapshot: str | None) -> str:
    return "no snapshot" if snapshot is None else f"the snapshot {snapshot}"


@dataclass(frozen=True)
class _Part:
    """A range of the result: bytes `at` a place of a stream, or zeros."""

    offset: int
    length: int
    at: int | None
    reader: DiffReader | None

    @property
    def end(self) -> int:
        return self.offset + self.length


class _Layer:
    """The extents of one stream in order, as far as the image kept them; `now` is the one at hand."""

    def __init__(self, extents: Iterable[Extent], limit: int, reader: DiffReader | None) -> None:
        self._extents, self._limit, self.reader = iter(extents), limit, reader
        self.now: Extent | None = None
        self._advance()

    def pass_by(self, position: int) -> None:
        """Go on to the first extent that ends behind `position`."""
        while self.now is not None and min(self.now.end, self._limit) <= position:
            self._advance()

    def _advance(self) -> None:
        # To the very end, also of what was cut off: a stream is right only if all of it is.
        self.now = next(self._extents, None)
        while self.now is not None and self.now.offset >= self._limit:
            self.now = next(self._extents, None)

    def part(self, now: Extent, start: int, end: int) -> _Part:
        at = None if now.at is None else now.at + start - now.offset
        return _Part(start, end - start, at, self.reader)

    def end_of(self, now: Extent) -> int:
        return min(now.end, self._limit)


def _layers(readers: Sequence[DiffReader], base_size_bytes: int | None) -> list[_Layer]:
    """All layers, the latest first: each stream, and before it what its growth of the image zeroed."""
    layers: list[_Layer] = []
    limit = readers[-1].header.size_bytes
    for index in range(len(readers) - 1, -1, -1):
        reader = readers[index]
        limit = min(limit, reader.header.size_bytes)
        layers.append(_Layer(reader.extents(), limit, reader))
        if index:
            before = readers[index - 1].header.size_bytes
            grown = limit if base_size_bytes is None else min(limit, base_size_bytes)
            if grown > before:
                zeros = Extent(before, grown - before, None)
                layers.append(_Layer([zeros], limit, None))
    return layers


def _visible(layers: list[_Layer]) -> Iterator[_Part]:
    """What counts at each place, in order."""
    position = 0
    while True:
        for layer in layers:
            layer.pass_by(position)
        live = [(layer, layer.now) for layer in layers if layer.now is not None]
        if not live:
            return
        end: int | None = None
        for layer, now in live:
            if now.offset <= position:
                whole = layer.end_of(now)
                end = whole if end is None else min(end, whole)
                yield layer.part(now, position, end)
                position = end
                break
            # A later word begins further on: an earlier one counts up to there.
            end = now.offset if end is None else min(end, now.offset)
        else:
            position = min(now.offset for _, now in live)


def _adjacent_zeros_joined(parts: Iterable[_Part]) -> Iterator[_Part]:
    zeros: _Part | None = None
    for part in parts:
        if part.at is None and zeros is not None and zeros.end == part.offset:
            zeros = _Part(zeros.offset, zeros.length + part.length, None, None)
            continue
        if zeros is not None:
            yield zeros
            zeros = None
        if part.at is None:
            zeros = part
        else:
            yield part
    if zeros is not None:
        yield zeros
