"""So many at a time on a host: a file for each slot, locked by whoever has it, and free when he is gone."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AGAIN_S = 0.5


class NoSlot(Exception):
    """None came free in time, or the folder is of no use; the text says which."""


@contextmanager
def slot(folder: Path, count: int, wait_s: float) -> Iterator[None]:
    """Have one of `count` slots inside the block. Blocks up to `wait_s`. Raises NoSlot."""
    end_s = time.monotonic() + wait_s
    while (fd := _take(folder, count)) is None:
        if time.monotonic() >= end_s:
            raise NoSlot(f"{count} were at it for {wait_s:g} s")
        time.sleep(_AGAIN_S)
    try:
        yield
    finally:
        # With the file the lock is gone, as it is when the process ends in whichever way.
        os.close(fd)


def _take(folder: Path, count: int) -> int | None:
    for number in range(count):
        try:
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            fd = os.open(folder / f"slot-{number}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise NoSlot(f"{folder}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        return fd
    return None
