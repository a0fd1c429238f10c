"""Writing what `diffstream` reads.

with open(fd, "wb", buffering=MiB) as file:
    writer = DiffWriter(file, DiffHeader(None, "monday", size_bytes), digest=True)
    writer.written(offset, data)                 # in the order of offsets
    writer.zeros(offset, length)
    writer.end()                                 # then `writer.size_bytes` and `writer.sha256()`
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import BinaryIO

from virtceph.ceph.diffstream import BANNER, NAME, PIECE_BYTES, RANGE, SIZE, DiffHeader
from virtceph.units import KiB, MiB

_COPY_BYTES = 64 * MiB
# Below this the system call that copies costs more than the bytes.
_WORTH_COPYING_BYTES = 64 * KiB


class DiffWriter:
    """Writes one stream, the header at once. `file` is open for writing in binary, has a buffer, and is
    nobody else's meanwhile. Blocks on it, and leaves its `OSError` as it is.

    Extents that are out of order are a mistake of the caller's: ValueError. (librbd 16.2 tells them in order,
    also of an image with fancy striping.)
    """

    def __init__(self, file: BinaryIO, header: DiffHeader, *, digest: bool = False) -> None:
        self.header, self.size_bytes = header, 0
        self._file = file
        self._digest = hashlib.sha256() if digest else None
        self._last_end = self._due = 0
        self._put(BANNER)
        for tag, name in ((b"f", header.from_snapshot), (b"t", header.to_snapshot)):
            if name is not None:
                encoded = name.encode()
                self._put(tag + NAME.pack(len(encoded)) + encoded)
        self._put(b"s" + SIZE.pack(header.size_bytes))

    def written(self, offset: int, data: bytes) -> None:
        """An extent with its bytes."""
        self.begin(offset, len(data))
        self.data(data)

    def zeros(self, offset: int, length: int) -> None:
        """An extent of zeros."""
        self._extent(b"z", offset, length)

    def begin(self, offset: int, length: int) -> None:
        """An extent whose bytes follow: by `data` and `copy`, in as many pieces as you like."""
        self._extent(b"w", offset, length)
        self._due = length

    def data(self, data: bytes) -> None:
        """The next bytes of the extent that was begun."""
        self._take_due(len(data))
        self._put(data)

    def copy(self, fd: int, at: int, length: int) -> int:
        """The next `length` bytes of the extent that was begun, from place `at` of another file; how many
        there were. Without a digest the kernel copies, or the file system shares, what is large.
        Source: copy_file_range."""
        left = length
        if self._digest is None and length >= _WORTH_COPYING_BYTES:
            left -= self._copy_in_kernel(fd, at, length)
        while left:
            data = os.pread(fd, min(left, PIECE_BYTES), at + length - left)
            if not data:
                break
            self.data(data)
            left -= len(data)
        return length - left

    def end(self) -> None:
        """The end of the stream. The file is flushed, not synced."""
        self._require_whole()
        self._put(b"e")
        self._file.flush()

    def sha256(self) -> str:
        """The SHA-256 of all that was written, in hexadecimal; `digest` has to have been asked for."""
        if self._digest is None:
            raise ValueError("no digest was asked for")
        return self._digest.hexdigest()

    def _copy_in_kernel(self, fd: int, at: int, length: int) -> int:
        done = 0
        self._file.flush()
        while done < length:
            try:
                some = min(_COPY_BYTES, length - done)
                copied = os.copy_file_range(fd, self._file.fileno(), some, at + done)
            except OSError:
                # Not between these two; if something is wrong, plain reading and writing will tell.
                break
            if not copied:
                break
            done += copied
            self._take_due(copied)
            self.size_bytes += copied
        return done

    def _extent(self, tag: bytes, offset: int, length: int) -> None:
        self._require_whole()
        if length <= 0 or offset < self._last_end or offset + length > self.header.size_bytes:
            raise ValueError(f"extent {offset}+{length} after {self._last_end}")
        self._last_end = offset + length
        self._put(tag + RANGE.pack(offset, length))

    def _require_whole(self) -> None:
        if self._due:
            raise ValueError(f"{self._due} bytes of the last extent are missing")

    def _take_due(self, length: int) -> None:
        if length > self._due:
            raise ValueError(f"{length} bytes where {self._due} are due")
        self._due -= length

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.size_bytes += len(data)
        if self._digest is not None:
            self._digest.update(data)


def digest_of(file: BinaryIO, working: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """How many bytes a file has from here on, and their SHA-256 in hexadecimal. Blocks on all of it, and
    calls `working` on the way."""
    digest, size_bytes = hashlib.sha256(), 0
    while data := file.read(PIECE_BYTES):
        digest.update(data)
        size_bytes += len(data)
        working()
    return size_bytes, digest.hexdigest()
