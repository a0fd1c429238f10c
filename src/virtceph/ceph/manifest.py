"""What a diff should come to, block by block: a small file beside the stream. Pure: no librados, no librbd.

JSON, one value a line, so that it is written and read as it comes, whatever its length:

    {"format": "virtceph-diff-manifest", "version": 1, "fsid": …, "pool": …, "namespace": …, "image": …,
     "imageID": …, "fromSnapshot": …, "fromSize": …, "toSnapshot": …, "size": …, "blockSize": 4194304}
    [0, "<SHA-256 of block 0>"]
    [7, "<SHA-256 of block 7>"]
    {"blocks": 2, "streamBytes": …, "streamSHA256": …}

A block's digest is that of the whole block as it is at `toSnapshot` (the last block ends with the image).
There is one for every block that the diff touches: by an extent, or because the image's old or new end lies
in it (see `blockhashes`, which makes and checks them). Blocks come in order. Unknown keys are passed over; an
unknown version is not read.

As in `diffstream`, everything works on binary file objects; `path` is only told in errors.

    writer = ManifestWriter(file, header)
    writer.block(0, digest)                      # 32 bytes; in order
    writer.end(stream_size_bytes, stream_sha256)

    reader = ManifestReader(file, path)          # reads the header
    for number, digest in reader.blocks(): ...
    reader.stream                                # known once `blocks` has ended
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, BinaryIO, TypeGuard

from virtceph.ceph.blockhashes import block_end, is_block_size, zeros_digest
from virtceph.ceph.diffstream import MAX_SIZE_BYTES
from virtceph.errors import BadDiff
from virtceph.units import KiB, MiB

FORMAT, VERSION = "virtceph-diff-manifest", 1
BLOCK_BYTES = 4 * MiB

_MAX_LINE_BYTES = 64 * KiB
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class ManifestHeader:
    """Which image, and between which snapshots. A diff from nothing has no `from_snapshot` and a
    `from_size_bytes` of 0; one to the image as it was has no `to_snapshot`."""

    fsid: str
    pool: str
    namespace: str
    image: str
    image_id: str
    from_snapshot: str | None
    from_size_bytes: int
    to_snapshot: str | None
    size_bytes: int
    block_bytes: int = BLOCK_BYTES


@dataclass(frozen=True)
class StreamDigest:
    """The stream that a manifest belongs to: its length, and its SHA-256 in hexadecimal."""

    size_bytes: int
    sha256: str


# The header's keys in the file, and what they are called here.
_KEYS = {
    "fsid": "fsid",
    "pool": "pool",
    "namespace": "namespace",
    "image": "image",
    "imageID": "image_id",
    "fromSnapshot": "from_snapshot",
    "fromSize": "from_size_bytes",
    "toSnapshot": "to_snapshot",
    "size": "size_bytes",
    "blockSize": "block_bytes",
}
_NULLABLE = ("from_snapshot", "to_snapshot")


class ManifestWriter:
    """Writes one manifest, its header at once. Blocks on `file`, and leaves its `OSError` as it is."""

    def __init__(self, file: BinaryIO, header: ManifestHeader) -> None:
        self.header = header
        self._file = file
        self._blocks, self._last = 0, -1
        named = {key: getattr(header, name) for key, name in _KEYS.items()}
        self._put({"format": FORMAT, "version": VERSION, **named})

    def block(self, number: int, digest: bytes) -> None:
        """The digest of the next block that the diff touches; ValueError when it is not in order."""
        if number <= self._last or number * self.header.block_bytes >= self.header.size_bytes:
            raise ValueError(f"block {number} after {self._last}")
        self._last, self._blocks = number, self._blocks + 1
        self._put([number, digest.hex()])

    def end(self, stream: StreamDigest) -> None:
        """The end, with what tells the stream. The file is flushed, not synced."""
        told = {"streamBytes": stream.size_bytes, "streamSHA256": stream.sha256}
        self._put({"blocks": self._blocks, **told})
        self._file.flush()

    def _put(self, value: Any) -> None:
        self._file.write(json.dumps(value).encode() + b"\n")


class ManifestReader:
    """Reads one manifest, once, from its beginning. Blocks on `file`.

    Raises:
        BadDiff: from the constructor and from `blocks`; `OSError` of the file is left as it is.
    """

    def __init__(self, file: BinaryIO, path: str) -> None:
        self.path = path
        self._file = file
        self._position = self._at = 0
        self.stream: StreamDigest | None = None
        self.header = self._read_header()

    def bad(self, reason: str) -> BadDiff:
        """The error of this manifest, at the line that was read last."""
        return BadDiff(self.path, self._at, reason)

    def blocks(self) -> Iterator[tuple[int, bytes]]:
        """Each block and its digest, in order."""
        last, count = -1, 0
        while isinstance(value := self._line(), list):
            number, digest = self._block(value)
            if number <= last:
                raise self.bad(f"block {number} after block {last}")
            last, count = number, count + 1
            yield number, digest
        self.stream = self._read_end(value, count)
        if self._file.read(1):
            self._at = self._position
            raise self.bad("something follows after the end")

    def _line(self) -> Any:
        self._at = self._position
        line = self._file.readline(_MAX_LINE_BYTES)
        self._position += len(line)
        if not line.endswith(b"\n"):
            cut = len(line) < _MAX_LINE_BYTES
            raise self.bad("it ends too early" if cut else "a line that is too long")
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self.bad("a line that is no JSON") from error

    def _read_header(self) -> ManifestHeader:
        value = self._line()
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise self.bad(f"it is no manifest of a diff; expected the format {FORMAT}")
        if not _is_count(value.get("version")) or value["version"] != VERSION:
            raise self.bad(f"version {value.get('version')}; this build reads version {VERSION}")
        header = ManifestHeader(**{name: self._field(value, key) for key, name in _KEYS.items()})
        if not is_block_size(header.block_bytes):
            raise self.bad("blockSize: expected a power of two from 512 to 67108864")
        if header.from_snapshot is None and header.from_size_bytes:
            raise self.bad("fromSize: expected 0 without `fromSnapshot`")
        return header

    def _field(self, value: dict[str, Any], key: str) -> Any:
        found, name = value.get(key), _KEYS[key]
        if name.endswith("_bytes"):
            if not _is_count(found) or found > MAX_SIZE_BYTES:
                raise self.bad(f"{key}: expected a number of bytes")
        elif not isinstance(found, str) and not (found is None and name in _NULLABLE):
            raise self.bad(f"{key}: expected text")
        return found

    def _block(self, value: list[Any]) -> tuple[int, bytes]:
        if len(value) != 2 or not _is_count(value[0]) or not isinstance(value[1], str):
            raise self.bad("expected a block's number and its digest")
        number = value[0]
        if number * self.header.block_bytes >= self.header.size_bytes:
            raise self.bad(f"block {number} lies beyond the image's size")
        return number, self._digest(value[1])

    def _digest(self, text: Any) -> bytes:
        try:
            digest = bytes.fromhex(text)
        except (TypeError, ValueError):
            digest = b""
        if len(digest) != _DIGEST_BYTES or digest.hex() != text:
            raise self.bad("expected a SHA-256 in hexadecimal")
        return digest

    def _read_end(self, value: Any, count: int) -> StreamDigest:
        if not isinstance(value, dict) or not _is_count(value.get("streamBytes")):
            raise self.bad("expected a block or the end")
        if value.get("blocks") != count:
            raise self.bad(f"{count} blocks where {value.get('blocks')} are told")
        return StreamDigest(value["streamBytes"], self._digest(value.get("streamSHA256")).hex())


def merge_manifests(
    readers: Sequence[ManifestReader], file: BinaryIO, stream: StreamDigest
) -> ManifestHeader:
    """Write the manifest of what `merge_diffs` made of the same diffs, `stream`; its header. Blocks.

    A later block's digest counts. One that only an earlier diff touched stays right, unless the image's end
    lay in that block, or before it, meanwhile. What was cut off and has come back is zeros.

    Raises:
        BadDiff: one of them is not right, is of another image, or does not begin where the last one ends.
    """
    header = _joined_header(readers)
    writer = ManifestWriter(file, header)
    sizes = [reader.header.size_bytes for reader in readers]
    layers = [_ranked(reader.blocks(), index) for index, reader in enumerate(readers)]
    layers += [_grown(header, sizes, index) for index in range(1, len(readers))]
    last = -1
    for number, rank, digest in heapq.merge(*layers):
        if number == last:
            continue
        last = number
        ends = {block_end(number, header.block_bytes, size) for size in sizes[-(rank // 2) :]}
        if len(ends) == 1 and number * header.block_bytes < header.size_bytes:
            writer.block(number, digest)
    writer.end(stream)
    return header


# A block, how late its word is (the latest has the smallest number; two for each diff), and its digest.
_Ranked = tuple[int, int, bytes]


def _ranked(blocks: Iterator[tuple[int, bytes]], index: int) -> Iterator[_Ranked]:
    return ((number, -2 * index, digest) for number, digest in blocks)


def _grown(header: ManifestHeader, sizes: Sequence[int], index: int) -> Iterator[_Ranked]:
    """The blocks of the first image that the one at `index` zeroed by growing over them again. They come
    right after what its own diff says."""
    size, step = sizes[index], header.block_bytes
    first = -(-sizes[index - 1] // step)
    for number in range(first, -(-min(size, header.from_size_bytes) // step)):
        length = block_end(number, step, size) - number * step
        yield number, -2 * index + 1, zeros_digest(length)


def _joined_header(readers: Sequence[ManifestReader]) -> ManifestHeader:
    for before, after in pairwise(readers):
        ours, theirs = before.header, after.header
        if (ours.fsid, ours.image_id) != (theirs.fsid, theirs.image_id):
            raise after.bad(f"it is of the image {theirs.image_id}; expected {ours.image_id}")
        if ours.block_bytes != theirs.block_bytes:
            raise after.bad(f"blockSize {theirs.block_bytes}; expected {ours.block_bytes}")
        ends = ours.to_snapshot, ours.size_bytes
        if ends[0] is None or ends != (theirs.from_snapshot, theirs.from_size_bytes):
            raise after.bad(f"it does not begin where the one before it ends, {ends[0]}")
    first, last = readers[0].header, readers[-1].header
    begins = {"from_snapshot": first.from_snapshot, "from_size_bytes": first.from_size_bytes}
    return replace(last, **begins)  # type: ignore[arg-type]


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and value >= 0
