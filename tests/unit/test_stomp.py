"""Frames of STOMP: whatever pieces they come in, the same frames are read, and anything else is refused."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.frames import take
from virtceph.rpc import stomp
from virtceph.rpc.stomp import Frame, FrameError, FrameLimits, FrameReader

COMMANDS = ("CONNECT", "SEND", "SUBSCRIBE", "MESSAGE", "ERROR")
texts = st.text(st.characters(codec="utf-8"), max_size=20)
names = texts.filter(lambda name: name and name != "content-length")
bodies = st.binary(max_size=200)
frames = st.builds(
    Frame, st.sampled_from(COMMANDS), st.dictionaries(names, texts, max_size=5), bodies
)
ends = st.lists(st.sampled_from([b"\n", b"\r\n"]), max_size=3).map(b"".join)
ENOUGH = FrameLimits()


def written(frame: Frame) -> bytes:
    return stomp.encode(frame.command, frame.headers.items(), frame.body)


def without_length(frame: Frame) -> Frame:
    kept = {name: value for name, value in frame.headers.items() if name != "content-length"}
    return Frame(frame.command, kept, frame.body)


def read(data: bytes, cuts: list[int] | None = None, limits: FrameLimits = ENOUGH) -> list[Frame]:
    """The frames of data that comes in pieces, cut at these places."""
    reader, found = FrameReader(limits), []
    places = sorted({min(cut, len(data)) for cut in cuts or []})
    for begin, end in zip([0, *places], [*places, len(data)], strict=True):
        reader.add(data[begin:end])
        while (frame := reader.next()) is not None:
            found.append(without_length(frame))
    assert not reader.begun, "a part of a frame is left"
    return found


@given(st.lists(frames, max_size=4), ends, st.lists(st.integers(0, 600), max_size=8))
def test_what_is_written_is_read_whatever_pieces_it_comes_in(
    sent: list[Frame], between: bytes, cuts: list[int]
) -> None:
    data = between + b"".join(written(frame) + between for frame in sent)
    assert read(data, cuts) == sent
    assert read(data, list(range(len(data)))) == sent


@given(frames)
def test_what_is_written_is_read_by_another_reader(frame: Frame) -> None:
    got, rest = take(written(frame))
    assert got is not None
    headers = {name: value for name, value in got.headers if name != "content-length"}
    assert (got.command, headers, got.body, rest) == (*frame, b"")


@given(frames.filter(lambda frame: b"\0" not in frame.body))
def test_without_a_content_length_the_body_ends_at_the_nul(frame: Frame) -> None:
    data = stomp.head(frame.command, frame.headers.items()) + b"\n" + frame.body + b"\0"
    assert read(data) == [frame]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_are_frames_or_refused_and_the_same_in_any_pieces(
    data: bytes, cuts: list[int]
) -> None:
    def outcome(pieces: list[bytes]) -> tuple[list[Frame], bool]:
        reader, found = FrameReader(ENOUGH), []
        try:
            for piece in pieces:
                reader.add(piece)
                while (frame := reader.next()) is not None:
                    found.append(frame)
        except FrameError:
            return found, True
        return found, False

    places = sorted({min(cut, len(data)) for cut in cuts})
    pieces = [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
    whole = outcome([data])
    assert outcome(pieces) == whole
    assert outcome([bytes([byte]) for byte in data]) == whole


@pytest.mark.parametrize(
    ("data", "frame"),
    [
        (b"SEND\n\n\0", Frame("SEND", {})),
        (b"SEND\r\n\r\n\0", Frame("SEND", {})),
        (b"SEND\n\r\n\n\0", Frame("SEND", {}, b"\n")),
        (b"SEND\n\nx\n\r\n\0", Frame("SEND", {}, b"x\n\r\n")),
        (b"SEND\na:b\r\n\r\nx\n\ny\0", Frame("SEND", {"a": "b"}, b"x\n\ny")),
        (b"SEND\na:\n\n\0", Frame("SEND", {"a": ""})),
        (b"SEND\na:1\na:2\n\n\0", Frame("SEND", {"a": "1"})),
        (b"SEND\na\\cb:\\\\\\n\\r\\c\n\n\0", Frame("SEND", {"a:b": "\\\n\r:"})),
        (b"SEND\na: b \n\n\0", Frame("SEND", {"a": " b "})),
        ("SEND\nü:€🐙\n\n\0".encode(), Frame("SEND", {"ü": "€🐙"})),
    ],
)
def test_a_frame_is_read(data: bytes, frame: Frame) -> None:
    assert read(data) == [frame]
    assert read(data, list(range(len(data)))) == [frame]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"NOSUCH\n\n\0", "unknown command"),
        (b"X", "unknown command"),
        (b"SENDX", "unknown command"),
        (b"SEND x", "unknown command"),
        (b"\rSEND", "unknown command"),
        (b"SEND\na\n\n\0", "without a name and a colon"),
        (b"SEND\n:b\n\n\0", "without a name and a colon"),
        (b"SEND\na:b:c\n\n\0", "written \\\\c"),
        (b"SEND\na:\\t\n\n\0", "unknown escape"),
        (b"SEND\na:\\\n\n\0", "unknown escape"),
        (b"SEND\na\\:b\n\n\0", "unknown escape"),
        (b"SEND\na:\xff\n\n\0", "not UTF-8"),
        (b"SEND\ncontent-length:x\n\n\0", "no number"),
        (b"SEND\ncontent-length:-1\n\n\0", "no number"),
        (b"SEND\ncontent-length:\n\n\0", "no number"),
        ("SEND\ncontent-length:²\n\n\0".encode(), "no number"),
        (b"SEND\ncontent-length:1\n\nab\0", "no NUL"),
        (b"SEND\ncontent-length:0\n\na\0", "no NUL"),
        (b"SEND\ncontent-length:999999999999999999\n\n", "more than 1048576 bytes"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(FrameError, match=told):
        read(data)
    with pytest.raises(FrameError, match=told):
        read(data, list(range(len(data))))


def test_frames_before_one_that_is_refused_are_read() -> None:
    reader = FrameReader(ENOUGH)
    reader.add(b"SEND\n\n\0SEND\na\n\n\0")
    assert reader.next() == Frame("SEND", {})
    with pytest.raises(FrameError):
        reader.next()


@pytest.mark.parametrize("pieces", [1, 1000])
@pytest.mark.parametrize("with_length", [True, False])
def test_a_frame_of_the_limit_is_taken_and_one_byte_more_is_not(
    pieces: int, with_length: bool
) -> None:
    limits = FrameLimits(frame_bytes=3000, head_bytes=200, headers=3)

    def data(size: int) -> bytes:
        head = b"SEND\ncontent-length:%d\n\n" % (size - 27) if with_length else b"SEND\n\n"
        return head + b"x" * (size - len(head) - 1) + b"\0"

    def cut(whole: bytes) -> list[int]:
        return list(range(0, len(whole), pieces))

    good = data(3000)
    assert len(good) == 3000
    (frame,) = read(good, cut(good), limits)
    assert frame.body.strip(b"x") == b""
    with pytest.raises(FrameError, match="more than 3000 bytes"):
        read(data(3001), cut(data(3001)), limits)


def test_headers_of_the_limit_are_taken_and_one_byte_more_is_not() -> None:
    limits = FrameLimits(head_bytes=100, headers=2)

    def data(size: int) -> bytes:
        return b"SEND\na:" + b"x" * (size - 7) + b"\n\n\0"

    assert read(data(100), None, limits)
    with pytest.raises(FrameError, match="headers of more than 100 bytes"):
        read(data(101), None, limits)
    assert read(b"SEND\na:1\nb:2\n\n\0", None, limits)
    with pytest.raises(FrameError, match="more than 2 headers"):
        read(b"SEND\na:1\nb:2\nc:3\n\n\0", None, limits)


def test_what_never_ends_is_refused_before_it_takes_memory() -> None:
    limits = FrameLimits(frame_bytes=10_000, head_bytes=1000)
    for begins in (b"SEND\n\n", b"SEND\na:"):
        reader, fed = FrameReader(limits), 0
        reader.add(begins)
        while not refused(reader):
            reader.add(b"x" * 100)
            fed += 100
            assert fed < 20_000


def refused(reader: FrameReader) -> bool:
    try:
        assert reader.next() is None
    except FrameError:
        return True
    return False


def taken_s(data: bytes) -> float:
    """The processor's time that a frame takes which comes byte by byte."""
    reader, begun_s = FrameReader(ENOUGH), time.process_time()
    for at in range(len(data)):
        reader.add(data[at : at + 1])
        found = reader.next()
    assert found is not None
    return time.process_time() - begun_s


