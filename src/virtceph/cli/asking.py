"""Ask the person at the terminal."""

from __future__ import annotations

import sys

from virtceph.cli.arguments import UsageError


def confirmed(question: str) -> bool:
    """Whether the person says yes. Blocks. Raises UsageError where there is nobody to ask."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask at: say --yes")
    print(f"{question} [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
