"""`virtceph jobs`: what the daemon does and did; with `--watch`, as it goes on."""

from __future__ import annotations

import os
import sys
import time
from typing import Any, TextIO

from virtceph.cli.progress import ProgressLine
from virtceph.cli.short import DONE, FAILED, OPTIONS, Parser, daemon, show_json
from virtceph.cli.table import moment, safe, table
from virtceph.client import Client
from virtceph.schema.spec import Contract

USAGE = "usage: virtceph jobs [JOB …] [--watch] [--all] [--json] [--socket PATH] [-h]"
HELP = f"""\
{USAGE}

The jobs that are under way, or those that are named by the beginnings of their ids.

options:
  --all              those that ended too: the daemon knows them for an hour
  --watch            go on, with a bar for each: until the named ones have ended; without names, until
                     interrupted. On no terminal: a line whenever a job changes its state
{OPTIONS}
exit code: 0 done, 1 a named job failed, was aborted or is unknown, 2 the command line is wrong
"""
_AGAIN_S = 0.5
_ENDED = ("done", "failed", "aborted")
_ID_CHARACTERS = 8


def run(contract: Contract, argv: list[str]) -> int:
    """Show jobs. Blocks. Raises UsageError, ServerError, ConnectionFailed, TimedOut."""
    parser = Parser(USAGE)
    parser.add_argument("jobs", nargs="*")
    parser.add_argument("--watch", action="store_true")
    parser.add_argument("--all", action="store_true")
    asked = parser.parse_intermixed_args(argv)
    if asked.help:
        print(HELP, end="")
        return DONE
    if asked.watch and asked.json:
        parser.error("--watch is for people; virtceph events --json tells of changes")
    if not all(asked.jobs):
        parser.error("an empty id begins every job's")
    with daemon(asked) as client:
        if asked.watch:
            return _watch(client, asked.jobs, _screen())
        found = _of(client, asked.jobs, ended=asked.all or bool(asked.jobs))
    if asked.json:
        show_json(found)
    elif found or not asked.jobs:
        print("\n".join(lines(found)) if found else "none")
    return _code(found, asked.jobs)


def _of(client: Client, named: list[str], *, ended: bool) -> list[dict[str, Any]]:
    """Jobs, the oldest first."""
    jobs = client.call("Host.getJobs").values()
    if named:
        jobs = [job for job in jobs if any(job["id"].startswith(name.lower()) for name in named)]
    chosen = [job for job in jobs if ended or job["status"] not in _ENDED]
    return sorted(chosen, key=lambda job: job.get("started", 0.0))


def _code(found: list[dict[str, Any]], named: list[str]) -> int:
    unknown = [
        name for name in named if not any(job["id"].startswith(name.lower()) for job in found)
    ]
    for name in unknown:
        print(f"virtceph: jobs: there is no job {safe(name)}", file=sys.stderr)
    failed = named and any(job["status"] in ("failed", "aborted") for job in found)
    return FAILED if unknown or failed else DONE


def lines(jobs: list[dict[str, Any]]) -> list[str]:
    """A line for each job, under a head."""
    bar = ProgressLine(sys.stdout)
    rows = []
    for job in jobs:
        how = bar.line(job) if job["status"] not in _ENDED else _end(job)
        started = moment(job["started"]) if "started" in job else "-"
        what = safe(job["description"])
        rows.append([job["id"][:_ID_CHARACTERS], started, what, safe(job["status"]), how])
    return table(["job", "started", "what", "status", ""], rows, [False] * 5, str)


def _end(job: dict[str, Any]) -> str:
    if "error" in job:
        return safe(str(job["error"]["message"]))
    result = job.get("result")
    if isinstance(result, dict) and "consistency" in result:
        return safe(f"{result['consistency']}: {result.get('reason', '')}")
    return ""


class Screen:
    """Lines on a terminal that are written over and over."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._height = out, 0
        self._bar = ProgressLine(out)

    def show(self, jobs: list[dict[str, Any]]) -> None:
        """Draw the jobs in the place of those drawn before."""
        try:
            size = os.get_terminal_size(self._out.fileno())
            columns, rows = size.columns or 80, size.lines or 24
        except OSError:
            columns, rows = 80, 24
        # A line that wraps could not be counted, nor one that scrolled away be written over.
        drawn = [self._line(job) for job in jobs] or ["no jobs"]
        text = [line[: columns - 1] for line in drawn][: rows - 1]
        up = f"\x1b[{self._height}A" if self._height else ""
        self._out.write(up + "".join(f"\r\x1b[K{line}\n" for line in text) + "\x1b[J")
        self._out.flush()
        self._height = len(text)

    def _line(self, job: dict[str, Any]) -> str:
        """What it is and how far; short, so that the bar is seen on a narrow terminal, too."""
        ended = f"{safe(job['status'])}  {_end(job)}"
        how = ended if job["status"] in _ENDED else self._bar.line(job)
        return f"{job['id'][:_ID_CHARACTERS]}  {safe(job['description'])}  {how}".rstrip()


class Log:
    """A line whenever a job changes its state."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._known: dict[str, str] = {}

    def show(self, jobs: list[dict[str, Any]]) -> None:
        """Tell what is new."""
        for job in jobs:
            if self._known.get(job["id"]) != job["status"]:
                self._known[job["id"]] = job["status"]
                end = _end(job) if job["status"] in _ENDED else ""
                words = [job["id"], safe(job["description"]), job["status"], end]
                self._out.write("  ".join(word for word in words if word) + "\n")
        self._out.flush()


def _screen() -> Screen | Log:
    can = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return Screen(sys.stdout) if can else Log(sys.stdout)


def _watch(client: Client, named: list[str], screen: Screen | Log) -> int:
    seen: dict[str, None] = {}
    while True:
        jobs = _of(client, named, ended=True)
        # Of those that ended, what ended while somebody watched.
        seen.update(dict.fromkeys(job["id"] for job in jobs if job["status"] not in _ENDED))
        screen.show([job for job in jobs if named or job["id"] in seen])
        if named and all(job["status"] in _ENDED for job in jobs):
            return _code(jobs, named)
        time.sleep(_AGAIN_S)
