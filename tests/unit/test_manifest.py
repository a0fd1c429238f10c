"""Manifests: what a diff should come to, block by block, made as it is exported and checked when restored."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.diff_model import MAX_SIZE, Change, Diff, applied, diffs, images, read, stream
from tests.unit.test_diffmerge import chain, merged
from virtceph.ceph.blockhashes import BlockHashes, block_end, differing
from virtceph.ceph.manifest import (
    BLOCK_BYTES,
    ManifestHeader,
    ManifestReader,
    ManifestWriter,
    StreamDigest,
    merge_manifests,
)
from virtceph.errors import BadDiff
from virtceph.units import GiB, MiB

BLOCK = 512
SHA = hashlib.sha256(b"").hexdigest()
HEADER = ManifestHeader("f1", "rbd", "", "web", "12ab", "mon", 1000, "tue", 2000, BLOCK)
STREAM = StreamDigest(17, SHA)


def reading(image: bytes) -> Callable[[int, int], bytes]:
    return lambda offset, length: image[offset : offset + length]


def hashed(before: int, diff: Diff, image: bytes, block: int = BLOCK) -> dict[int, bytes]:
    """The blocks of a diff that comes to `image`."""
    found: dict[int, bytes] = {}
    hashes = BlockHashes(before, diff.size, block, reading(image), found.setdefault)
    for change in diff.changes:
        if change.data is None:
            hashes.zeros(change.offset, change.length)
        else:
            hashes.written(change.offset, change.data)
    hashes.end()
    assert list(found) == sorted(found)
    return found


def manifest(header: ManifestHeader, blocks: dict[int, bytes]) -> bytes:
    file = io.BytesIO()
    writer = ManifestWriter(file, header)
    for number, digest in blocks.items():
        writer.block(number, digest)
    writer.end(STREAM)
    return file.getvalue()


def opened(data: bytes) -> ManifestReader:
    return ManifestReader(io.BytesIO(data), "a.manifest")


def wrong(blocks: dict[int, bytes], image: bytes, block: int = BLOCK) -> list[int]:
    return list(differing(blocks.items(), len(image), block, reading(image)))


# --- the digests of blocks ---


@given(images(), diffs())
def test_each_block_that_a_diff_touches_has_the_digest_of_the_whole_block(
    base: bytes, diff: Diff
) -> None:
    image = applied(base, diff)
    found = hashed(len(base), diff, image)
    for number, digest in found.items():
        block = image[number * BLOCK : (number + 1) * BLOCK]
        assert digest == hashlib.sha256(block).digest()
    touched = {o // BLOCK for c in diff.changes for o in range(c.offset, c.offset + c.length)}
    assert touched <= set(found)
    # And no block has changed without its digest, but for what a larger image has at its end: zeros.
    for number in range(-(-len(image) // BLOCK)):
        start, end = number * BLOCK, block_end(number, BLOCK, len(image))
        untold = number not in found
        assert (
            not untold
            or base[start:end] == image[start:end]
            or image[start:end] == bytes(end - start)
        )


@given(images(), diffs(), st.integers(0, MAX_SIZE - 1))
def test_a_restore_that_went_wrong_in_a_touched_block_is_found(
    base: bytes, diff: Diff, at: int
) -> None:
    image = applied(base, diff)
    found = hashed(len(base), diff, image)
    assert wrong(found, image) == []
    if at < len(image):
        spoilt = bytearray(image)
        spoilt[at] ^= 1
        assert wrong(found, bytes(spoilt)) == ([at // BLOCK] if at // BLOCK in found else [])


def test_only_what_the_diff_leaves_out_is_read_again() -> None:
    image = b"a" * 100 + b"b" * 412 + bytes(512) + b"c" * 512
    asked: list[tuple[int, int]] = []

    def read(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return image[offset : offset + length]

    hashes = BlockHashes(1536, 1536, BLOCK, read, lambda number, digest: None)
    hashes.written(100, b"b" * 412)
    hashes.zeros(512, 512)
    hashes.written(1024, b"c" * 512)
    hashes.end()
    assert asked == [(0, 100)]


def test_a_huge_hole_is_hashed_quickly_and_the_same() -> None:
    found: dict[int, bytes] = {}
    hashes = BlockHashes(64 * GiB, 64 * GiB, BLOCK_BYTES, reading(b""), found.setdefault)
    hashes.zeros(0, 64 * GiB)
    hashes.end()
    assert len(found) == 64 * GiB // BLOCK_BYTES
    assert set(found.values()) == {hashlib.sha256(bytes(BLOCK_BYTES)).digest()}


@pytest.mark.parametrize(
    ("before", "size", "numbers"),
    [(1000, 1000, []), (700, 2000, [1]), (2000, 700, [1]), (1024, 2000, []), (0, 2000, [])],
)
def test_the_block_in_which_a_resize_made_its_cut_has_a_digest(
    before: int, size: int, numbers: list[int]
) -> None:
    assert list(hashed(before, Diff(size, ()), bytes(size))) == numbers


def test_an_image_that_gives_too_little_is_no_other_image() -> None:
    hashes = BlockHashes(1024, 1024, BLOCK, lambda offset, length: b"", lambda n, d: None)
    with pytest.raises(ValueError, match="were asked for"):
        hashes.written(10, b"x")


# --- the file ---


def test_a_manifest_is_lines_of_json() -> None:
    data = manifest(HEADER, {1: b"\x01" * 32, 3: b"\x02" * 32})
    lines = [json.loads(line) for line in data.splitlines()]
    assert lines[0] == {
        "format": "virtceph-diff-manifest",
        "version": 1,
        "fsid": "f1",
        "pool": "rbd",
        "namespace": "",
        "image": "web",
        "imageID": "12ab",
        "fromSnapshot": "mon",
        "fromSize": 1000,
        "toSnapshot": "tue",
        "size": 2000,
        "blockSize": 512,
    }
    assert lines[1:3] == [[1, "01" * 32], [3, "02" * 32]]
    assert lines[3] == {"blocks": 2, "streamBytes": 17, "streamSHA256": SHA}


numbers = st.sets(st.integers(0, 3)).map(sorted)


@given(numbers, st.binary(min_size=32, max_size=32), st.none() | st.text(max_size=20))
def test_what_was_written_is_read_the_same(
    blocks: list[int], digest: bytes, ends: str | None
) -> None:
    header = dataclasses.replace(HEADER, to_snapshot=ends)
    told = dict.fromkeys(blocks, digest)
    reader = opened(manifest(header, told))
    assert reader.header == header
    assert reader.stream is None
    assert dict(reader.blocks()) == told
    assert reader.stream == STREAM


@pytest.mark.parametrize("number", [0, 1, 4, -1])
def test_a_block_out_of_order_or_beyond_the_image_is_not_written(number: int) -> None:
    writer = ManifestWriter(io.BytesIO(), HEADER)
    writer.block(1, b"\0" * 32)
    with pytest.raises(ValueError, match="block"):
        writer.block(number, b"\0" * 32)


def lines(*changed: tuple[int, Any]) -> bytes:
    """A manifest of two blocks, with some of its lines changed; None takes one out."""
    values: list[Any] = [
        json.loads(x) for x in manifest(HEADER, {1: b"1" * 32, 3: b"3" * 32}).splitlines()
    ]
    for index, value in changed:
        values[index] = {**values[index], **value} if isinstance(value, dict) else value
    return b"".join(json.dumps(v).encode() + b"\n" for v in values if v is not None)


GOOD = ["31" * 32]


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        (b"", 0, "it ends too early"),
        (b"rbd diff v1\nf", 0, "no JSON"),
        (b"{}\n", 0, "no manifest"),
        (b"[" * 60_000 + b"\n", 0, "no JSON"),
        (b'{"a": ' * 9_000 + b"\n", 0, "no JSON"),
        (b"1" * 5000 + b"\n", 0, "no JSON"),
        (b" " * 70_000 + b"\n", 0, "too long"),
        (lines((0, {"format": "other"})), 0, "no manifest"),
        (lines((0, {"version": 2})), 0, "version 2; this build reads version 1"),
        (lines((0, {"version": True})), 0, "version True"),
        (lines((0, {"size": -1})), 0, "size: expected a number of bytes"),
        (lines((0, {"size": 1 << 63})), 0, "size: expected a number of bytes"),
        (lines((0, {"fromSize": 1.5})), 0, "fromSize: expected"),
        (lines((0, {"blockSize": 3 * MiB})), 0, "blockSize: expected a power of two"),
        (lines((0, {"blockSize": 0})), 0, "blockSize: expected a power of two"),
        (lines((0, {"imageID": None})), 0, "imageID: expected text"),
        (lines((0, {"toSnapshot": 7})), 0, "toSnapshot: expected text"),
        (lines((0, {"fromSnapshot": None})), 0, "fromSize: expected 0"),
        (lines((1, [1, "31" * 31])), 1, "expected a SHA-256"),
        (lines((1, [1, "3G" * 32])), 1, "expected a SHA-256"),
        (lines((1, [1, " " + "31" * 32])), 1, "expected a SHA-256"),
        (lines((1, [1, 5])), 1, "expected a block's number and its digest"),
        (lines((1, [True, "31" * 32])), 1, "expected a block's number and its digest"),
        (lines((1, [1])), 1, "expected a block's number and its digest"),
        (lines((1, "1")), 1, "expected a block or the end"),
        (lines((1, [4, "31" * 32])), 1, "beyond the image's size"),
        (lines((2, [1, "31" * 32])), 2, "block 1 after block 1"),
        (lines((2, [0, "31" * 32])), 2, "block 0 after block 1"),
        (lines((2, None)), 2, "1 blocks where 2 are told"),
        (lines((3, None)), 3, "it ends too early"),
        (lines((3, {"streamBytes": "17"})), 3, "expected a block or the end"),
        (lines((3, {"streamSHA256": None})), 3, "expected a SHA-256"),
        (lines()[:-1], 3, "it ends too early"),
        (lines() + b"\n", 4, "something follows after the end"),
    ],
)
def test_what_is_no_manifest_is_told_with_its_place(data: bytes, line: int, reason: str) -> None:
    def take() -> None:
        for _ in opened(data).blocks():
            pass

    with pytest.raises(BadDiff) as caught:
        take()
    assert reason in caught.value.reason
    begins = [0, *(at + 1 for at, byte in enumerate(data) if byte == ord("\n"))]
    assert caught.value.offset == begins[line]


@given(st.data())
def test_a_damaged_manifest_is_refused_or_read_and_never_breaks_the_reader(
    data: st.DataObject,
) -> None:
    whole = lines()
    cut, lost = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 30))
    spoilt = whole[:cut] + data.draw(st.binary(max_size=30)) + whole[cut + lost :]
    try:
        reader = opened(spoilt)
        blocks = dict(reader.blocks())
    except BadDiff:
        return
    assert all(len(digest) == 32 for digest in blocks.values())
    assert reader.stream is not None


def test_unknown_keys_are_passed_over() -> None:
    reader = opened(lines((0, {"new": 1}), (3, {"new": 2})))
    assert [number for number, _ in reader.blocks()] == [1, 3]


# --- merging ---


def joined(headers: list[ManifestHeader], blocks: list[dict[int, bytes]]) -> ManifestReader:
    readers = [opened(manifest(h, b)) for h, b in zip(headers, blocks, strict=True)]
    file = io.BytesIO()
    told = merge_manifests(readers, file, STREAM)
    reader = opened(file.getvalue())
    assert reader.header == told
    return reader


def headers_of(base: int, many: list[Diff]) -> list[ManifestHeader]:
    sizes = [base, *(diff.size for diff in many)]
    return [
        dataclasses.replace(
            HEADER,
            from_snapshot=str(index),
            to_snapshot=str(index + 1),
            from_size_bytes=sizes[index],
            size_bytes=sizes[index + 1],
        )
        for index in range(len(many))
    ]


@given(images(), st.lists(diffs(), min_size=1, max_size=4))
@settings(max_examples=150)
def test_a_merged_manifest_is_true_of_what_the_merged_diff_comes_to(
    base: bytes, many: list[Diff]
) -> None:
    image, blocks = base, []
    for diff in many:
        before, image = len(image), applied(image, diff)
        blocks.append(hashed(before, diff, image))
    reader = joined(headers_of(len(base), many), blocks)
    told = dict(reader.blocks())
    _, whole = read(merged(chain(many), len(base)))
    made = applied(base, whole)
    assert made == image
    # Nothing in it is wrong, and every block that the merged diff touches is in it.
    assert wrong(told, made) == []
    assert set(hashed(len(base), whole, made)) <= set(told)


def test_a_block_that_only_the_earlier_diff_touched_stays() -> None:
    headers = headers_of(2048, [Diff(2048, ()), Diff(2048, ())])
    reader = joined(headers, [{0: b"a" * 32, 1: b"b" * 32}, {1: b"c" * 32}])
    assert dict(reader.blocks()) == {0: b"a" * 32, 1: b"c" * 32}
    assert (reader.header.from_snapshot, reader.header.to_snapshot) == ("0", "2")
    assert reader.stream == STREAM


def test_a_block_that_was_cut_off_is_zeros_when_the_image_grows_again() -> None:
    many = [Diff(2048, ()), Diff(600, ()), Diff(2048, ())]
    early = {0: b"a" * 32, 1: b"b" * 32, 2: b"c" * 32}
    told = dict(joined(headers_of(2048, many), [early, {}, {}]).blocks())
    zeros = hashlib.sha256(bytes(BLOCK)).digest()
    # Block 1 was cut in two, and nobody told what it is since.
    assert told == {0: b"a" * 32, 2: zeros, 3: zeros}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"image_id": "other"}, "of the image other"),
        ({"fsid": "other"}, "of the image"),
        ({"block_bytes": 1024}, "blockSize 1024; expected 512"),
        ({"from_snapshot": "other"}, "does not begin where"),
        ({"from_size_bytes": 1}, "does not begin where"),
    ],
)
def test_manifests_that_do_not_follow_one_another_are_refused(
    change: dict[str, Any], reason: str
) -> None:
    first, second = headers_of(2048, [Diff(2048, ()), Diff(2048, ())])
    with pytest.raises(BadDiff, match=reason):
        joined([first, dataclasses.replace(second, **change)], [{}, {}])


def test_nothing_follows_the_image_as_it_was_just_then() -> None:
    first, second = headers_of(2048, [Diff(2048, ()), Diff(2048, ())])
    first = dataclasses.replace(first, to_snapshot=None)
    with pytest.raises(BadDiff, match="does not begin where"):
        joined([first, second], [{}, {}])


def test_a_whole_change_is_told_by_diff_and_manifest_alike() -> None:
    """As an export puts the two together."""
    diff = Diff(1500, (Change(0, 700, b"x" * 700), Change(1024, 100, None)))
    image = applied(b"", diff)
    blocks = hashed(0, diff, image)
    _, found = read(stream(diff, None, "mon"))
    assert wrong(blocks, applied(b"", found)) == []
    assert list(blocks) == [0, 1, 2]
