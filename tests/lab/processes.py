"""Processes the lab started: recorded on disk, so that another process can end exactly those."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.lab.errors import CommandFailed, LabError, NotReady, StillRunning, tail

RECORD_NAME = "processes.jsonl"


@dataclass(frozen=True)
class ProcessRecord:
    """One process. A pid alone may be recycled; with its start time it never lies."""

    name: str
    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """Whether this very process still runs. A zombie does not. Does not block."""
        return start_ticks(self.pid) == self.start_ticks

    @property
    def stopped(self) -> bool:
        """Whether SIGSTOP holds it. Does not block."""
        return self.alive and _stat_fields(self.pid)[0] == "T"

    def send(self, signal_number: signal.Signals) -> None:
        """Signal it, if it is still this process. After SIGSTOP it has stopped. Blocks for a moment."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal_number)
        # On a busy machine a stopped process would answer for some milliseconds more.
        deadline_s = time.monotonic() + 1
        while signal_number == signal.SIGSTOP and self.alive and not self.stopped:
            if time.monotonic() >= deadline_s:
                break
            time.sleep(0.002)

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within `timeout_s`. Blocks."""
        deadline = time.monotonic() + timeout_s
        while True:
            # A killed process with many threads is a zombie for a moment before it can be reaped.
            if not self.alive and _reap(self.pid):
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.01)

    @property
    def exit_code(self) -> int | None:
        """How it ended (negative: by which signal); None if it runs or was nobody's child of ours."""
        _reap(self.pid)
        return None if self.alive else _exit_codes.get(self.pid)

    def end(self, grace_s: float = 5.0) -> None:
        """End it: TERM, and KILL after `grace_s`. Blocks.

        Raises:
            StillRunning: even SIGKILL did not help within 10 s.
        """
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        if self.wait(grace_s):
            return
        self.send(signal.SIGKILL)
        if not self.wait(10.0):
            raise StillRunning(self.name, self.pid)


def _stat_fields(pid: int) -> list[str]:
    # The program's name stands in brackets and may itself hold brackets and spaces.
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None if it does not run. Does not block."""
    try:
        fields = _stat_fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def identify(name: str, pid: int) -> ProcessRecord | None:
    """The record of a running process that somebody else (libvirtd) started. Does not block."""
    ticks = start_ticks(pid)
    return None if ticks is None else ProcessRecord(name, pid, ticks)


# How our own children ended, by pid: only the first waitpid hears of it.
_exit_codes: dict[int, int] = {}


def _reap(pid: int) -> bool:
    """Whether nothing is left to reap: it was ours and is reaped, or was never ours."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return True
    if ended:
        _exit_codes[pid] = os.waitstatus_to_exitcode(status)
    return bool(ended)


def spawn(
    state: Path,
    name: str,
    argv: Sequence[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
) -> ProcessRecord:
    """Start a program in a session of its own and record it under `state`. Does not wait for it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env) if env is not None else plain_environment(),
            # The caller may stand in a folder that the daemon's user cannot read.
            cwd="/",
            start_new_session=True,
        )
    # We wait by pid, also from other processes, so Popen's own book-keeping is switched off:
    # it would warn of a "still running" child at interpreter exit.
    process.returncode = 0
    _exit_codes.pop(process.pid, None)
    record = identify(name, process.pid)
    if record is None:
        raise NotReady(name, 0, tail(log))
    with (state / RECORD_NAME).open("a") as file:
        file.write(json.dumps(asdict(record)) + "\n")
    return record


def recorded(state: Path) -> list[ProcessRecord]:
    """All processes ever recorded under `state`, oldest first. Does not block."""
    try:
        lines = (state / RECORD_NAME).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [ProcessRecord(**json.loads(line)) for line in lines]


def end_recorded(state: Path) -> list[str]:
    """End what is recorded under `state`, newest first; returns what had to be ended. Blocks."""
    ended, stuck = [], []
    for record in reversed(recorded(state)):
        if record.alive:
            ended.append(f"{record.name} ({record.pid})")
            try:
                record.end()
            except StillRunning as problem:
                stuck.append(str(problem))
    if stuck:
        raise LabError("; ".join(stuck))
    return ended


def plain_environment(**extra: str) -> dict[str, str]:
    """An environment without the caller's CEPH_*, LIBVIRT_* and Python settings."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": "/", **extra}


def run(argv: list[str], *, timeout_s: float = 120, cwd: Path | None = None) -> str:
    """Run a program to its end; returns its standard output. Blocks.

    Raises:
        CommandFailed: its status was not 0.
    """
    done = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        cwd=cwd,
        env=plain_environment(),
        check=False,
    )
    if done.returncode:
        raise CommandFailed(argv, done.returncode, done.stdout + done.stderr)
    return done.stdout


def wait_until(
    ready: Callable[[], bool],
    what: str,
    timeout_s: float,
    *,
    process: ProcessRecord | None = None,
    log: Path | None = None,
    interval_s: float = 0.02,
) -> None:
    """Wait until `ready()` is true. Blocks.

    Raises:
        NotReady: the time is over, or `process` ended before; carries the log's tail.
    """
    deadline = time.monotonic() + timeout_s
    while not ready():
        if time.monotonic() >= deadline or (process is not None and not process.alive):
            raise NotReady(what, timeout_s, tail(log) if log else "")
        time.sleep(interval_s)
