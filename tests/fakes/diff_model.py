"""Images, diffs and their streams in memory, as simple as they can be, to judge the real thing by."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hypothesis import strategies as st

from virtceph.ceph.diffstream import DiffHeader, DiffReader
from virtceph.ceph.diffwriter import DiffWriter

# Small enough that extents meet, and several of the smallest blocks.
MAX_SIZE = 3000


@dataclass(frozen=True)
class Change:
    """Bytes written, or (`data` is None) zeros."""

    offset: int
    length: int
    data: bytes | None


@dataclass(frozen=True)
class Diff:
    size: int
    changes: tuple[Change, ...]


def resized(image: bytes, size: int) -> bytes:
    return image[:size].ljust(size, b"\0")


def applied(image: bytes, diff: Diff) -> bytes:
    """As `rbd import-diff` applies it: first the size, then the extents."""
    made = bytearray(resized(image, diff.size))
    for change in diff.changes:
        made[change.offset : change.offset + change.length] = change.data or bytes(change.length)
    return bytes(made)


def stream(diff: Diff, begins: str | None = None, ends: str | None = None) -> bytes:
    """The diff as our writer writes it."""
    file = io.BytesIO()
    writer = DiffWriter(file, DiffHeader(begins, ends, diff.size))
    for change in diff.changes:
        if change.data is None:
            writer.zeros(change.offset, change.length)
        else:
            writer.written(change.offset, change.data)
    writer.end()
    return file.getvalue()


def read(data: bytes | BinaryIO, at_most: int = MAX_SIZE) -> tuple[DiffHeader, Diff]:
    """A stream as our reader reads it."""
    reader = DiffReader(io.BytesIO(data) if isinstance(data, bytes) else data, "a.diff")
    changes = tuple(Change(p.offset, p.length, p.data) for p in reader.pieces(at_most))
    return reader.header, Diff(reader.header.size_bytes, changes)


def by_hand(*records: bytes, banner: bytes = b"rbd diff v1\n") -> bytes:
    """A stream of records as they are given."""
    return banner + b"".join(records)


def name(tag: bytes, text: bytes) -> bytes:
    return tag + struct.pack("<I", len(text)) + text


def size(number: int) -> bytes:
    return b"s" + struct.pack("<Q", number)


def extent(tag: bytes, offset: int, length: int, data: bytes = b"") -> bytes:
    return tag + struct.pack("<QQ", offset, length) + data


def files(folder: Path, streams: list[bytes]) -> list[Path]:
    """The streams, each in a file of its own."""
    paths = [folder / f"{index}.diff" for index in range(len(streams))]
    for path, data in zip(paths, streams, strict=True):
        path.write_bytes(data)
    return paths


@st.composite
def diffs(draw: st.DrawFn, sizes: st.SearchStrategy[int] | None = None) -> Diff:
    """Any diff: extents in order, none beyond the size."""
    total = draw(sizes or st.integers(0, MAX_SIZE))
    marks = st.integers(0, total)
    cuts = sorted(draw(st.lists(marks, max_size=12, unique=True)))
    changes = []
    for start, end in zip(cuts[::2], cuts[1::2], strict=False):
        filled = draw(st.booleans())
        # One byte for all of it: what matters is where it came from.
        byte = draw(st.integers(1, 255)) if filled else 0
        changes.append(
            Change(start, end - start, bytes([byte]) * (end - start) if filled else None)
        )
    return Diff(total, tuple(changes))


def images() -> st.SearchStrategy[bytes]:
    """Any image, of one byte throughout."""
    return st.builds(
        lambda byte, length: bytes([byte]) * length, st.integers(1, 255), st.integers(0, MAX_SIZE)
    )
