"""Raw images in files and block devices: export and import. For movers only.

The daemon opens the files, so nothing here sees a path.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rbd

from virtceph.ceph import extents
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.moving import Moving
from virtceph.ceph.parts import PartSpec, made_note, new_part
from virtceph.ceph.pipeline import (
    CHUNK_BYTES,
    Piece,
    WriteBehind,
    filled_parts,
    pieces,
    read_ahead,
)
from virtceph.ceph.sources import Place, reading
from virtceph.errors import BadImageFile, FileFailed

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_ZERO_RANGE = 0x01, 0x10  # linux/falloc.h
_ZEROS = bytes(CHUNK_BYTES)


def export_raw(
    moving: Moving, source: dict[str, Any], snapshot: str | None, path: str, checksum: bool
) -> dict[str, Any]:
    """Write an image to the file that the daemon opened: holes stay holes in a file, and are zeroed on a
    device. `path` is for people. Blocks.

    Raises:
        NoSuchVolume, NoSuchSnapshot, VolumeChanged, CephUnavailable, CephFailed
        FileFailed: no room, or the disk refused.
    """
    place = Place(**source)
    with reading(moving.clusters[place.cluster], place, snapshot) as opened:
        image = opened.image
        with ceph_faults("read the image", moving.user(place)):
            size_bytes = image.size()
            moving.expect(extents.measure(image, None))
            out = _Output(moving.fds[0], path, size_bytes, checksum)
            filled = (e for e in extents.filled(image) if e.exists)
            wanted = (piece for e in filled for piece in pieces(e.offset, e.length))
            for offset, data in read_ahead(image, wanted, moving.going, moving.working):
                out.put(offset, data)
                moving.advance(len(data))
    out.finish()
    return {
        "size_bytes": size_bytes,
        "transferred_bytes": moving.done_bytes,
        "sha256": out.digest(),
    }


class _Output:
    """A file or device that is written from its beginning to its end."""

    def __init__(self, fd: int, path: str, size_bytes: int, checksum: bool) -> None:
        self._fd, self._path, self._size_bytes = fd, path, size_bytes
        self._is_device = stat.S_ISBLK(os.fstat(fd).st_mode)
        self._hash = hashlib.sha256() if checksum else None
        self._at = 0
        if self._is_device:
            room = os.lseek(fd, 0, os.SEEK_END)
            if room < size_bytes:
                raise FileFailed(path, f"the device has {room} bytes, the image {size_bytes}")
        else:
            with file_faults(path):
                # Empty first: it may have been begun before.
                os.ftruncate(fd, 0)
                os.ftruncate(fd, size_bytes)

    def put(self, offset: int, data: bytes) -> None:
        self._skip_to(offset)
        # A device was asked to zero only what is skipped: there all of it is written.
        parts = [(0, data)] if self._is_device else filled_parts(data)
        for begin, filling in parts:
            self._write(offset + begin, filling)
        if self._hash is not None:
            self._hash.update(data)
        self._at = offset + len(data)

    def finish(self) -> None:
        self._skip_to(self._size_bytes)
        with file_faults(self._path):
            os.fsync(self._fd)

    def digest(self) -> str | None:
        """SHA-256 of all of it, zeros included, as `sha256sum` prints it."""
        return self._hash.hexdigest() if self._hash is not None else None

    def _skip_to(self, offset: int) -> None:
        for place, length in pieces(self._at, offset - self._at):
            if self._is_device:
                self._zero(place, length)
            if self._hash is not None:
                self._hash.update(memoryview(_ZEROS)[:length])
        self._at = offset

    def _zero(self, offset: int, length: int) -> None:
        mode = _FALLOC_FL_ZERO_RANGE | _FALLOC_FL_KEEP_SIZE
        libc = ctypes.CDLL(None, use_errno=True)
        done = libc.fallocate(self._fd, mode, ctypes.c_long(offset), ctypes.c_long(length))
        if done != 0:  # a device that cannot, or a range that is not of whole blocks
            self._write(offset, bytes(memoryview(_ZEROS)[:length]))

    def _write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            with file_faults(self._path):
                written = os.pwrite(self._fd, view, offset)
            view, offset = view[written:], offset + written


@contextmanager
def file_faults(path: str) -> Iterator[None]:
    """Turn any OSError of the block into FileFailed."""
    try:
        yield
    except OSError as error:
        raise _file_failed(path, error) from error


def _file_failed(path: str, error: OSError) -> FileFailed:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FileFailed(path, "no room is left there")
    return FileFailed(path, error.strerror or type(error).__name__)


def import_raw(
    moving: Moving,
    target: dict[str, Any],
    size_bytes: int,
    path: str,
    checksum: bool,
    note: dict[str, Any],
) -> dict[str, Any]:
    """Make a part of `size_bytes` that begins with what is in the file that the daemon opened. Blocks.

    Raises:
        VolumeExists (the part), NoSuchPool, CephPermissionDenied, CephUnavailable, CephFailed
        BadImageFile: it is empty, or became shorter meanwhile. FileFailed: it cannot be read.
    """
    part, fd = PartSpec.load(target), moving.fds[0]
    length = os.lseek(fd, 0, os.SEEK_END)
    if not 0 < length <= size_bytes:
        raise BadImageFile(path, "it changed meanwhile")
    digest = hashlib.sha256() if checksum else None
    with (
        new_part(moving, part, size_bytes) as image,
        ceph_faults("write the image", moving.user(part.place)),
    ):
        _fill(moving, image, fd, length, path, digest)
        made_note(image, note)
    return {
        "size_bytes": size_bytes,
        "transferred_bytes": moving.done_bytes,
        "sha256": digest.hexdigest() if digest is not None else None,
    }


def _fill(
    moving: Moving, image: rbd.Image, fd: int, size_bytes: int, path: str, digest: Any
) -> None:
    writing = WriteBehind(image, moving.advance)
    moving.expect(sum(length for _, length in _data(fd, size_bytes)))
    at = 0
    for offset, length in _data(fd, size_bytes):
        data = _read(fd, offset, length, path)
        if digest is not None:
            for _, skipped in pieces(at, offset - at):
                digest.update(memoryview(_ZEROS)[:skipped])
            digest.update(data)
            at = offset + length
        left_out = length
        for begin, filling in filled_parts(data):
            writing.write(offset + begin, filling)
            left_out -= len(filling)
        moving.advance(left_out)
    if digest is not None:
        for _, skipped in pieces(at, size_bytes - at):
            digest.update(memoryview(_ZEROS)[:skipped])
    if os.lseek(fd, 0, os.SEEK_END) < size_bytes:
        raise BadImageFile(path, "it became shorter while it was read")
    writing.finish()


def _data(fd: int, size_bytes: int) -> Iterator[Piece]:
    """The parts of a file that are no holes, in pieces."""
    at = 0
    while at < size_bytes:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            end = min(os.lseek(fd, begin, os.SEEK_HOLE), size_bytes)
        except OSError as error:
            if error.errno == errno.ENXIO:  # holes to the end
                return
            if error.errno != errno.EINVAL:
                raise
            begin, end = at, size_bytes  # devices know no holes
        yield from pieces(begin, end - begin)
        at = end


def _read(fd: int, offset: int, length: int, path: str) -> bytes:
    with file_faults(path):
        data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise BadImageFile(path, f"it ends at {offset + len(data)}, before its size")
        data += more
    return data
