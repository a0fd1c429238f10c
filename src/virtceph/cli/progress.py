"""How far a job is, on one line of a terminal that is written over and over."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from virtceph.cli.table import duration, safe, size

_CELLS = 24
_ERASE = "\r\x1b[K"
_FULL, _EMPTY, _EIGHTHS = "█", "░", " ▏▎▍▌▋▊▉"


class ProgressLine:
    """Shows jobs as `Host.getJobs` tells them. `clear` takes the line away again."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._drawn = False
        encoding = (getattr(out, "encoding", None) or "").lower()
        self._draws_blocks = encoding.startswith("utf")

    def show(self, job: dict[str, Any]) -> None:
        """Draw a job as it stands."""
        self._out.write(_ERASE + self.line(job))
        self._out.flush()
        self._drawn = True

    def clear(self) -> None:
        """Leave the line empty, for what is printed next."""
        if self._drawn:
            self._out.write(_ERASE)
            self._out.flush()
            self._drawn = False

    def line(self, job: dict[str, Any]) -> str:
        """`copying   ███████░░░░░   58 %  1.2 GiB of 2.0 GiB   310.0 MiB/s   3.1 s left`."""
        step = safe(str(job.get("step") or job["status"]))
        parts = [f"{step:<10}"]
        if "progress" in job:
            parts.append(f"{self.bar(job['progress'] / 100)} {job['progress']:>3} %")
        if "bytesTotal" in job:
            parts.append(f"{size(job.get('bytesDone', 0))} of {size(job['bytesTotal'])}")
        if job.get("rate"):
            parts.append(f"{size(job['rate'])}/s")
        if "timeLeft" in job:
            parts.append(f"{duration(job['timeLeft'])} left")
        return "  ".join(parts)

    def bar(self, share: float) -> str:
        """A bar that is filled by a share from 0 to 1, to the eighth of a cell where the terminal can."""
        if not self._draws_blocks:
            full = int(share * _CELLS)
            return "[" + "#" * full + "." * (_CELLS - full) + "]"
        eighths = int(share * _CELLS * 8)
        full, rest = divmod(eighths, 8)
        partly = _EIGHTHS[rest] if rest else ""
        return _FULL * full + partly + _EMPTY * (_CELLS - full - len(partly))


def progress_line() -> ProgressLine | None:
    """A line on the terminal behind stderr; None where there is none, or it cannot be written over."""
    import os

    err = sys.stderr
    if err is None or not err.isatty() or os.environ.get("TERM") == "dumb":
        return None
    return ProgressLine(err)
