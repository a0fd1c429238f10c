"""Runs every test, in parts side by side: `python -m tests.parts [pytest or tests.twice]`.

Most of them wait: for a lease, a cluster, a download. Those of faults and those of integration have a lab
each anyway; those that build and unpack packages have folders of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.lab.state import PROJECT

FOLDER = PROJECT / "build/test"
LAST = "tests/afterwards"
# The first one is seen as it goes on, the others when they have ended.
PARTS = {
    "integration": ["tests/integration"],
    "faults": ["tests/faults"],
    "others": ["tests", *(f"--ignore={p}" for p in ("tests/integration", "tests/faults", LAST))],
}
# Where each of them writes down what it saw on the wire.
SEEN = "VIRTCEPH_SEEN"


@dataclass(frozen=True)
class Part:
    """Tests that run in a process of their own."""

    name: str
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        return FOLDER / f"{self.name}.log"

    @property
    def report(self) -> Path:
        return report(self.name)

    def wait(self) -> int:
        """pytest's exit status. Blocks."""
        while True:
            # Who interrupts this interrupts them too, and they clean up.
            with suppress(KeyboardInterrupt):
                return self.process.wait()


def main(arguments: list[str]) -> int:
    """Run all, tell all; the first exit status that is not 0. Blocks."""
    begun_s = time.monotonic()
    runner = arguments[0] if arguments else "pytest"
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "seen").mkdir(parents=True)
    parts = [start(runner, name, words) for name, words in PARTS.items()]
    statuses = []
    for part in parts:
        statuses.append(part.wait())
        if part.log.exists():
            print(f"\n{part.name}\n{part.log.read_text(errors='replace')}", flush=True)
    parts.append(start("pytest", "afterwards", [LAST], here=True))
    statuses.append(parts[-1].wait())
    print(closing_line(zip((p.report for p in parts), statuses, strict=True), begun_s))
    return next((status for status in statuses if status), 0)


def report(name: str) -> Path:
    """Where pytest writes what became of the tests of that part."""
    return FOLDER / f"{name}.xml"


def start(runner: str, name: str, words: list[str], *, here: bool = False) -> Part:
    """Start those tests. The output goes to a file, but for the first part's and that of `here`."""
    argv = [sys.executable, "-m", runner, "-q", f"--junit-xml={report(name)}", *words]
    environment = {**os.environ, SEEN: str(FOLDER / "seen")}
    if here or name == next(iter(PARTS)):
        return Part(name, subprocess.Popen(argv, cwd=PROJECT, env=environment))
    with (FOLDER / f"{name}.log").open("wb") as log:
        popen = subprocess.Popen(
            argv, cwd=PROJECT, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    return Part(name, popen)


def closing_line(ended: Iterable[tuple[Path, int]], begun_s: float) -> str:
    """One line for all parts, as pytest has it for one. What passed at the second look has passed."""
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for path, status in ended:
        if not path.exists():
            return f"{path.stem}: pytest ended with status {status}, without a report"
        suite = ElementTree.parse(path).find("testsuite")
        assert suite is not None
        count = {
            name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")
        }
        failed = count["failures"] + count["errors"] if status else 0
        total["failed"] += failed
        total["skipped"] += count["skipped"]
        total["passed"] += count["tests"] - failed - count["skipped"]
    told = ", ".join(f"{number} {what}" for what, number in total.items() if number)
    return f"all parts: {told} in {time.monotonic() - begun_s:.2f}s"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
