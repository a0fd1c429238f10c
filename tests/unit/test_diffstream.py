"""The stream of `rbd export-diff`: read and written back the same, and nothing else is taken for one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.diff_model import Diff, by_hand, diffs, extent, name, read, size, stream
from virtceph.ceph.diffstream import PIECE_BYTES, DiffHeader, DiffReader, Extent, Piece
from virtceph.ceph.diffwriter import DiffWriter, digest_of
from virtceph.errors import BadDiff
from virtceph.units import GiB, MiB

PURE = ("diffstream", "diffwriter", "diffmerge", "manifest", "blockhashes")
names = st.none() | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20
)


# --- what is right ---


def test_a_stream_is_written_as_the_rbd_command_writes_it() -> None:
    file = io.BytesIO()
    writer = DiffWriter(file, DiffHeader("mon", "tue", 64))
    writer.written(4, b"abc")
    writer.zeros(16, 32)
    writer.end()
    assert file.getvalue() == (
        b"rbd diff v1\n"
        b"f\x03\0\0\0mon"
        b"t\x03\0\0\0tue"
        b"s\x40\0\0\0\0\0\0\0"
        b"w\x04\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0abc"
        b"z\x10\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0"
        b"e"
    )
    assert writer.size_bytes == len(file.getvalue())


@given(diffs(), names, names, st.integers(1, 5000))
def test_what_was_written_is_read_the_same(
    diff: Diff, begins: str | None, ends: str | None, at_most: int
) -> None:
    data = stream(diff, begins, ends)
    header, found = read(data)
    assert (header, found) == (DiffHeader(begins, ends, diff.size), diff)
    pieces = list(DiffReader(io.BytesIO(data), "a.diff").pieces(at_most))
    assert all(len(piece.data or b"") <= at_most for piece in pieces)
    joined = b"".join(piece.data or bytes(piece.length) for piece in pieces)
    assert joined == b"".join(c.data or bytes(c.length) for c in diff.changes)


@given(diffs())
def test_an_extent_tells_where_its_bytes_lie(diff: Diff) -> None:
    data = stream(diff)
    for found, change in zip(
        DiffReader(io.BytesIO(data), "a").extents(), diff.changes, strict=True
    ):
        assert (found.offset, found.length) == (change.offset, change.length)
        at = found.at
        assert change.data == (None if at is None else data[at : at + found.length])


def test_the_header_may_come_in_any_order_and_a_diff_may_be_empty() -> None:
    reader = DiffReader(io.BytesIO(by_hand(size(0), name(b"t", b"b"), name(b"f", b"a"), b"e")), "x")
    assert reader.header == DiffHeader("a", "b", 0)
    assert list(reader.extents()) == []
    assert list(reader.extents()) == []


def test_a_pipe_is_read_as_a_file_is() -> None:
    data = by_hand(size(64), extent(b"w", 0, 3, b"abc"), extent(b"z", 8, 8), b"e")
    ours, theirs = os.pipe()
    os.write(theirs, data)
    os.close(theirs)
    with open(ours, "rb", buffering=0) as pipe:
        found = list(DiffReader(pipe, "-").extents())
    assert [(e.offset, e.length) for e in found] == [(0, 3), (8, 8)]


def test_a_large_extent_is_read_in_pieces_of_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.diff"
    with path.open("wb") as file:
        file.write(by_hand(size(GiB), b"w", extent(b"", 0, 256 * MiB)))
        file.truncate(file.tell() + 256 * MiB)  # sparse
        file.seek(0, os.SEEK_END)
        file.write(b"e")
    tracemalloc.start()
    with path.open("rb") as file:
        total = sum(piece.length for piece in DiffReader(file, str(path)).pieces())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 256 * MiB
    assert peak < 4 * PIECE_BYTES


def test_skipped_data_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.diff"
    with path.open("wb") as file:
        file.write(by_hand(size(1 << 50), extent(b"w", 0, 1 << 40)))
        file.truncate(file.tell() + (1 << 40))  # sparse: nobody could read that much
        file.seek(0, os.SEEK_END)
        file.write(b"e")
    with path.open("rb") as file:
        assert [e.length for e in DiffReader(file, str(path)).extents()] == [1 << 40]


# --- what is not ---


A_SIZE = size(1000)
BEYOND = "beyond the image's size"


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "it is empty"),
        (b"rbd di", 6, "it ends inside a record"),
        (b"rbd dix", 0, "no `rbd` diff"),
        (b"QFI\xfb", 0, "no `rbd` diff"),
        (b"QFI\xfb\0\0\0\x03" + bytes(500), 0, "no `rbd` diff"),
        (b"rbd diff v2\n" + A_SIZE, 0, "an `rbd` diff of version 2"),
        (b"rbd image v2\n" + A_SIZE, 0, "a whole image"),
        (b"rbd image diffs v2\n" + A_SIZE, 0, "the diffs of a whole image"),
        (by_hand(), 12, "it ends inside a record"),
        (by_hand(b"e"), 12, "a record `e` before the image's size"),
        (by_hand(extent(b"z", 0, 1), A_SIZE), 12, "a record `z` before the image's size"),
        (by_hand(A_SIZE, A_SIZE, b"e"), 21, "a second record `s`"),
        (by_hand(name(b"f", b"a"), name(b"f", b"a"), A_SIZE), 18, "a second record `f`"),
        (by_hand(name(b"f", b""), A_SIZE), 13, "a name of 0 bytes"),
        (by_hand(name(b"t", b"x" * 4097), A_SIZE), 13, "a name of 4097 bytes"),
        (by_hand(b"f\xff\xff\xff\xff"), 13, "a name of 4294967295 bytes"),
        (by_hand(name(b"t", b"\xff\xfe"), A_SIZE), 13, "no UTF-8"),
        (by_hand(name(b"t", b"a\0b"), A_SIZE), 13, "a NUL"),
        (by_hand(name(b"t", b"abc")[:-1]), 19, "it ends inside a record"),
        (by_hand(size(1 << 63), b"e"), 13, "an image of 9223372036854775808 bytes"),
        (by_hand(A_SIZE, b"q"), 21, "an unknown record 'q'"),
        (by_hand(A_SIZE, b"\x00"), 21, r"an unknown record '\x00'"),
        (by_hand(A_SIZE, extent(b"z", 0, 1), b"q"), 38, "an unknown record 'q'"),
        (by_hand(A_SIZE, extent(b"z", 0, 1), A_SIZE, b"e"), 38, "`s` after the first extent"),
        (by_hand(A_SIZE), 21, "it ends inside a record"),
        (by_hand(A_SIZE, extent(b"z", 0, 1)), 38, "it ends inside a record"),
        (by_hand(A_SIZE, b"z1234567"), 29, "it ends inside a record"),
        (by_hand(A_SIZE, extent(b"w", 0, 4, b"abc")), 41, "it ends inside a record"),
        (by_hand(A_SIZE, extent(b"w", 0, 0), b"e"), 21, "an extent of no length"),
        (by_hand(A_SIZE, extent(b"z", 0, 1001), b"e"), 21, BEYOND),
        (by_hand(A_SIZE, extent(b"z", 1000, 1), b"e"), 21, BEYOND),
        (by_hand(A_SIZE, extent(b"z", (1 << 64) - 1, 2), b"e"), 21, BEYOND),
        (by_hand(A_SIZE, extent(b"w", 0, (1 << 64) - 1), b"e"), 21, BEYOND),
        (
            by_hand(A_SIZE, extent(b"z", 9, 9), extent(b"z", 17, 1), b"e"),
            38,
            "before the end of the",
        ),
        (
            by_hand(A_SIZE, extent(b"z", 9, 9), extent(b"z", 0, 1), b"e"),
            38,
            "before the end of the",
        ),
        (by_hand(A_SIZE, b"e\n"), 22, "something follows after the end"),
        (by_hand(A_SIZE, b"e", A_SIZE), 22, "something follows after the end"),
    ],
)
@pytest.mark.parametrize("how", ["extents", "pieces", "in a file"])
def test_what_is_no_right_stream_is_told_with_its_place(
    tmp_path: Path, how: str, data: bytes, offset: int, reason: str
) -> None:
    path = tmp_path / "a.diff"
    path.write_bytes(data)

    def take() -> None:
        with path.open("rb") as file:
            reader = DiffReader(file if how == "in a file" else io.BytesIO(data), "a.diff")
            list(reader.pieces() if how == "pieces" else reader.extents())

    with pytest.raises(BadDiff) as caught:
        take()
    assert (caught.value.path, caught.value.offset) == ("a.diff", offset)
    assert reason in caught.value.reason


def judged(data: bytes) -> BadDiff | tuple[DiffHeader, Diff]:
    try:
        return read(data)
    except BadDiff as error:
        return error


@given(st.data(), diffs(), names, names)
@settings(max_examples=150)
def test_a_damaged_stream_is_refused_or_still_a_stream_and_never_breaks_the_reader(
    data: st.DataObject, diff: Diff, begins: str | None, ends: str | None
) -> None:
    whole = stream(diff, begins, ends)
    cut = data.draw(st.integers(0, len(whole)))
    put = data.draw(st.binary(max_size=24))
    lost = data.draw(st.integers(0, 24))
    spoilt = whole[:cut] + put + whole[cut + lost :]
    told = judged(spoilt)
    if isinstance(told, BadDiff):
        assert 0 <= told.offset <= len(spoilt)
        return
    header, found = told
    # What it took for a stream is one: written again, it says the same.
    assert read(stream(found, header.from_snapshot, header.to_snapshot)) == (header, found)


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_banner_are_refused_or_read(rest: bytes) -> None:
    told = judged(b"rbd diff v1\n" + rest)
    assert not isinstance(told, BadDiff) or told.offset <= 12 + len(rest)


@given(diffs(), st.data())
def test_a_stream_that_is_cut_off_anywhere_is_refused(diff: Diff, data: st.DataObject) -> None:
    whole = stream(diff, "a", "b")
    with pytest.raises(BadDiff):
        read(whole[: data.draw(st.integers(0, len(whole) - 1))])


# --- writing ---


@pytest.mark.parametrize(
    "extents", [[(0, 0)], [(0, 101)], [(100, 1)], [(10, 5), (14, 1)], [(10, 5), (0, 5)], [(-1, 1)]]
)
def test_extents_that_cannot_be_are_not_written(extents: list[tuple[int, int]]) -> None:
    writer = DiffWriter(io.BytesIO(), DiffHeader(None, None, 100))
    *before, last = extents
    for offset, length in before:
        writer.zeros(offset, length)
    with pytest.raises(ValueError, match="extent"):
        writer.zeros(*last)


def test_an_extent_gets_the_bytes_it_has_room_for_and_all_of_them() -> None:
    writer = DiffWriter(io.BytesIO(), DiffHeader(None, None, 100))
    writer.begin(0, 4)
    writer.data(b"ab")
    for ends in (writer.end, lambda: writer.zeros(10, 1), lambda: writer.data(b"cde")):
        with pytest.raises(ValueError, match=r"missing|due"):
            ends()
    writer.data(b"cd")
    writer.end()


@pytest.mark.parametrize("digest", [True, False])
@pytest.mark.parametrize("length", [10, 3 * PIECE_BYTES + 5])
def test_bytes_are_copied_from_file_to_file(tmp_path: Path, length: int, digest: bool) -> None:
    source, made = tmp_path / "source", tmp_path / "made.diff"
    data = os.urandom(length + 7)
    source.write_bytes(data)
    with source.open("rb") as theirs, made.open("wb") as file:
        writer = DiffWriter(file, DiffHeader(None, "now", 1 << 30), digest=digest)
        writer.written(0, b"before")
        writer.begin(1024, length)
        assert writer.copy(theirs.fileno(), 7, length) == length
        writer.zeros(1 << 29, 512)
        writer.end()
    with made.open("rb") as file:
        pieces = list(DiffReader(file, "made").pieces(1 << 30))
    wanted = [(0, b"before"), (1024, data[7:]), (1 << 29, None)]
    assert [(p.offset, p.data) for p in pieces] == wanted
    with made.open("rb") as file:
        told = digest_of(file)
    assert told[0] == writer.size_bytes == made.stat().st_size
    if digest:
        assert told[1] == writer.sha256()
    else:
        with pytest.raises(ValueError, match="no digest"):
            writer.sha256()


def test_a_file_that_is_too_short_to_copy_from_is_told(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(bytes(100_000))
    with (tmp_path / "short").open("rb") as theirs, (tmp_path / "made").open("wb") as file:
        writer = DiffWriter(file, DiffHeader(None, None, 1 << 30))
        writer.begin(0, 200_000)
        assert writer.copy(theirs.fileno(), 10, 200_000) == 100_000 - 10


def test_a_pipe_can_be_written_to_where_the_kernel_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"x" * 70_000)
    ours, theirs = os.pipe()
    with (
        (tmp_path / "source").open("rb") as source,
        subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.PIPE) as cat,
    ):
        os.close(ours)
        with open(theirs, "wb") as file:
            writer = DiffWriter(file, DiffHeader(None, None, 1 << 20))
            writer.begin(0, 70_000)
            assert writer.copy(source.fileno(), 0, 70_000) == 70_000
            writer.end()
        assert cat.stdout is not None
        data = cat.stdout.read()
    assert list(DiffReader(io.BytesIO(data), "-").pieces()) == [Piece(0, 70_000, b"x" * 70_000)]


def test_the_format_needs_no_ceph() -> None:
    imports = "; ".join(f"import virtceph.ceph.{module}" for module in PURE)
    told = f"{imports}; import sys; print({{'rados', 'rbd'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "set()"


def test_an_extent_knows_its_end() -> None:
    assert Extent(4, 6, None).end == 10
