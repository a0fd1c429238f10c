"""`python -m tests.lab up|down|status|env`: a lab that stays, for demos and for looking around."""

import argparse
import os
import sys
import time
from pathlib import Path

from tests.lab import packages, state
from tests.lab.errors import LabError
from tests.lab.libvirtd import quiet_errors
from tests.lab.processes import recorded
from tests.lab.stack import ENV_FILE, Lab, write_env


def main() -> int:
    """Run one command; returns the exit status. Blocks."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up_parser = commands.add_parser("up", help="start everything and leave it running")
    up_parser.add_argument("--without-daemon", action="store_true", help="all but the daemon")
    commands.add_parser("down", help="end all that `up` started, by pid")
    commands.add_parser("status", help="what runs; status 1 if not all of it does")
    commands.add_parser("env", help="print the shell lines that tell how to reach it")
    arguments = parser.parse_args()
    quiet_errors()
    try:
        if arguments.command == "up":
            return up(with_daemon=not arguments.without_daemon)
        return {"down": down, "status": status, "env": env}[arguments.command]()
    except LabError as problem:
        print(problem, file=sys.stderr)
        return 1


def up(*, with_daemon: bool) -> int:
    """Start this project's lab. Blocks."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root")
    if missing := packages.missing():
        raise LabError(f"the lab needs these packages: {' '.join(missing)}")
    folder = state.default_state()
    if folder.exists():
        if any(record.alive for record in recorded(folder)):
            raise LabError("the lab is up, or part of it: see `status`, or take it `down`")
        state.remove(folder)
    begun = time.monotonic()
    lab = Lab.start(folder, with_daemon=with_daemon)
    write_env(lab)
    print(f"lab up in {time.monotonic() - begun:.1f} s: . {_shown(ENV_FILE)}")
    return 0


def down() -> int:
    """End this project's lab, or what is left of it. Blocks."""
    ended = state.remove(state.default_state())
    ENV_FILE.unlink(missing_ok=True)
    print(f"ended {', '.join(ended)}" if ended else "nothing ran")
    return 0


def status() -> int:
    """Print each process of this project's lab. Does not block."""
    folder = state.default_state()
    if not folder.exists():
        print("down")
        return 1
    # The newest of each name: a restart adds a record.
    newest = {record.name: record for record in recorded(folder)}
    gone = [record for record in newest.values() if not record.alive]
    for record in Lab.attach(folder).processes:
        print(f"{record.pid:>8}  {'stopped' if record.stopped else 'runs':<8} {record.name}")
    for record in gone:
        print(f"{record.pid:>8}  {'gone':<8} {record.name}")
    return 1 if gone else 0


def env() -> int:
    """Print .lab/env. Does not block."""
    if not ENV_FILE.exists():
        raise LabError("the lab is down")
    print(ENV_FILE.read_text(), end="")
    return 0


def _shown(path: Path) -> str:
    return os.path.relpath(path)


if __name__ == "__main__":
    raise SystemExit(main())
