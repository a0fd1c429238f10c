"""A diff applied to an image: checked first, then written, then verified. For movers only; see `diffs`."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import rbd

from virtceph.ceph import extents
from virtceph.ceph.blockhashes import differing
from virtceph.ceph.diffs import read_file
from virtceph.ceph.diffstream import DiffHeader, DiffReader
from virtceph.ceph.diffwriter import digest_of
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.manifest import ManifestHeader, ManifestReader, StreamDigest
from virtceph.ceph.moving import Moving
from virtceph.ceph.parts import PartSpec, made_note, new_part, opened_part
from virtceph.ceph.pipeline import WriteBehind, pieces
from virtceph.ceph.rawfiles import file_faults
from virtceph.ceph.sources import Place, reading
from virtceph.errors import DiffMismatch

# On an image that was restored by diffs with manifests: the volume whose they are.
_ORIGIN_KEY = "virtceph.restored"


def check_header(fd: int, path: str) -> DiffHeader:
    """What a stream says of itself at its beginning. Blocks. Raises BadDiff, FileFailed."""
    with file_faults(path), read_file(fd) as file:
        return DiffReader(file, path).header


def check_diff(fd: int, path: str) -> DiffHeader:
    """Read a stream to its end, its data skipped; its header. Blocks. Raises BadDiff, FileFailed."""
    with file_faults(path), read_file(fd) as file:
        reader = DiffReader(file, path)
        for _ in reader.extents():
            pass
        return reader.header


def import_diff(
    moving: Moving,
    target: dict[str, Any],
    volume: str,
    path: str,
    note: dict[str, Any],
) -> dict[str, Any]:
    """Bring an image under way from the snapshot that the stream begins at to the one it ends at, and make
    that snapshot; verify it, if there is a manifest (the second file). A stream from nothing makes the
    image. `volume` is what it is called in errors. Blocks.

    Raises:
        BadDiff, FileFailed, CephPermissionDenied, CephUnavailable, CephFailed
        DiffMismatch: the manifest is of another volume's diff, or it did not become what that says.
    """
    part = PartSpec.load(target)
    header = check_diff(moving.fds[0], path)
    told = _check_manifest(moving, header, volume, path)
    user = moving.user(part.place)
    making = (
        new_part(moving, part, header.size_bytes)
        if header.from_snapshot is None
        else opened_part(moving, part.place)
    )
    with making as image, ceph_faults("write the image", user), file_faults(path):
        if told is not None and header.from_snapshot is not None:
            _check_origin(image, told, volume, path)
        _apply(moving, image, header, path)
        _verify(moving, image, header, volume, path)
        if told is not None:
            _note_origin(image, told)
        if header.to_snapshot is not None:
            image.create_snap(header.to_snapshot)
        if header.from_snapshot is None:
            made_note(image, note)
    return {"size_bytes": header.size_bytes, "transferred_bytes": moving.done_bytes}


def check_base(
    moving: Moving, target: dict[str, Any], volume: str, path: str, since: str
) -> dict[str, Any]:
    """Return if an image under way is as it was at its snapshot: where something was written since, the bytes
    are compared, as after a rollback they are the same. Blocks.

    Raises:
        DiffMismatch: it has changed; nothing was done to it.
        CephUnavailable, CephFailed
    """
    place = Place(**target)
    with (
        opened_part(moving, place) as image,
        reading(moving.clusters[place.cluster], place, since) as opened,
        ceph_faults("read the image", moving.user(place)),
    ):
        if image.size() != opened.image.size() or _differs(moving, image, opened.image, since):
            raise DiffMismatch(volume, path, f"the volume has changed since its snapshot {since}")
    return {}


def _differs(moving: Moving, image: rbd.Image, before: rbd.Image, since: str) -> bool:
    """Whether an image has other bytes than at its snapshot."""
    moving.expect(extents.measure(image, since))
    for extent in extents.changed(image, since):
        for offset, length in pieces(extent.offset, extent.length):
            if image.read(offset, length) != before.read(offset, length):
                return True
            moving.advance(length)
    return False


def _apply(moving: Moving, image: rbd.Image, header: DiffHeader, path: str) -> None:
    if image.size() != header.size_bytes:
        image.resize(header.size_bytes)
    with read_file(moving.fds[0]) as file:
        moving.expect(_length(file, path))
        writing = WriteBehind(image, moving.advance)
        for piece in DiffReader(file, path).pieces():
            if piece.data is not None:
                writing.write(piece.offset, piece.data)
                continue
            for offset, length in pieces(piece.offset, piece.length):
                writing.zero(offset, length)
        writing.finish()


def _length(file: BinaryIO, path: str) -> int:
    """How many bytes of an image a stream tells, zeros too; the file is at its beginning again."""
    length = sum(extent.length for extent in DiffReader(file, path).extents())
    file.seek(0)
    return length


def _check_manifest(
    moving: Moving, header: DiffHeader, volume: str, path: str
) -> ManifestHeader | None:
    """The manifest's header, if there is one and it is of this stream; before anything is changed."""
    if len(moving.fds) < 2:
        return None
    with file_faults(path), read_file(moving.fds[1]) as file, read_file(moving.fds[0]) as stream:
        reader = ManifestReader(file, f"{path}.manifest")
        for _ in reader.blocks():
            moving.going()
        size_bytes, sha256 = digest_of(stream, moving.working)
    told = reader.header
    ours = (header.from_snapshot, header.to_snapshot, header.size_bytes)
    if (told.from_snapshot, told.to_snapshot, told.size_bytes) != ours:
        raise DiffMismatch(volume, path, "its manifest is of another diff")
    if reader.stream != StreamDigest(size_bytes, sha256):
        raise DiffMismatch(volume, path, "it is not the stream that its manifest was made of")
    return told


