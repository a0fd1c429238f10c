"""The command line: options anywhere, then NAMESPACE, method and arg=value."""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple, NoReturn

from virtceph import __version__

USAGE = (
    "virtceph [-h] [--version] [--socket PATH] [--timeout S] [--human] [--wait] [-f FILE|-]\n"
    "                NAMESPACE method [arg=value ...]"
)


class UsageError(Exception):
    """The command line is wrong; the text says how. `usage` is the line that would be right."""

    usage = f"usage: {USAGE}"
    exit_code = 2


class Options(NamedTuple):
    """`timeout_s` bounds one request (and the wait for a job); `file` is where `-f` reads, `-` for stdin."""

    words: list[str]
    help: bool
    socket: str | None
    timeout_s: float
    human: bool
    wait: bool
    file: str | None


class CommandParser(argparse.ArgumentParser):
    """Parses a command line whose help is the command's own text. What is wrong is told with its usage, by
    UsageError."""

    def __init__(self, told: str, exit_code: int = UsageError.exit_code, **options: Any) -> None:
        super().__init__(**{"add_help": False, "allow_abbrev": False, **options})
        self._told, self._exit_code = told, exit_code

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        wrong = UsageError(message)
        wrong.usage, wrong.exit_code = self._told, self._exit_code
        raise wrong


def _formatter(prog: str) -> argparse.HelpFormatter:
    # Asking for the terminal's width would import shutil and its compression libraries.
    return argparse.HelpFormatter(prog, width=96)


def _positive_s(text: str) -> float:
    value = float(text)
    # Also refuses NaN; the socket layer cannot count further than this.
    if not 0 < value <= 1e6:
        raise ValueError
    return value


_positive_s.__name__ = "number of seconds"


# Commands that are no verbs, with options of their own.
SHORT = ("status", "snapshot", "snapshots", "restore", "jobs")
COMMANDS = ("events", "pki", "doctor", "adopt-secret", *SHORT)
_WITH_VALUE = ("--socket", "--timeout", "-f", "--file")


def split_command(argv: list[str]) -> tuple[str | None, list[str]]:
    """One of the commands, if that is the first word, and all other words; else None."""
    skip = False
    for index, word in enumerate(argv):
        if skip or word.startswith("-"):
            skip = not skip and word in _WITH_VALUE
        elif word in COMMANDS:
            return word, argv[:index] + argv[index + 1 :]
        else:
            break
    return None, argv


def parse(argv: list[str]) -> Options:
    """Read the command line. Raises UsageError; `--version` prints and exits."""
    parser = CommandParser(UsageError.usage, prog="virtceph", formatter_class=_formatter)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--version", action="version", version=f"virtceph {__version__}")
    parser.add_argument("--socket")
    parser.add_argument("--timeout", type=_positive_s, default=180.0)
    parser.add_argument("--human", action="store_true")
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("-f", "--file")
    parser.add_argument("words", nargs="*")
    found = parser.parse_intermixed_args(argv)
    return Options(
        words=found.words,
        help=found.help,
        socket=found.socket,
        timeout_s=found.timeout,
        human=found.human,
        wait=found.wait,
        file=found.file,
    )
