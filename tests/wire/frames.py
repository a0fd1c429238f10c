"""Frames as the tests write and read them: by themselves, without the daemon's own parser."""

from __future__ import annotations

from typing import NamedTuple

MEANS = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"c": b":"}


class Got(NamedTuple):
    """A frame as it came. Headers in their order, with their escapes undone."""

    raw: bytes
    command: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of a name."""
        return next((value for key, value in self.headers if key == name), None)


def frame(command: str, *lines: str, body: bytes | str = b"", length: bool = True) -> bytes:
    """A frame of lines as they are to stand in it; with a content-length, if it has a body."""
    body = body.encode() if isinstance(body, str) else body
    if body and length:
        lines = (*lines, f"content-length:{len(body)}")
    return "\n".join((command, *lines, "", "")).encode() + body + b"\0"


def take(data: bytes) -> tuple[Got | None, bytes]:
    """The first frame of what came, or None, and the rest. Ends of lines before it are dropped."""
    data = data.lstrip(b"\n")
    head, ended, rest = data.partition(b"\n\n")
    if not ended:
        return None, data
    command, *lines = head.split(b"\n")
    headers = tuple(_header(line) for line in lines)
    length = next((int(value) for name, value in headers if name == "content-length"), None)
    if length is None:
        length = rest.find(b"\0")
        if length < 0:
            return None, data
    if len(rest) <= length:
        return None, data
    assert rest[length] == 0, f"no NUL behind {rest[:length]!r}"
    size = len(head) + 2 + length + 1
    return Got(data[:size], command.decode(), headers, rest[:length]), data[size:]


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    assert colon, f"a header without a colon: {line!r}"
    assert b":" not in value, f"a colon in a header's value: {line!r}"
    return _meant(name), _meant(value)


def _meant(text: bytes) -> str:
    first, *others = text.split(b"\\")
    # Of two backslashes in a row the second is what the first escapes.
    parts, skip = [first], False
    for index, other in enumerate(others):
        if skip:
            parts.append(other)
            skip = False
        elif not other and index + 1 < len(others):
            parts.append(b"\\")
            skip = True
        else:
            parts.append(MEANS[other[:1]] + other[1:])
    return b"".join(parts).decode()
