"""`virtceph events`: what the daemon tells, as it happens, one line each."""

from __future__ import annotations

import json
import sys
from typing import Any

from virtceph.cli.arguments import CommandParser
from virtceph.cli.human import cell
from virtceph.cli.table import moment, safe
from virtceph.client import ConnectionFailed, socket_path
from virtceph.client.events import events
from virtceph.schema.spec import Contract

USAGE = (
    "usage: virtceph events [-h] [--socket PATH] [--since CURSOR|0] [--types NAME,…] [--json] "
    "[--no-follow]"
)
HELP = f"""\
{USAGE}

Prints what the daemon tells, as it happens, until it is interrupted. When the connection breaks it
connects again and goes on where it was; `events_lost` says where that could not be.

options:
  --since CURSOR  everything behind this one; 0 for all that the daemon keeps
  --types NAME,…  only these events (and events_lost); docs/events.md lists them
  --json          each event as a JSON object on a line of its own, with its cursor
  --no-follow     only what is there, then end
  --socket PATH   the daemon's socket (else $VIRTCEPH_SOCKET, else /run/virtceph/virtcephd.sock)

exit code: 0 done or interrupted, 1 there was no daemon to begin with, or it refused, 2 the command line
           is wrong
"""
_DONE, _FAILED = 0, 1


def run(contract: Contract, argv: list[str]) -> int:
    """Print events; `argv` is the command line without the word `events`. Blocks. Raises UsageError."""
    parser = CommandParser(USAGE)
    parser.add_argument("-h", "--help", action="store_true")
    parser.add_argument("--socket")
    parser.add_argument("--since")
    parser.add_argument("--types")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-follow", action="store_true")
    asked = parser.parse_args(argv)
    if asked.help:
        print(HELP, end="")
        return _DONE
    types = None if asked.types is None else asked.types.split(",")
    for name in types or ():
        if name not in contract.events:
            parser.error(f"there is no event {name!r}; there are {', '.join(contract.events)}")
    if asked.since is not None and not (asked.since.isascii() and asked.since.isprintable()):
        parser.error("--since: expected a cursor, or 0 for all that is kept")
    path = asked.socket or socket_path()
    try:
        for event in events(
            path, asked.since, types, follow=not asked.no_follow, on_gap=_Complaints()
        ):
            print(json.dumps(event) if asked.json else line(contract, event), flush=True)
    except ConnectionFailed as error:
        print(f"virtceph: Connection to {path} failed: {error}", file=sys.stderr)
        return _FAILED
    return _DONE


class _Complaints:
    """Says why there is no connection, once for each reason."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, error: ConnectionFailed) -> None:
        if str(error) != self._last:
            self._last = str(error)
            print(f"virtceph: {error}; connecting again", file=sys.stderr)


def line(contract: Contract, event: dict[str, Any]) -> str:
    """`2026-11-23 00:14:10  vm_frozen  vmId=… owner=unix:root expiresIn=19.8 s`."""
    name, params = str(event["event"]), dict(event["params"])
    # A daemon of another version may tell what is not in this contract.
    spec = contract.events.get(name)
    known = {param.name: param for param in spec.params} if spec is not None else {}
    shown = [
        f"{key}={cell(known[key], value) if key in known else safe(str(value))}"
        for key, value in params.items()
    ]
    return "  ".join([moment(event["time"]), f"{safe(name):<24}", " ".join(shown)]).rstrip()
