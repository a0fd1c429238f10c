"""Processes of the benchmarks themselves, and what they take of the memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.processes import ProcessRecord, plain_environment, spawn
from tests.lab.state import PROJECT

KIB_PER_MIB = 1024


def environment(**extra: str) -> dict[str, str]:
    """What a benchmark's process sees: nothing of the caller's settings. Does not block."""
    return plain_environment(PYTHONPATH=f"{PROJECT}:{PROJECT}/src", **extra)


@contextmanager
def started(folder: Path, name: str, arguments: Sequence[str]) -> Iterator[ProcessRecord]:
    """Run our own Python with `arguments` as long as the block. Blocks at its end."""
    argv = [sys.executable, *arguments]
    record = spawn(folder, name, argv, folder / f"{name}.log", env=environment())
    try:
        yield record
    finally:
        record.end()


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident and proportional memory of a process. Does not block."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) / KIB_PER_MIB
    return found["Rss"], found["Pss"]


def children(pid: int) -> list[int]:
    """The child processes of a process. Does not block."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, path.read_text().split())
    return sorted(found)
