"""The stream of `rbd export-diff`, version 1, read and written strictly. Pure: no librados, no librbd.

    rbd diff v1\\n
    f <name>                       the snapshot it begins at; absent: it begins at nothing
    t <name>                       the snapshot it ends at; absent: the image as it was just then
    s <size>                       the image's size there
    w <offset> <length> <bytes>    written
    z <offset> <length>            zeros
    e                              the end, and nothing after it

A name is its length (32 bits) and UTF-8; a number has 64 bits; all little endian. Extents come in the order
of their offsets, do not overlap and do not reach beyond the size: `rbd merge-diff` takes no others either.

Both sides work on binary file objects, never on paths (`path` is only told in errors): whoever may open
a file has opened it. Memory is bounded by `PIECE_BYTES`, whatever the stream says.

    with open(fd, "rb", buffering=MiB) as file:
        reader = DiffReader(file, path)              # reads the header
        for piece in reader.pieces():                # or `extents()`, which skips the data
            image.write(piece.data, piece.offset)    # `data` is None for zeros of `length`
    # all was read and right up to the last byte; BadDiff may come as late as that

Such streams are written by `diffwriter`, merged by `diffmerge`, and verified by `manifest`.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from virtceph.errors import BadDiff
from virtceph.units import MiB

BANNER = b"rbd diff v1\n"
PIECE_BYTES = 4 * MiB
MAX_NAME_BYTES = 4096  # what `rbd import-diff` takes
MAX_SIZE_BYTES = (1 << 63) - 1  # an offset in a file of the host cannot be larger

# By their first bytes, as many as the banner has.
_OTHERS = {
    b"rbd diff v2\n": "an `rbd` diff of version 2",
    b"rbd image v2": "a whole image (`rbd export --export-format 2`)",
    b"rbd image di": "the diffs of a whole image (`rbd export --export-format 2`)",
}
RANGE = struct.Struct("<QQ")
SIZE = struct.Struct("<Q")
NAME = struct.Struct("<I")
_TRUNCATED = "it ends inside a record"


@dataclass(frozen=True)
class DiffHeader:
    """Between which snapshots (None: from nothing; to the image as it was), and the size at the end."""

    from_snapshot: str | None
    to_snapshot: str | None
    size_bytes: int


@dataclass(frozen=True)
class Extent:
    """A changed range of the image. `at` is where its bytes lie in the stream; None: it is zeros."""

    offset: int
    length: int
    at: int | None

    @property
    def end(self) -> int:
        return self.offset + self.length


@dataclass(frozen=True)
class Piece:
    """A part of a written extent with its bytes, or (`data` is None) a whole extent of zeros."""

    offset: int
    length: int
    data: bytes | None


class DiffReader:
    """One stream, read once from its beginning. Blocks on `file`.

    Raises:
        BadDiff: from the constructor and from both iterators; `OSError` of the file is left as it is.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.path = path
        self._file = file
        self._end = _length_of(file)
        self._position = 0
        self._last_end = 0
        banner = self._read(len(BANNER), short_is_foreign=True)
        if banner != BANNER:
            what = _OTHERS.get(banner, "no `rbd` diff")
            raise self.bad(f"it is {what}; expected `rbd diff v1`", 0)
        # Where the header names them; what does not follow on another stream is told with its place.
        self.from_at = 0
        self.header, self._tag = self._read_header()

    def bad(self, reason: str, offset: int | None = None) -> BadDiff:
        """The error of this stream, at `offset` or where it is read."""
        return BadDiff(self.path, self._position if offset is None else offset, reason)

    def extents(self) -> Iterator[Extent]:
        """Every extent, its bytes skipped. The file has to be one that can be read at any place for `at` to
        be of use."""
        while (extent := self._next()) is not None:
            yield extent
            if extent.at is not None:
                self._skip(extent.length)

    def pieces(self, at_most_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
        """Every extent with its bytes, in pieces of at most `at_most_bytes`; zeros are never cut."""
        while (extent := self._next()) is not None:
            if extent.at is None:
                yield Piece(extent.offset, extent.length, None)
                continue
            for offset in range(extent.offset, extent.end, at_most_bytes):
                data = self._read(min(at_most_bytes, extent.end - offset))
                yield Piece(offset, len(data), data)

    def _read_header(self) -> tuple[DiffHeader, bytes]:
        names: dict[bytes, str] = {}
        size_bytes: int | None = None
        while True:
            at = self._position
            tag = self._read(1)
            if tag in names or (tag == b"s" and size_bytes is not None):
                raise self.bad(f"a second record `{tag.decode()}`", at)
            if tag == b"f":
                self.from_at = at
            if tag in (b"f", b"t"):
                names[tag] = self._read_name()
            elif tag == b"s":
                size_bytes = self._read_size()
            elif tag not in (b"w", b"z", b"e"):
                raise self.bad(f"an unknown record {_shown(tag)}", at)
            elif size_bytes is None:
                raise self.bad(f"a record `{tag.decode()}` before the image's size", at)
            else:
                return DiffHeader(names.get(b"f"), names.get(b"t"), size_bytes), tag

    def _read_name(self) -> str:
        at = self._position
        (length,) = NAME.unpack(self._read(NAME.size))
        if not 0 < length <= MAX_NAME_BYTES:
            raise self.bad(f"a name of {length} bytes; expected 1 to {MAX_NAME_BYTES}", at)
        try:
            name = self._read(length).decode()
        except UnicodeDecodeError as error:
            raise self.bad("a name that is no UTF-8", at) from error
        if "\0" in name:
            raise self.bad("a name with a NUL in it", at)
        return name

    def _read_size(self) -> int:
        at = self._position
        (size_bytes,) = SIZE.unpack(self._read(SIZE.size))
        if size_bytes > MAX_SIZE_BYTES:
            raise self.bad(f"an image of {size_bytes} bytes; expected at most 2^63 - 1", at)
        return int(size_bytes)

    def _next(self) -> Extent | None:
        """The next extent, up to where its bytes begin; None at the end of a stream that is right."""
        at = self._position - 1
        tag, self._tag = self._tag, b""
        if not tag:
            at, tag = self._position, self._read(1)
        if tag == b"e":
            if self._file.read(1):
                raise self.bad("something follows after the end")
            # Asked once more, it says the same.
            self._tag = b"e"
            return None
        if tag not in (b"w", b"z"):
            known = tag in (b"f", b"t", b"s")
            what = f"a record `{tag.decode()}` after the first extent" if known else _unknown(tag)
            raise self.bad(what, at)
        offset, length = RANGE.unpack(self._read(RANGE.size))
        self._require_in_order(offset, length, at)
        self._last_end = offset + length
        return Extent(offset, length, self._position if tag == b"w" else None)

    def _require_in_order(self, offset: int, length: int, at: int) -> None:
        if not length:
            raise self.bad("an extent of no length", at)
        if offset + length > self.header.size_bytes:
            size = self.header.size_bytes
            raise self.bad(f"an extent {offset}+{length} beyond the image's size, {size}", at)
        if offset < self._last_end:
            reason = f"an extent at {offset} that lies before the end of the last, {self._last_end}"
            raise self.bad(reason, at)

    def _skip(self, length: int) -> None:
        if self._end is None:
            while length:
                length -= len(self._read(min(length, PIECE_BYTES)))
            return
        if self._position + length > self._end:
            raise self.bad(_TRUNCATED, self._end)
        self._file.seek(length, io.SEEK_CUR)
        self._position += length

    def _read(self, length: int, *, short_is_foreign: bool = False) -> bytes:
        data = self._file.read(length)
        while len(data) < length:
            # Only a file without a buffer gives less than there is.
            more = self._file.read(length - len(data))
            if not more:
                break
            data += more
        self._position += len(data)
        if len(data) < length:
            if short_is_foreign and not BANNER.startswith(data):
                raise self.bad("it is no `rbd` diff; expected `rbd diff v1`", 0)
            raise self.bad("it is empty" if not self._position else _TRUNCATED)
        return data


def _length_of(file: BinaryIO) -> int | None:
    """How long a file is that can be read at any place; None for a pipe."""
    if not file.seekable():
        return None
    try:
        found = os.fstat(file.fileno())
    except (OSError, AttributeError):  # in memory
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _unknown(tag: bytes) -> str:
    return f"an unknown record {_shown(tag)}"


def _shown(tag: bytes) -> str:
    return repr(tag)[1:]
