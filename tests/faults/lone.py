"""Daemons of a test's own, to be killed, with the guards that outlive them."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.faults.waiting import until
from tests.lab.daemon import Daemon, merged
from tests.lab.doomed import Step

# A daemon that a test kills ends otherwise.
_CRASHES = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS)
_numbers = itertools.count(1)


def guards(daemon: Daemon) -> list[int]:
    """The guards that serve a daemon's folder."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"virtceph.guard" in words and any(str(daemon.folder).encode() in w for w in words):
            found.append(int(folder.name))
    return found


def leases_of(daemon: Daemon) -> list[Path]:
    """The records of open leases in a daemon's folder."""
    return sorted((daemon.folder / "run/leases").glob("*.json"))


class LoneDaemons:
    """Starts daemons, each with a folder of its own unless one is named again."""

    def __init__(self, start: Callable[..., Daemon], state: Path) -> None:
        self._start, self._state = start, state
        self._started: list[Daemon] = []

    def start(
        self,
        folder: str | None = None,
        *,
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
        **options: Any,
    ) -> Daemon:
        """A daemon and its guard, both running. Blocks."""
        name = folder or f"lone-{next(_numbers)}"
        settings = merged({"secrets": {"usage_prefix": f"{name}/"}}, overrides or {})
        daemon = self._start(name, overrides=settings, **options)
        self._started.append(daemon)
        until(lambda: bool(guards(daemon)), 10)
        return daemon

    def doomed(self, step: Step, action: str = "die", **options: Any) -> Daemon:
        """One that dies at a step, or halts there until `go`. Blocks."""
        # The launcher lies in the project, not in the product.
        code = self._state / "code"
        environment = {"PYTHONPATH": f"{code}/src:{code}"}
        command = ("-m", "tests.lab.doomed", action, step.name)
        return self.start(command=command, environment=environment, **options)

    def end(self) -> None:
        """Kill them and their guards. Blocks."""
        crashed = [d for d in self._started if d.process.exit_code in _CRASHES]
        for daemon in self._started:
            daemon.kill()
            for guard in guards(daemon):
                os.kill(guard, signal.SIGKILL)
        assert not crashed, [daemon.log_text()[-8000:] for daemon in crashed]
