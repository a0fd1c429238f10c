"""Runs every test, in parts side by side: `python -m tests.parts [pytest or tests.twice [FOLDER]]`.

Most of them wait: for a lease, a cluster, a download. Each part has a lab or folders of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.lab.state import PROJECT

FOLDER = PROJECT / "build/test"
AFTERWARDS = "tests/afterwards"
# Where each part writes down what it saw on the wire.
SEEN = "VIRTCEPH_SEEN"
# With more, two cores have no rest, and every test of what happens in time is about the machine.
SIDE_BY_SIDE = 3
# They look back on what their own part produced: each part of a folder has them, as the last, in this order.
LOOKING_BACK = ("test_secrecy", "test_logs", "test_what_is_left")


@dataclass(frozen=True)
class Part:
    """Tests that run in a process of their own: those of a folder whose names begin with some letters."""

    name: str
    folder: str
    letters: str = ""

    @property
    def words(self) -> list[str]:
        """What pytest is told."""
        if not self.letters:
            parted = sorted({f"--ignore={part.folder}" for part in PARTS if part.letters})
            return [self.folder, *parted, f"--ignore={AFTERWARDS}"]
        folder = PROJECT / self.folder
        names = (*LOOKING_BACK, f"test_[{self.letters}]*")
        found = {path for name in names for path in folder.glob(f"{name}.py")}
        return sorted(str(path.relative_to(PROJECT)) for path in found)

    @property
    def report(self) -> Path:
        """Where pytest writes what became of the tests."""
        return FOLDER / f"{self.name}.xml"

    @property
    def log(self) -> Path:
        return FOLDER / f"{self.name}.log"


# The longest ones begin. What is in no other part is in `others`.
PARTS = (
    Part("faults-e-n", "tests/faults", "e-n"),
    Part("integration-t-z", "tests/integration", "t-z"),
    Part("others", "tests"),
    Part("integration-h-s", "tests/integration", "h-s"),
    Part("integration-d-g", "tests/integration", "d-g"),
    Part("faults-a", "tests/faults", "a"),
    Part("faults-o-z", "tests/faults", "o-z"),
    Part("faults-b-d", "tests/faults", "b-d"),
    Part("integration-a-c", "tests/integration", "a-c"),
)

RUNNING: set[subprocess.Popen[bytes]] = set()


def main(arguments: list[str]) -> int:
    """Run all, or those of a folder, and tell all; the first exit status that is not 0. Blocks."""
    begun_s = time.monotonic()
    runner, *folders = arguments or ["pytest"]
    parts = [part for part in PARTS if not folders or part.folder in folders]
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "seen").mkdir(parents=True)
    statuses = {}
    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    try:
        started = {pool.submit(run, part, runner): part for part in parts}
        for ended in as_completed(started):
            part = started[ended]
            statuses[part.report] = ended.result()
            print(f"\n{part.name}\n{part.log.read_text(errors='replace')}", flush=True)
    except KeyboardInterrupt:
        interrupt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    if not folders:
        last = Part("afterwards", AFTERWARDS, "a-z")
        statuses[last.report] = run(last, "pytest")
        print(f"\n{last.log.read_text()}")
    print(closing_line(statuses.items(), begun_s))
    return next((status for status in statuses.values() if status), 0)


def run(part: Part, runner: str) -> int:
    """Run the tests of a part, with their output in its log; pytest's exit status. Blocks."""
    argv = [sys.executable, "-m", runner, "-q", f"--junit-xml={part.report}", *part.words]
    environment = {**os.environ, SEEN: str(FOLDER / "seen")}
    print(f"{part.name} begins", flush=True)
    with (
        part.log.open("wb") as log,
        subprocess.Popen(
            argv,
            cwd=PROJECT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        ) as process,
    ):
        RUNNING.add(process)
        status = process.wait()
        RUNNING.discard(process)
    return status


def interrupt() -> None:
    """Have pytest end in every part that runs, as by Ctrl-C: it takes its lab down. Does not wait."""
    for process in [*RUNNING]:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)


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
    # Also where a shell that runs this in its background has it ignored; and who runs CI ends it by SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("interrupted")
