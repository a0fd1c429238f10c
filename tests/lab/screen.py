"""What the demo prints: numbered parts, steps with their times, facts, and checks."""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

from tests.lab.timeline import Span

LABEL_WIDTH, TIME_WIDTH = 12, 10
MIN_WIDTH, MAX_WIDTH = 72, 96
BOLD, DIM, GREEN, RED = "1", "2", "32", "31"


class CheckFailed(Exception):
    """Something that the demo promises did not hold."""


class Screen:
    """Writes to a terminal or a file. Colours only on a terminal, and not with NO_COLOR."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._coloured = out.isatty() and not os.environ.get("NO_COLOR")
        self._width = max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size((88, 24)).columns))
        utf8 = (getattr(out, "encoding", "") or "").lower().replace("-", "") == "utf8"
        self._bar = "█" if utf8 else "#"
        self._begun_s = time.monotonic()
        self._number = 0

    def heading(self, text: str) -> None:
        """Begin a part; at the right the time since the start. Does not block."""
        self._number += 1
        since = f"+{time.monotonic() - self._begun_s:.1f} s"
        head = f"{self._number:>2}  {text}".ljust(self._width - TIME_WIDTH)
        self._line("\n" + self._painted(head, BOLD) + self._painted(since.rjust(TIME_WIDTH), DIM))

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print what is done and, once it is, how long it took."""
        head = f"    {text}".ljust(self._width - TIME_WIDTH)
        self._out.write(head)
        self._out.flush()
        begun_s = time.monotonic()
        try:
            yield
        except BaseException:
            self._line("")
            raise
        took = f"{time.monotonic() - begun_s:.2f} s"
        self._line(self._painted(took.rjust(TIME_WIDTH), DIM))

    def fact(self, label: str, text: str) -> None:
        """Print something worth seeing. Does not block."""
        self._line(f"    {self._painted(label.ljust(LABEL_WIDTH), DIM)} {text}")

    def check(self, text: str, holds: bool, found: object = None) -> None:
        """Print that something holds. Does not block.

        Raises:
            CheckFailed: it does not; `found` tells what was there instead.
        """
        if holds:
            self._line(f"    {self._painted('ok', GREEN)}  {text}")
            return
        self._line(f"    {self._painted('NO', RED)}  {text}")
        raise CheckFailed(text if found is None else f"{text} (found: {found})")

    def timeline(self, spans: Sequence[Span]) -> None:
        """Print spans one below the other, each with its length and its place in the whole."""
        first_s, whole_s = spans[0].begun_s, spans[-1].ended_s - spans[0].begun_s
        label_width = max(len(span.label) for span in spans)
        room = self._width - label_width - 18
        for span in spans:
            start = round((span.begun_s - first_s) / whole_s * room)
            length = max(1, round(span.length_s / whole_s * room))
            bar = " " * min(start, room - 1) + self._bar * length
            took = f"{span.length_s * 1000:,.0f} ms"
            self._line(f"    {span.label:<{label_width}} {took:>9}  {bar}")

    def plain(self, text: str = "") -> None:
        """Print a line as it is. Does not block."""
        self._line(text)

    def failure(self, text: str) -> None:
        """Print why it all failed. Does not block."""
        self._line("\n" + self._painted(text, RED))

    def _painted(self, text: str, code: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._coloured else text

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()
