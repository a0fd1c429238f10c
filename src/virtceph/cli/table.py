"""Aligned text for terminals: tables, lists of keys, and single values."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from virtceph.units import human_bytes

Style = Callable[[str], str]


def plain(text: str) -> str:
    """No emphasis: for pipes and files."""
    return text


def bold(text: str) -> str:
    """Emphasis on a terminal."""
    return f"\x1b[1m{text}\x1b[0m"


def safe(text: str) -> str:
    """`text` without control characters: a name could else steer the reader's terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], style: Style
) -> list[str]:
    """Lines of a table; `right` says which columns stand to the right."""
    widths = [max(map(len, column)) for column in zip(headers, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(padded).rstrip()

    return [style(line(headers)), *map(line, rows)]


def pairs(rows: Sequence[tuple[str, str]], style: Style) -> list[str]:
    """Lines of `key  value`."""
    width = max((len(key) for key, _ in rows), default=0)
    return [f"{style(key.ljust(width))}  {value}".rstrip() for key, value in rows]


def size(value: Any) -> str:
    """Bytes as people write them: `10.0 GiB`."""
    return human_bytes(int(value))


def duration(value: Any) -> str:
    """Seconds as people write them: `340 ms`, `12.3 s`, `8 min 5 s`."""
    seconds = float(value)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def moment(value: Any) -> str:
    """Seconds since 1970 as local time: `2025-03-09 14:05:00`."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(value)))