@pytest.mark.parametrize("kind", ["with a length", "up to the nul", "of one header"])
def test_byte_by_byte_costs_in_proportion_to_the_bytes(kind: str) -> None:
    def data(size: int) -> bytes:
        if kind == "with a length":
            return stomp.encode("SEND", [], b"x" * size)
        if kind == "up to the nul":
            return b"SEND\n\n" + b"x" * size + b"\0"
        return b"SEND\na:" + b"x" * (size // 15) + b"\n\n\0"

    # Four times the bytes: four times the time, and sixteen where each byte is looked at again.
    least = [min(taken_s(data(size)) for _ in range(3)) for size in (60_000, 240_000)]
    assert least[1] < 9 * least[0] + 0.01


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_headers_of_the_limit_may_come_byte_by_byte(end: bytes) -> None:
    limits = FrameLimits(head_bytes=100)
    data = b"SEND" + end + b"a:" + b"x" * (95 - 2 * len(end)) + end + end + b"\0"
    assert read(data, None, limits) == read(data, list(range(len(data))), limits)


def test_many_heartbeats_leave_nothing() -> None:
    reader = FrameReader(ENOUGH)
    tracemalloc.start()
    try:
        for _ in range(2000):
            reader.add(b"\n\r\n" * 100)
            assert reader.next() is None
        assert not reader.begun
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_a_frame_has_its_content_length_last_and_only_with_a_body() -> None:
    assert stomp.encode("SEND", [("a", "b")], b"xy") == b"SEND\na:b\ncontent-length:2\n\nxy\0"
    assert stomp.encode("SEND", [("a", "b")]) == b"SEND\na:b\n\n\0"
    assert stomp.encode("ERROR", body="ü".encode()) == b"ERROR\ncontent-length:2\n\n\xc3\xbc\0"


@given(st.text("\r\nx\0").map(str.encode), st.integers(0, 3))
def test_between_frames_just_ends_of_lines_are_passed_over(data: bytes, at: int) -> None:
    expected = re.compile(rb"(?:\r?\n)*").match(data, at)
    assert expected is not None
    assert FrameReader(ENOUGH)._skip(data, at) == max(at, expected.end())


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_many_ends_of_lines_take_no_memory(end: bytes) -> None:
    data, reader = end * (1 << 20), FrameReader(ENOUGH)
    reader.add(data)
    tracemalloc.start()
    assert reader.next() is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not reader.begun
    assert peak < 65536
