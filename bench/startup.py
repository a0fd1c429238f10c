"""How long a user waits for the CLI, against a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.figures import Goal, Row, Samples
from bench.process import environment
from bench.site import Site

ROUNDS = 21
GOAL = Goal(120.0, absolute=True)


def measure(site: Site) -> Iterator[Row]:
    """A row for each command. Blocks, about 10 s."""
    command = Path(sys.executable).with_name("virtceph")
    nothing = "python -c pass"
    commands: dict[str, Sequence[str]] = {
        nothing: [sys.executable, "-c", "pass"],
        "virtceph --version": [str(command), "--version"],
        "virtceph Host ping2": [str(command), "Host", "ping2"],
    }
    env = environment(VIRTCEPH_SOCKET=str(site.daemon.socket))
    taken: dict[str, list[float]] = {name: [] for name in commands}
    for argv in commands.values():
        _run_ms(argv, env)
    for _ in range(ROUNDS):
        for name, argv in commands.items():
            taken[name].append(_run_ms(argv, env))
    reference = Samples(nothing, taken.pop(nothing))
    for name, values in taken.items():
        yield Row(name, "ms", Samples(name, values), reference, GOAL)


def _run_ms(argv: Sequence[str], env: dict[str, str]) -> float:
    begun_s = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True, env=env)
    return (time.perf_counter() - begun_s) * 1000
