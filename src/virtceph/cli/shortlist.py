"""`virtceph snapshots`: the sets of snapshots of a VM."""

from __future__ import annotations

from virtceph.cli.human import render
from virtceph.cli.short import DONE, OPTIONS, Parser, daemon, show_json, style, vm_id
from virtceph.schema.spec import Contract

USAGE = "usage: virtceph snapshots VM [--json] [--socket PATH] [-h]"
HELP = f"""\
{USAGE}

The sets of snapshots of a VM, oldest first, as they are noted on its images, whichever host made them.

options:
{OPTIONS}
exit code: 0 done, 1 failed, 2 the command line is wrong
"""


def run(contract: Contract, argv: list[str]) -> int:
    """List them. Blocks. Raises UsageError, ServerError, ConnectionFailed, TimedOut."""
    parser = Parser(USAGE)
    parser.add_argument("vm", nargs="?")
    asked = parser.parse_intermixed_args(argv)
    if asked.help:
        print(HELP, end="")
        return DONE
    if asked.vm is None:
        parser.error("name a VM")
    verb = contract.verbs["VM.listConsistentSnapshots"]
    with daemon(asked) as client:
        found = client.request(verb.name, {"vmID": vm_id(client, asked.vm)})
    if asked.json:
        show_json(found)
    else:
        print(render(contract, verb.result, found, style()))
    return DONE
