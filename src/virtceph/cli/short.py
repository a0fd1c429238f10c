"""The short forms: what is done every day, in a word. Each is made of verbs and does no more than they do."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from virtceph.cli.arguments import CommandParser
from virtceph.cli.calling import call_and_wait, vm_called
from virtceph.cli.table import bold, plain
from virtceph.cli.values import is_uuid
from virtceph.client import (
    Client,
    ConnectionFailed,
    NoSuchJob,
    ServerError,
    TimedOut,
    connect,
    socket_path,
)

if TYPE_CHECKING:
    from virtceph.schema.spec import Contract

# Each word's module, and what it does.
FORMS = {
    "status": ("shortstatus", "what there is and how it stands: the host, or some VMs"),
    "snapshot": ("shortsnapshot", "take a consistent snapshot of VMs, and keep so many"),
    "snapshots": ("shortlist", "the sets of snapshots of a VM"),
    "restore": ("shortrestore", "bring a VM that is off back to a set: web01@daily-1"),
    "jobs": ("shortjobs", "the daemon's jobs; with --watch as they go on"),
}
DONE, FAILED, ONLY_CRASH = 0, 1, 3

OPTIONS = """\
  --socket PATH      the daemon's socket (else $VIRTCEPH_SOCKET, else /run/virtceph/virtcephd.sock)
  --timeout S        how long to wait for each answer (180)
  --json             the verbs' answers as JSON
  -h, --help         this help
"""


class Parser(CommandParser):
    """The options of one short form, and those that all have."""

    def __init__(self, usage: str, timeout_s: float = 180.0) -> None:
        super().__init__(usage)
        self.add_argument("-h", "--help", action="store_true")
        self.add_argument("--socket")
        self.add_argument("--json", action="store_true")
        self.add_argument("--timeout", type=float, default=timeout_s)


def run(contract: Contract, form: str, argv: list[str]) -> int:
    """Carry one out; `argv` is the command line without its word. Blocks. Raises UsageError."""
    module = importlib.import_module(f"virtceph.cli.{FORMS[form][0]}")
    try:
        return int(module.run(contract, argv))
    except ConnectionFailed as error:
        return complain(f"the daemon was not reached: {error}")
    except (ServerError, TimedOut, NoSuchJob) as error:
        return complain(f"{form}: {error}")


def complain(text: str) -> int:
    """Tell what failed, on stderr; the exit code for it."""
    if sys.stderr is not None:
        print(f"virtceph: {text}", file=sys.stderr)
    return FAILED


@contextmanager
def daemon(asked: argparse.Namespace) -> Iterator[Client]:
    """A connection to the daemon. Blocks. Raises ConnectionFailed."""
    with connect(asked.socket or socket_path(), timeout_s=asked.timeout) as client:
        yield client


def vm_id(client: Client, named: str) -> str:
    """The UUID of a VM that is named by it or by its name. Blocks. Raises ServerError."""
    return named if is_uuid(named) else vm_called(client, named)


def job(
    contract: Contract,
    asked: argparse.Namespace,
    verb: str,
    params: dict[str, Any],
    timeout_s: float,
) -> Any:
    """The result of the job that a verb starts; its progress is on the terminal meanwhile. Blocks. Raises as
    `calling.call_and_wait` does."""
    path = asked.socket or socket_path()
    return call_and_wait(contract.verbs[verb], params, path, timeout_s)


def style() -> Callable[[str], str]:
    """Emphasis, where there is a terminal that wants it."""
    return bold if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else plain


def show_json(answer: Any) -> None:
    """Print an answer as `virtceph` prints a verb's."""
    print(json.dumps(answer, indent=4, sort_keys=True))
