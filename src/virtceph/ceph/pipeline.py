"""Several reads and writes of an image at once, in order, until told to stop. For movers only.

A cluster answers one 4 MiB request in a millisecond and takes ten in two, so what moves data keeps ten
under way. Reads are handed on in the order of their offsets, so that what follows (a hash, a stream)
needs no sorting.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import rbd

from virtceph.units import KiB, MiB

CHUNK_BYTES = 4 * MiB
DEPTH = 10
# How often a wait looks whether it should stop.
_LOOK_S = 0.25

# Zeros are left out in runs of at least this much.
_GRAIN_BYTES = 64 * KiB
_ZEROS = bytes(_GRAIN_BYTES)

Piece = tuple[int, int]
Call = Callable[[], None]


def pieces(offset: int, length: int) -> Iterator[Piece]:
    """An extent in pieces that end at multiples of CHUNK_BYTES, as objects do."""
    end = offset + length
    while offset < end:
        upto = min(end, (offset // CHUNK_BYTES + 1) * CHUNK_BYTES)
        yield offset, upto - offset
        offset = upto


class _Read:
    def __init__(self, image: rbd.Image, offset: int, length: int) -> None:
        self.offset = offset
        self._done = threading.Event()
        self._data: bytes | None = None
        self._result = 0
        # The completion stays referenced until it has been told.
        self._completion = image.aio_read(offset, length, self._told)

    def _told(self, completion: rbd.Completion, data: bytes | None) -> None:
        self._result, self._data = completion.get_return_value(), data
        self._done.set()

    @property
    def is_answered(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is answered within that time."""
        return self._done.wait(timeout_s)

    def data(self) -> bytes:
        """What was read. Raises rbd.Error."""
        if self._data is None:
            raise rbd.OSError(f"read at {self.offset}", errno=self._result)
        return self._data


def read_ahead(
    image: rbd.Image, wanted: Iterable[Piece], going: Call, working: Call
) -> Iterator[tuple[int, bytes]]:
    """The bytes of each piece, in the order asked, DEPTH reads ahead. Blocks. `going` raises when the work
    is to stop; `working` hears of every answer, in whatever order they come. Source: rbd_aio_read. Raises
    rbd.Error."""
    under_way: deque[_Read] = deque()
    answered = 0
    pieces_left = iter(wanted)
    while True:
        for offset, length in islice(pieces_left, DEPTH - len(under_way)):
            under_way.append(_Read(image, offset, length))
        if not under_way:
            return
        going()
        # With a limit on an image librbd may answer its first read after all others.
        while not under_way[0].wait(_LOOK_S):
            going()
            now = sum(read.is_answered for read in under_way)
            if now != answered:
                answered = now
                working()
        first = under_way.popleft()
        yield first.offset, first.data()


class WriteBehind:
    """Writes to an image, DEPTH at once. An error is raised by the next call after it, or by `finish`.
    `advance` hears how many bytes more are written, and raises when the work is to stop.

    Source: rbd_aio_write, rbd_aio_write_zeroes, rbd_flush.
    """

    def __init__(self, image: rbd.Image, advance: Callable[[int], None]) -> None:
        self._image, self._advance = image, advance
        self._change = threading.Condition()
        self._under_way: dict[int, rbd.Completion | None] = {}
        self._failed: tuple[str, int] | None = None
        self._settled_bytes = 0
        self._next = 0

    def write(self, offset: int, data: bytes) -> None:
        """Begin to write. Blocks while DEPTH are under way."""
        self._begin(
            f"write at {offset}",
            len(data),
            lambda told: self._image.aio_write(data, offset, told),
        )

    def zero(self, offset: int, length: int) -> None:
        """Begin to make a range read as zeros. (A discard would leave parts of objects as they are.) Blocks
        while DEPTH are under way."""
        self._begin(
            f"zero at {offset}",
            length,
            lambda told: self._image.aio_write_zeroes(offset, length, told),
        )

    def finish(self) -> None:
        """Wait for all of them, and have them on the disks. Blocks. Raises rbd.Error."""
        self._wait_for_fewer_than(1)
        self._image.flush()

    def _begin(
        self, what: str, length: int, begin: Callable[[Callable[..., None]], rbd.Completion]
    ) -> None:
        self._wait_for_fewer_than(DEPTH)
        number, self._next = self._next, self._next + 1

        def told(completion: rbd.Completion) -> None:
            result = completion.get_return_value()
            with self._change:
                self._under_way.pop(number, None)
                self._settled_bytes += length
                if result < 0 and self._failed is None:
                    self._failed = what, result
                self._change.notify()

        with self._change:
            self._under_way[number] = None
        completion = begin(told)
        with self._change:
            # Kept until it is told, which may be already.
            if number in self._under_way:
                self._under_way[number] = completion

    def _wait_for_fewer_than(self, count: int) -> None:
        while True:
            with self._change:
                enough = self._change.wait_for(lambda: len(self._under_way) < count, _LOOK_S)
                settled, self._settled_bytes = self._settled_bytes, 0
                failed = self._failed
            self._advance(settled)
            if failed is not None:
                what, result = failed
                raise rbd.OSError(what, errno=result)
            if enough:
                return


def is_zeros(data: bytes) -> bool:
    """Whether a piece is nothing but zeros."""
    return all(
        data.startswith(_ZEROS[: len(data) - place], place)
        for place in range(0, len(data), _GRAIN_BYTES)
    )


def filled_parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The parts of a piece that are not zeros, by their place in it: what a sparse copy writes."""
    begin: int | None = None
    for place in range(0, len(data), _GRAIN_BYTES):
        # A comparison that ends at the first byte that differs, and copies nothing.
        is_zero = data.startswith(_ZEROS[: len(data) - place], place)
        if is_zero and begin is not None:
            yield begin, data[begin:place]
            begin = None
        elif not is_zero and begin is None:
            begin = place
    if begin is not None:
        yield begin, data[begin:]
