"""What changed in an image between snapshots, out to a stream, and streams made one. For movers only; the
format is that of `rbd export-diff` (see `diffstream`).

A manifest beside the stream has the digest of every block that the diff touches, so that a restore can be
verified block by block.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import rbd

from virtceph.ceph import extents
from virtceph.ceph.blockhashes import BlockHashes
from virtceph.ceph.diffmerge import Source as DiffSource
from virtceph.ceph.diffmerge import merge_diffs
from virtceph.ceph.diffstream import DiffHeader
from virtceph.ceph.diffwriter import DiffWriter, digest_of
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.manifest import (
    ManifestHeader,
    ManifestReader,
    ManifestWriter,
    StreamDigest,
    merge_manifests,
)
from virtceph.ceph.moving import Moving
from virtceph.ceph.pipeline import is_zeros, read_ahead
from virtceph.ceph.rawfiles import file_faults
from virtceph.ceph.sources import Place, reading
from virtceph.errors import NoSuchSnapshot
from virtceph.units import KiB, MiB

# Small enough that a block with one changed page is no great thing to read, large enough for few lines.
BLOCK_BYTES = 256 * KiB
_BUFFER_BYTES = MiB


def export_diff(
    moving: Moving, source: dict[str, Any], since: str | None, snapshot: str, path: str
) -> dict[str, Any]:
    """Write what changed from one snapshot (or from nothing) to another to the first of the files, and a
    manifest to the second, if there is one. Blocks.

    Raises:
        NoSuchVolume, NoSuchSnapshot, CephUnavailable, CephFailed, FileFailed
    """
    place = Place(**source)
    user = moving.user(place)
    cluster = moving.clusters[place.cluster]
    with reading(cluster, place, snapshot) as opened, file_faults(path):
        image = opened.image
        with ceph_faults("read the image", user):
            header = DiffHeader(since, snapshot, image.size())
            before = 0 if since is None else size_at(image, place.name, since)
            moving.expect(extents.measure(image, since))
        with written_file(moving.fds[0]) as file:
            writer = DiffWriter(file, header, digest=len(moving.fds) > 1)
            if len(moving.fds) > 1:
                manifest = _manifest_header(place, str(cluster.fsid), image, header, before)
                with written_file(moving.fds[1]) as second, ceph_faults("read the image", user):
                    blocks = ManifestWriter(second, manifest)
                    hashes = BlockHashes(
                        before, header.size_bytes, BLOCK_BYTES, image.read, blocks.block
                    )
                    _stream(moving, image, since, writer, hashes)
                    hashes.end()
                    writer.end()
                    blocks.end(StreamDigest(writer.size_bytes, writer.sha256()))
            else:
                with ceph_faults("read the image", user):
                    _stream(moving, image, since, writer, None)
                    writer.end()
    return {"size_bytes": header.size_bytes, "transferred_bytes": writer.size_bytes}


def _stream(
    moving: Moving,
    image: rbd.Image,
    since: str | None,
    writer: DiffWriter,
    hashes: BlockHashes | None,
) -> None:
    """Each extent as librbd tells it, as `rbd export-diff` does: one record each, zeros as such."""
    discarded: list[extents.Extent] = []

    def wanted() -> Iterator[tuple[int, int]]:
        for extent in extents.changed(image, since):
            if extent.exists:
                yield extent.offset, extent.length
            else:
                discarded.append(extent)

    def tell_discarded(upto: int | None) -> None:
        while discarded and (upto is None or discarded[0].offset < upto):
            extent = discarded.pop(0)
            writer.zeros(extent.offset, extent.length)
            if hashes is not None:
                hashes.zeros(extent.offset, extent.length)
            moving.advance(extent.length)

    for offset, data in read_ahead(image, wanted(), moving.going, moving.working):
        # Reads are ahead of what is written: what lies before this one comes first.
        tell_discarded(offset)
        if is_zeros(data):
            writer.zeros(offset, len(data))
        else:
            writer.written(offset, data)
        if hashes is not None:
            hashes.written(offset, data)
        moving.advance(len(data))
    tell_discarded(None)


def _manifest_header(
    place: Place, fsid: str, image: rbd.Image, header: DiffHeader, before: int
) -> ManifestHeader:
    return ManifestHeader(
        fsid,
        place.pool,
        place.namespace,
        place.name,
        image.id(),
        header.from_snapshot,
        before,
        header.to_snapshot,
        header.size_bytes,
        BLOCK_BYTES,
    )


def size_at(image: rbd.Image, name: str, snapshot: str) -> int:
    for snap in image.list_snaps():
        if snap["name"] == snapshot:
            return int(snap["size"])
    raise NoSuchSnapshot(name, snapshot)


def merge(moving: Moving, paths: list[str], path: str, with_manifest: bool) -> dict[str, Any]:
    """Make one stream of consecutive ones: the files are the streams, their manifests if there are any, the
    stream to write and its manifest. Blocks.

    Raises:
        BadDiff: one is not right, or does not begin where the one before it ends. FileFailed
    """
    count = len(paths)
    sources, rest = moving.fds[:count], moving.fds[count:]
    moving.expect(sum(os.fstat(fd).st_size for fd in sources))
    with _allread_file(sources) as files, file_faults(path):
        found = [DiffSource(file, name) for file, name in zip(files, paths, strict=True)]
        out = rest[count] if with_manifest else rest[0]
        with written_file(out) as file:
            header = merge_diffs(found, file, advance=moving.advance)
        if with_manifest:
            with read_file(out) as file:
                stream = StreamDigest(*digest_of(file, moving.working))
            with _allread_file(rest[:count]) as manifests, written_file(rest[count + 1]) as file:
                names = [f"{name}.manifest" for name in paths]
                readers = [ManifestReader(*one) for one in zip(manifests, names, strict=True)]
                merge_manifests(readers, file, stream)
    written = os.fstat(out).st_size
    moving.advance(moving.total_bytes - moving.done_bytes)
    return {"size_bytes": header.size_bytes, "transferred_bytes": written}


@contextmanager
def written_file(fd: int) -> Iterator[BinaryIO]:
    """A file that the daemon opened, to be written from its beginning; it is on the disk at the end."""
    with os.fdopen(os.dup(fd), "wb", _BUFFER_BYTES) as file:
        yield file
        file.flush()
        os.fsync(fd)


@contextmanager
def read_file(fd: int) -> Iterator[BinaryIO]:
    """A file that the daemon opened, to be read from its beginning."""
    os.lseek(fd, 0, os.SEEK_SET)
    with os.fdopen(os.dup(fd), "rb", _BUFFER_BYTES) as file:
        yield file


@contextmanager
def _allread_file(fds: list[int]) -> Iterator[list[BinaryIO]]:
    files: list[BinaryIO] = []
    try:
        for fd in fds:
            os.lseek(fd, 0, os.SEEK_SET)
            files.append(os.fdopen(os.dup(fd), "rb", _BUFFER_BYTES))
        yield files
    finally:
        for file in files:
            file.close()
