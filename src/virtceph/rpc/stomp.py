"""Frames of STOMP 1.2: bytes to frames and back, apart from all reading and writing.

As the clients of engines have always been read: a CR before the LF is passed over, lone ends of lines
between frames are skipped, the first of repeated headers counts, and escapes count everywhere, in
CONNECT too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from virtceph.units import KiB, MiB

_COMMANDS = {
    name.encode(): name
    for name in (
        *("CONNECT", "STOMP", "SEND", "SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT"),
        *("CONNECTED", "MESSAGE", "RECEIPT", "ERROR"),
    )
}
_LONGEST_COMMAND = max(map(len, _COMMANDS))
# Not (?:\r?\n)*: each time round, a group takes a hundred bytes on the heap. Nor with a possessive *+, which
# Python before 3.11.5 matches wrongly (gh-106052).
_ENDS = re.compile(rb"[\r\n]*")
_LONE_CR = re.compile(rb"\r(?!\n)")
_LENGTH = re.compile(r"[0-9]{1,18}")
_ESCAPED = re.compile(r"\\(.?)", re.DOTALL)
_MEANS = {"\\": "\\", "n": "\n", "r": "\r", "c": ":"}
_NEEDS_ESCAPE = re.compile(r"[\\\n\r:]")
_ESCAPE = {meant: f"\\{letter}" for letter, meant in _MEANS.items()}


class FrameError(Exception):
    """What came is no frame, or is larger than is taken. Nothing behind it can be read."""


class Frame(NamedTuple):
    """One frame. `headers` as they are meant, without escapes, in the order in which they came."""

    command: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class FrameLimits:
    """How much is read: of a frame, of its command and headers together, and how many headers."""

    frame_bytes: int = MiB
    head_bytes: int = 16 * KiB
    headers: int = 64


class _Head(NamedTuple):
    command: str
    headers: dict[str, str]
    # Where the body begins, and how long it is; -1: up to the first NUL.
    body_at: int
    length: int


class FrameReader:
    """Reads the frames of one connection from whatever pieces its bytes come in."""

    def __init__(self, limits: FrameLimits) -> None:
        self._limits = limits
        # What came, and how far it was read. Bytes as they came, or, from the second piece of a frame on,
        # an array that grows: no byte is copied again for each piece.
        self._source: bytes | bytearray = b""
        self._at = 0
        self._head: _Head | None = None
        # How much behind that place was searched in vain, so that no byte is looked at twice.
        self._searched = 0

    @property
    def begun(self) -> bool:
        """Whether a part of a frame is there, and its end is not."""
        return self._at < len(self._source)

    def add(self, data: bytes) -> None:
        """Take what came."""
        if self._at == len(self._source):
            self._source = data
        elif isinstance(self._source, bytearray):
            del self._source[: self._at]
            self._source += data
        else:
            self._source = bytearray(self._source[self._at :])
            self._source += data
        self._at = 0

    def next(self) -> Frame | None:
        """The next frame, or None where its end has not come.

        Raises:
            FrameError: there is none, and nothing behind it can be read.
        """
        source, at = self._source, self._at
        if self._head is None:
            at = self._at = self._skip(source, at)
            self._head = self._read_head(source, at)
            if self._head is None:
                return None
        end = self._end_of_body(source, at, self._head)
        if end < 0:
            return None
        head, self._head, self._searched = self._head, None, 0
        self._at = end + 1
        return Frame(head.command, head.headers, bytes(source[at + head.body_at : end]))

    def _skip(self, source: bytes | bytearray, at: int) -> int:
        """Where the next frame begins: behind the ends of lines between frames, which are heart-beats."""
        if self._searched or source[at : at + 1] not in (b"\n", b"\r"):
            return at
        ends = _ENDS.match(source, at)
        assert ends is not None
        lone = _LONE_CR.search(source, at, ends.end())
        return ends.end() if lone is None else lone.start()

    def _read_head(self, source: bytes | bytearray, at: int) -> _Head | None:
        """Command and headers, or None while their end has not come."""
        start, size = at + self._searched, len(source)
        end = source.find(b"\n\n", start)
        other = source.find(b"\n\r\n", start, size if end < 0 else end + 1)
        if other >= 0:
            end, behind = other, other + 3
        else:
            behind = end + 2
        if end < 0:
            self._refuse_early(source, at, size - at)
            # The end may begin with the last two bytes.
            self._searched = max(0, size - at - 2)
            return None
        if end - at > self._limits.head_bytes:
            raise FrameError(f"headers of more than {self._limits.head_bytes} bytes")
        command, headers = self._decode(bytes(source[at:end]))
        length = self._length(headers.get("content-length"))
        if behind - at + max(0, length) >= self._limits.frame_bytes:
            raise self._too_large()
        self._searched = 0
        return _Head(command, headers, behind - at, length)

    def _refuse_early(self, source: bytes | bytearray, at: int, size: int) -> None:
        """Do not wait for the end of what can be no frame, or none that is taken."""
        # Of the empty line that ends them up to two bytes may be there.
        if size > self._limits.head_bytes + 2:
            raise FrameError(f"headers of more than {self._limits.head_bytes} bytes")
        line, ended, _ = bytes(source[at : at + _LONGEST_COMMAND + 2]).partition(b"\n")
        line = line.removesuffix(b"\r")
        fits = line in _COMMANDS if ended else any(name.startswith(line) for name in _COMMANDS)
        if not fits:
            raise FrameError("unknown command")

    def _decode(self, head: bytes) -> tuple[str, dict[str, str]]:
        first, _, rest = head.partition(b"\n")
        command = _COMMANDS.get(first.removesuffix(b"\r"))
        if command is None:
            raise FrameError("unknown command")
        headers: dict[str, str] = {}
        if not rest:
            return command, headers
        try:
            lines = rest.decode().split("\n")
        except UnicodeDecodeError:
            raise FrameError("headers that are not UTF-8") from None
        if len(lines) > self._limits.headers:
            raise FrameError(f"more than {self._limits.headers} headers")
        for line in lines:
            name, colon, value = line.removesuffix("\r").partition(":")
            if not colon or not name:
                raise FrameError("a header without a name and a colon")
            if ":" in value:
                raise FrameError("a colon in the value of a header, which is written \\c")
            if "\\" in line:
                name, value = _unescaped(name), _unescaped(value)
            headers.setdefault(name, value)
        return command, headers

    def _length(self, text: str | None) -> int:
        if text is None:
            return -1
        if not _LENGTH.fullmatch(text):
            raise FrameError("a content-length that is no number")
        return int(text)

    def _end_of_body(self, source: bytes | bytearray, at: int, head: _Head) -> int:
        """Where the NUL behind the body stands, or -1 while it has not come."""
        begin, size = at + head.body_at, len(source)
        if head.length >= 0:
            end = begin + head.length
            if size <= end:
                return -1
            if source[end]:
                raise FrameError("no NUL behind the body that content-length tells")
            return end
        end = source.find(b"\0", begin + self._searched)
        if (size if end < 0 else end) - at >= self._limits.frame_bytes:
            raise self._too_large()
        if end < 0:
            self._searched = size - begin
        return end

    def _too_large(self) -> FrameError:
        return FrameError(f"a frame of more than {self._limits.frame_bytes} bytes")


def _unescaped(text: str) -> str:
    try:
        return _ESCAPED.sub(lambda found: _MEANS[found[1]], text)
    except KeyError:
        raise FrameError("an unknown escape in a header") from None


def escaped(text: str) -> str:
    """A header's name or value as it stands in a frame."""
    if not _NEEDS_ESCAPE.search(text):
        return text
    return _NEEDS_ESCAPE.sub(lambda found: _ESCAPE[found[0]], text)


def header(name: str, value: str) -> bytes:
    """One header's line."""
    return f"{escaped(name)}:{escaped(value)}\n".encode()


def head(command: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Command and headers, without the empty line that ends them."""
    return b"".join([f"{command}\n".encode(), *(header(*pair) for pair in headers)])


def encode(command: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b"") -> bytes:
    """A frame. One with a body is given its content-length, as the last header."""
    return with_body(head(command, headers), body) if body else head(command, headers) + b"\n\0"


def with_body(ready_head: bytes, body: bytes) -> bytes:
    """A frame of a head that was made before, as for each reply to the same subscription."""
    return b"%bcontent-length:%d\n\n%b\0" % (ready_head, len(body), body)
