"""Runs pytest, and what failed once more by itself: `python -m tests.twice PYTEST'S ARGUMENTS`.

For CI, where real clusters and guests share a busy machine and one is late now and then. What failed is named
either way, for whoever mends it. Many at once are not chance; nor is one that fails twice.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

FEW = 3
_FAILED = 1  # pytest's exit status


def main(arguments: list[str]) -> int:
    """pytest's exit status: 0 as well when at most FEW tests failed and each passed alone. Blocks."""
    with tempfile.TemporaryDirectory(prefix="virtceph-twice-") as folder:
        cache = Path(folder)
        status = _pytest(cache, *arguments)
        if status != _FAILED:
            return status
        failed = _failed(cache)
        if not 1 <= len(failed) <= FEW:
            return status
        told = "".join(f"  {name}\n" for name in failed)
        print(f"\nfailed, and tried once more by themselves:\n{told}", flush=True)
        report = cache / "report.xml"
        again = _pytest(cache, *arguments, "--last-failed", f"--junit-xml={report}")
        if again == 0 and _skipped(report):
            # As those that look back on the whole run: it was not shown to pass.
            print("failed, and was left out the second time")
            return status
        return again


def _pytest(cache: Path, *arguments: str) -> int:
    argv = [sys.executable, "-m", "pytest", "-o", f"cache_dir={cache}", *arguments]
    with subprocess.Popen(argv) as process:
        while True:
            # Who ends this ends pytest as well, which then takes its lab down: that takes seconds.
            with contextlib.suppress(KeyboardInterrupt):
                return process.wait()


def _failed(cache: Path) -> list[str]:
    try:
        return sorted(json.loads((cache / "v/cache/lastfailed").read_text()))
    except FileNotFoundError:
        return []


def _skipped(report: Path) -> bool:
    return ElementTree.parse(report).find(".//skipped") is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
