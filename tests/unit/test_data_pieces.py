"""The pure parts of what moves data: pieces, zeros, and what a qcow2 says of itself."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from virtceph import errors
from virtceph.ceph.extents import Extent, _joined
from virtceph.ceph.parts import read_made_note
from virtceph.ceph.pipeline import CHUNK_BYTES, filled_parts, is_zeros, pieces
from virtceph.ceph.qemuimg import qcow2_size

KiB, MiB = 1 << 10, 1 << 20


def test_pieces_end_where_objects_do_and_cover_all() -> None:
    found = list(pieces(3 * MiB, 10 * MiB))
    assert found == [(3 * MiB, MiB), (4 * MiB, 4 * MiB), (8 * MiB, 4 * MiB), (12 * MiB, MiB)]
    assert list(pieces(5, 0)) == []
    assert list(pieces(CHUNK_BYTES, 1)) == [(CHUNK_BYTES, 1)]


@pytest.mark.parametrize("length", [1, 100, 64 * KiB, 64 * KiB + 1, 300 * KiB])
@pytest.mark.parametrize("at", [0, 1, 64 * KiB - 1, 64 * KiB, 200 * KiB])
def test_what_is_filled_is_found_and_the_rest_is_zeros(length: int, at: int) -> None:
    data = bytearray(512 * KiB + 7)
    data[at : at + length] = b"\xff" * length
    back = bytearray(len(data))
    for place, part in filled_parts(bytes(data)):
        assert not is_zeros(part)
        back[place : place + len(part)] = part
    assert back == data


def test_nothing_of_zeros_is_written() -> None:
    for length in (0, 1, 64 * KiB, MiB + 3):
        assert list(filled_parts(bytes(length))) == []
        assert is_zeros(bytes(length))
    assert not is_zeros(bytes(MiB) + b"\1")


def test_neighbours_of_one_kind_are_one_extent() -> None:
    given = [Extent(0, 4, True), Extent(4, 4, True), Extent(8, 4, False), Extent(16, 4, False)]
    assert list(_joined(iter(given))) == [
        Extent(0, 8, True),
        Extent(8, 4, False),
        Extent(16, 4, False),
    ]
    assert list(_joined(iter([]))) == []


@pytest.mark.parametrize("text", [None, "", "[]", '{"imageID": "other"}', "\x00"])
def test_a_note_that_is_not_the_images_own_is_no_note(text: str | None) -> None:
    metadata = {} if text is None else {"virtceph.made": text}
    assert read_made_note(metadata, "abc") is None
    assert read_made_note({"virtceph.made": '{"imageID": "abc", "job": "1"}'}, "abc") is not None


def header(**change: Any) -> bytes:
    """The first 104 bytes of a sound qcow2 of 10 MiB, but for what is changed."""
    known = {
        "magic": b"QFI\xfb", "version": 3, "backing": 0, "backing_size": 0, "bits": 16,
        "size": 10 * MiB, "crypt": 0, "features": 0, **change,
    }  # fmt: skip
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        known["magic"], known["version"], known["backing"], known["backing_size"],
        known["bits"], known["size"], known["crypt"], 1, 0x30000, 0x10000, 1, 0, 0,
    )  # fmt: skip
    return head + struct.pack(">Q", known["features"]) + bytes(24)


def sized(tmp_path: Path, raw: bytes) -> int:
    path = tmp_path / "q"
    path.write_bytes(raw)
    fd = os.open(path, os.O_RDONLY)
    try:
        return qcow2_size(fd, "q")
    finally:
        os.close(fd)


def test_a_sound_qcow2_tells_its_size(tmp_path: Path) -> None:
    assert sized(tmp_path, header()) == 10 * MiB
    assert sized(tmp_path, header(version=2)) == 10 * MiB
    # Dirty and lazy refcounts are no harm.
    assert sized(tmp_path, header(features=1)) == 10 * MiB


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"magic": b"QFI\xfa"}, "no qcow2"),
        ({"version": 4}, "version 4"),
        ({"backing": 200}, "backing file"),
        ({"crypt": 1}, "encrypted"),
        ({"features": 4}, "another file"),
        ({"features": 2}, "corrupt"),
        ({"bits": 30}, "damaged"),
        ({"size": 0}, "damaged"),
        ({"size": 1 << 60}, "damaged"),
    ],
)
def test_a_qcow2_that_is_not_to_be_opened_is_told_why(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(errors.BadImageFile, match=reason):
        sized(tmp_path, header(**change))


@pytest.mark.parametrize("length", [0, 3, 71, 79])
def test_a_header_that_is_cut_short_is_told(tmp_path: Path, length: int) -> None:
    with pytest.raises(errors.BadImageFile):
        sized(tmp_path, header()[:length])
