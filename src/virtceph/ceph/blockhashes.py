"""The digests of the blocks that a diff touches: made while it is exported, checked after it was restored.

Pure: all that is needed of an image is `read(offset, length)`, which gives just so many of its bytes.

    hashes = BlockHashes(from_size_bytes, size_bytes, block_bytes, read_at_to_snapshot, manifest.block)
    hashes.written(offset, data)     # the same extents as go to the stream, in order
    hashes.zeros(offset, length)
    hashes.end()

    for block in differing(reader.blocks(), size_bytes, block_bytes, read_restored):
        ...                          # each block that is not as it should be
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

from virtceph.units import KiB, MiB

Read = Callable[[int, int], bytes]

_CHUNK_BYTES = MiB
_ZEROS = bytes(64 * KiB)


def is_block_size(size_bytes: int) -> bool:
    """Whether blocks may have this size: a power of two from 512 bytes to 64 MiB."""
    return 512 <= size_bytes <= 64 * MiB and not size_bytes & (size_bytes - 1)


def block_end(number: int, block_bytes: int, size_bytes: int) -> int:
    """Where a block ends: with the image at the latest."""
    return min((number + 1) * block_bytes, size_bytes)


@lru_cache(64)
def zeros_digest(length: int) -> bytes:
    """The SHA-256 of so many zeros."""
    digest = hashlib.sha256()
    _update_zeros(digest, length)
    return digest.digest()


class BlockHashes:
    """Makes the digest of each block that a diff touches, and hands it to `emit`, in order.

    Bytes that the diff tells are not read again; what it leaves out of a touched block is read by `read`,
    from the image at the diff's end. Touched without an extent is the block in which the smaller of the two
    sizes lies, if the image was resized: it got longer or shorter, or had a part of it zeroed.
    """

    def __init__(
        self,
        from_size_bytes: int,
        size_bytes: int,
        block_bytes: int,
        read: Read,
        emit: Callable[[int, bytes], object],
    ) -> None:
        self._size, self._step, self._read, self._emit = size_bytes, block_bytes, read, emit
        self._seam = _seam(from_size_bytes, size_bytes, block_bytes)
        # The block at hand, and up to where its bytes are known.
        self._number, self._digest, self._done = -1, hashlib.sha256(), 0

    def written(self, offset: int, data: bytes) -> None:
        """Bytes of the diff. Blocks while the rest of a block is read."""
        view = memoryview(data)
        while view:
            self._go_to(offset)
            part = view[: self._end() - offset]
            self._digest.update(part)
            self._done = offset = offset + len(part)
            view = view[len(part) :]

    def zeros(self, offset: int, length: int) -> None:
        """Zeros of the diff. Blocks while the rest of a block is read."""
        end = offset + length
        while offset < end:
            self._go_to(offset)
            stop = min(end, self._end())
            if offset == self._number * self._step and stop == self._end():
                self._emit(self._number, zeros_digest(stop - offset))
                self._number = -1
            else:
                _update_zeros(self._digest, stop - offset)
                self._done = stop
            offset = stop

    def end(self) -> None:
        """No more extents. Blocks while the rest of the last block is read."""
        self._finish()
        self._emit_seam(before=-1)

    def _go_to(self, offset: int) -> None:
        """Make the block of `offset` the one at hand, all of it before `offset` known."""
        number = offset // self._step
        if number != self._number:
            self._finish()
            self._emit_seam(before=number)
            self._begin(number)
        self._fill(offset)

    def _begin(self, number: int) -> None:
        if number == self._seam:
            self._seam = -1
        self._number, self._digest, self._done = number, hashlib.sha256(), number * self._step

    def _finish(self) -> None:
        if self._number >= 0:
            self._fill(self._end())
            self._emit(self._number, self._digest.digest())
            self._number = -1

    def _emit_seam(self, before: int) -> None:
        seam = self._seam
        if seam >= 0 and (before < 0 or seam < before):
            self._begin(seam)
            self._finish()

    def _fill(self, offset: int) -> None:
        if self._done < offset:
            update_from(self._digest, self._read, self._done, offset)
            self._done = offset

    def _end(self) -> int:
        return block_end(self._number, self._step, self._size)


def differing(
    blocks: Iterable[tuple[int, bytes]], size_bytes: int, block_bytes: int, read: Read
) -> Iterator[int]:
    """The numbers of the blocks that `read` gives otherwise than `blocks` says. Blocks while it reads; what
    `read` and `blocks` raise is left as it is."""
    for number, expected in blocks:
        digest = hashlib.sha256()
        end = block_end(number, block_bytes, size_bytes)
        update_from(digest, read, number * block_bytes, end)
        if digest.digest() != expected:
            yield number


def update_from(digest: hashlib._Hash, read: Read, start: int, end: int) -> None:
    """Add a range of an image to a digest. ValueError when `read` does not give all of it."""
    for offset in range(start, end, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, end - offset)
        data = read(offset, length)
        if len(data) != length:
            raise ValueError(f"{len(data)} bytes at {offset} where {length} were asked for")
        digest.update(data)


def _seam(from_size_bytes: int, size_bytes: int, block_bytes: int) -> int:
    """The block that a resize changed although no extent need say so; -1 for none."""
    smaller = min(from_size_bytes, size_bytes)
    resized = from_size_bytes != size_bytes
    return smaller // block_bytes if resized and smaller % block_bytes else -1


def _update_zeros(digest: hashlib._Hash, length: int) -> None:
    whole, rest = divmod(length, len(_ZEROS))
    for _ in range(whole):
        digest.update(_ZEROS)
    digest.update(_ZEROS[:rest])
