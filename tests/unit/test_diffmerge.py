"""Merging diffs: applied, the result comes to the same as all of them one after the other."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.diff_model import (
    MAX_SIZE,
    Change,
    Diff,
    applied,
    by_hand,
    diffs,
    extent,
    files,
    images,
    name,
    read,
    size,
    stream,
)
from virtceph.ceph.diffmerge import Source, merge_diffs
from virtceph.ceph.diffstream import DiffHeader
from virtceph.errors import BadDiff


def merged(streams: list[bytes], base_size: int | None = None) -> bytes:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        sources = [
            Source(stack.enter_context(path.open("rb")), path.name)
            for path in files(Path(folder), streams)
        ]
        made = Path(folder) / "merged"
        with made.open("wb") as file:
            merge_diffs(sources, file, base_size_bytes=base_size)
        return made.read_bytes()


def chain(many: list[Diff], first: str | None = "0") -> list[bytes]:
    ends = [str(number + 1) for number in range(len(many))]
    return [stream(d, b, e) for d, b, e in zip(many, [first, *ends], ends, strict=False)]


def after(image: bytes, *many: Diff) -> bytes:
    for diff in many:
        image = applied(image, diff)
    return image


some = st.lists(diffs(), min_size=1, max_size=5)


@given(images(), some, st.booleans())
@settings(max_examples=150)
def test_a_merged_diff_comes_to_the_same_as_its_parts(
    base: bytes, many: list[Diff], base_known: bool
) -> None:
    header, diff = read(merged(chain(many), len(base) if base_known else None))
    assert header == DiffHeader("0", str(len(many)), many[-1].size)
    assert after(base, diff) == after(base, *many)


@given(images(), st.lists(diffs(), min_size=3, max_size=5), st.integers(1, 2))
def test_it_does_not_matter_in_which_steps_diffs_are_merged(
    base: bytes, many: list[Diff], cut: int
) -> None:
    streams = chain(many)
    at_once = merged(streams)
    in_steps = merged([merged(streams[:cut]), merged(streams[cut:])])
    assert read(at_once)[0] == read(in_steps)[0]
    whole = after(base, *many)
    assert after(base, read(at_once)[1]) == after(base, read(in_steps)[1]) == whole


@given(diffs(), st.sampled_from([None, "0"]))
def test_one_diff_alone_stays_what_it_was(diff: Diff, first: str | None) -> None:
    (alone,) = chain([diff], first)
    header, found = read(merged([alone]))
    assert header == DiffHeader(first, "1", diff.size)
    assert applied(b"x" * MAX_SIZE, found) == applied(b"x" * MAX_SIZE, diff)


def test_what_is_written_late_counts_and_nothing_is_written_twice() -> None:
    early = Diff(100, (Change(0, 60, b"a" * 60), Change(70, 10, None)))
    late = Diff(100, (Change(10, 10, b"b" * 10), Change(50, 25, None)))
    _, diff = read(merged(chain([early, late])))
    assert diff.changes == (
        Change(0, 10, b"a" * 10),
        Change(10, 10, b"b" * 10),
        Change(20, 30, b"a" * 30),
        Change(50, 30, None),
    )


def test_what_a_shrink_cut_off_does_not_come_back_when_the_image_grows_again() -> None:
    """The image that the merged diff is applied to still has it."""
    base = b"x" * 100
    many = [Diff(100, (Change(80, 20, b"a" * 20),)), Diff(40, ()), Diff(100, ())]
    _, diff = read(merged(chain(many)))
    assert diff == Diff(100, (Change(40, 60, None),))
    assert applied(base, diff) == b"x" * 40 + bytes(60)


def test_where_the_first_size_is_known_growth_beyond_it_needs_no_zeros() -> None:
    many = [Diff(100, ()), Diff(1 << 50, ())]
    assert read(merged(chain(many), 100))[1].changes == ()
    assert read(merged(chain(many), 60))[1].changes == ()
    assert read(merged(chain(many), 120))[1].changes == (Change(100, 20, None),)


def test_many_diffs_are_merged_at_once() -> None:
    many = [Diff(200, (Change(n, 1, bytes([n])),)) for n in range(1, 200)]
    _, diff = read(merged(chain(many)))
    assert applied(bytes(200), diff) == bytes(range(200))


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (("a", "b"), ("c", "d"), "begins at the snapshot c; expected where"),
        (("a", "b"), ("B", "d"), "ends, the snapshot b"),
        (("a", "b"), (None, "d"), "begins at no snapshot"),
        (("a", None), ("b", "d"), "ends, no snapshot"),
        (("a", None), (None, "d"), "begins at no snapshot"),
    ],
)
def test_diffs_that_do_not_follow_one_another_are_refused(
    first: tuple[str | None, str | None], second: tuple[str | None, str | None], reason: str
) -> None:
    diff = Diff(10, ())
    with pytest.raises(BadDiff, match=reason) as caught:
        merged([stream(diff, *first), stream(diff, *second)])
    assert caught.value.path == "1.diff"


def test_the_place_of_the_wrong_snapshot_is_told() -> None:
    wrong = by_hand(name(b"t", b"c"), name(b"f", b"x"), size(1), b"e")
    with pytest.raises(BadDiff) as caught:
        merged([stream(Diff(1, ()), None, "b"), wrong])
    assert caught.value.offset == 18


@pytest.mark.parametrize(
    "spoilt",
    [
        by_hand(name(b"f", b"1"), size(10), extent(b"z", 0, 1)),
        by_hand(name(b"f", b"1"), size(10), extent(b"w", 0, 4, b"ab")),
        by_hand(name(b"f", b"1"), size(10), extent(b"z", 5, 1), extent(b"z", 3, 1), b"e"),
        by_hand(name(b"f", b"1"), size(10), extent(b"z", 5, 1), b"ee"),
        b"rbd diff v2\n",
    ],
)
def test_each_part_has_to_be_right_to_its_end(spoilt: bytes) -> None:
    with pytest.raises(BadDiff) as caught:
        merged([stream(Diff(10, ()), "0", "1"), spoilt])
    assert caught.value.path == "1.diff"


def test_also_a_part_of_which_nothing_is_left_has_to_be_right() -> None:
    """The second diff cut off all that the first one says."""
    early = by_hand(name(b"t", b"1"), size(1000), extent(b"w", 500, 3, b"abc"), b"q")
    with pytest.raises(BadDiff, match="unknown record"):
        merged([early, stream(Diff(10, ()), "1", "2")])


def test_a_diff_of_many_mib_is_copied_whole(tmp_path: Path) -> None:
    big, small = bytes(range(256)) * 40_000, b"new" * 1000
    total = len(big) + 100
    early = Diff(total, (Change(10, len(big), big),))
    late = Diff(total, (Change(1_000_000, len(small), small),))
    _, diff = read(merged(chain([early, late])), total)
    assert applied(bytes(total), diff) == after(bytes(total), early, late)