def _check_origin(image: rbd.Image, told: ManifestHeader, volume: str, path: str) -> None:
    """That a diff is of the volume that an image was restored from, as far as both tell. All disks of a set
    have snapshots of one name, and where a diff rewrites whole blocks their digests tell nothing of the base.
    A volume that was moved has another id, and its name; one that was renamed, its id."""
    if image.size() != told.from_size_bytes:
        reason = f"it begins at {told.from_size_bytes} bytes, and the volume has {image.size()}"
        raise DiffMismatch(volume, path, reason)
    origin = _origin(image)
    if origin is not None and origin[0] != told.image_id and origin[1] != told.image:
        reason = f"it is of the volume {told.image}, and what was restored so far of {origin[1]}"
        raise DiffMismatch(volume, path, reason)


def _note_origin(image: rbd.Image, told: ManifestHeader) -> None:
    note = {"imageID": told.image_id, "image": told.image, "of": image.id()}
    image.metadata_set(_ORIGIN_KEY, json.dumps(note))


def _origin(image: rbd.Image) -> tuple[str, str] | None:
    """The id and the name of the volume that an image was restored from, if that is noted of this one."""
    try:
        note = json.loads(image.metadata_get(_ORIGIN_KEY))
        return (note["imageID"], note["image"]) if note["of"] == image.id() else None
    except (KeyError, TypeError, ValueError):
        return None


def _verify(moving: Moving, image: rbd.Image, header: DiffHeader, volume: str, path: str) -> None:
    if len(moving.fds) < 2:
        return
    with read_file(moving.fds[1]) as file:
        reader = ManifestReader(file, f"{path}.manifest")
        step = reader.header.block_bytes

        def read(offset: int, length: int) -> bytes:
            moving.working()
            return bytes(image.read(offset, length))

        wrong = next(differing(reader.blocks(), header.size_bytes, step, read), None)
    if wrong is not None:
        reason = f"the block at {wrong * step} is not what its manifest says"
        raise DiffMismatch(volume, path, reason)
