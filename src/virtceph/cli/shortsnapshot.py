"""`virtceph snapshot`: a consistent snapshot of VMs, one after the other, and how many are kept of them."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any

from virtceph.cli.short import (
    DONE,
    FAILED,
    ONLY_CRASH,
    OPTIONS,
    Parser,
    complain,
    daemon,
    job,
    show_json,
    vm_id,
)
from virtceph.cli.slots import NoSlot, slot
from virtceph.cli.table import duration, safe
from virtceph.client import NoSuchJob, ServerError, TimedOut
from virtceph.schema.spec import Contract

USAGE = (
    "usage: virtceph snapshot VM … | --all [--label LABEL | --name NAME] [--keep N] [--keep-daily N]\n"
    "                         [--keep-weekly N] [--keep-monthly N] [--freeze POLICY] [--allow-crash]\n"
    "                         [--skip-off] [--at-once N] [--json] [--socket PATH] [-h]"
)
HELP = f"""\
{USAGE}

Takes a consistent snapshot of all disks of each VM (VM.createConsistentSnapshot), one VM after the other;
then, where it is told how many to keep, removes older ones (VM.pruneConsistentSnapshots). A VM that fails
does not keep the others.

options:
  --all              every VM of this host that runs
  --label LABEL      what the name begins with: LABEL-20261124-030000, in UTC (snap)
  --name NAME        the name itself
  --keep N           of this VM's sets with this label, keep the last N; what is kept for a day or week counts
  --keep-daily N, --keep-weekly N, --keep-monthly N
                     the newest of each of so many days, weeks, months
                     Sets with other labels are left alone. Nothing is removed after a snapshot that failed,
                     or that is only crash consistent unless that is allowed
  --freeze POLICY    required (fail rather than take one of a guest that is not frozen), preferred (take it,
                     and say so), no; required, or with --allow-crash preferred
  --allow-crash      a snapshot that is only crash consistent is good enough
  --skip-off         a VM that is off is no failure, and is left out
  --at-once N        on this host at most N of those who say this at a time; the others wait
  --slot-dir DIR     where these find each other ($RUNTIME_DIRECTORY, else /run/virtceph-snapshot)
  --slot-wait S      how long to wait for one's turn (3600)
{OPTIONS}
exit code: 0 all done, 1 one failed, 2 the command line is wrong, 3 all done, but one is only crash consistent
"""
_POLICIES = ("required", "preferred", "no")
_KEEPS = {
    "keep": "keepLast",
    "keep_daily": "keepDaily",
    "keep_weekly": "keepWeekly",
    "keep_monthly": "keepMonthly",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# What the contract takes for a name; behind a label come `-20261124-030000`.
_LONGEST = {"name": 95, "label": 79}
# A freeze lasts 10 s at the most; what may take longer is waiting for other jobs.
_JOB_S = 600.0
# What the contract takes: told before the snapshot is there, not after it.
_MOST_KEPT = 10000


def run(contract: Contract, argv: list[str]) -> int:
    """Take them. Blocks. Raises UsageError, ConnectionFailed."""
    parser = Parser(USAGE)
    asked = _parse(parser, argv)
    if asked.help:
        print(HELP, end="")
        return DONE
    _check(parser, asked)
    with contextlib.ExitStack() as held:
        if asked.at_once is not None:
            try:
                held.enter_context(slot(Path(asked.slot_dir), asked.at_once, asked.slot_wait))
            except NoSlot as error:
                return complain(f"snapshot: no turn: {error}")
        return _Round(contract, asked).run()


def _parse(parser: Parser, argv: list[str]) -> argparse.Namespace:
    parser.add_argument("vms", nargs="*")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--label")
    parser.add_argument("--name")
    for keep in _KEEPS:
        parser.add_argument(f"--{keep.replace('_', '-')}", type=int)
    parser.add_argument("--freeze", choices=_POLICIES)
    parser.add_argument("--allow-crash", action="store_true")
    parser.add_argument("--skip-off", action="store_true")
    parser.add_argument("--at-once", type=int)
    folder = os.environ.get("RUNTIME_DIRECTORY") or "/run/virtceph-snapshot"
    parser.add_argument("--slot-dir", default=folder)
    parser.add_argument("--slot-wait", type=float, default=3600.0)
    return parser.parse_intermixed_args(argv)


def _check(parser: Parser, asked: argparse.Namespace) -> None:
    if bool(asked.vms) is asked.all:
        both = ", not both" if asked.all else ""
        parser.error(f"name VMs, or say --all{both}")
    if asked.name is not None and (asked.label is not None or _keeping(asked)):
        parser.error("--name goes with neither --label nor --keep: what is kept goes by the label")
    for option, longest in _LONGEST.items():
        text = getattr(asked, option)
        if text is not None and (_NAME.fullmatch(text) is None or len(text) > longest):
            expected = f"letters, digits, `.`, `_` and `-`, at most {longest} characters"
            parser.error(f"--{option}: expected {expected}")
    for option in _KEEPS:
        count = getattr(asked, option)
        if count is not None and not 0 < count <= _MOST_KEPT:
            parser.error(f"--{option.replace('_', '-')}: expected 1 to {_MOST_KEPT}")
    if asked.at_once is not None and not 0 < asked.at_once <= 100:
        parser.error("--at-once: expected 1 to 100")


def _keeping(asked: argparse.Namespace) -> dict[str, int]:
    found = {wire: getattr(asked, option) for option, wire in _KEEPS.items()}
    return {wire: count for wire, count in found.items() if count is not None}


class _Round:
    """One command's snapshots, of one moment's name."""

    def __init__(self, contract: Contract, asked: argparse.Namespace) -> None:
        self._contract, self._asked = contract, asked
        self._label = asked.label or "snap"
        # The daemon knows a label's sets by a moment written like this.
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._name = asked.name or f"{self._label}-{stamp}"
        self._allows_crash = asked.allow_crash or asked.freeze == "no"
        self._freeze = asked.freeze or ("preferred" if asked.allow_crash else "required")
        self._answers: list[dict[str, Any]] = []

    def run(self) -> int:
        with daemon(self._asked) as client:
            states = {vm["vmId"]: vm for vm in client.call("Host.getVMList")}
            names = [vm["vmId"] for vm in states.values() if vm["status"] == "Up"]
            codes, done = set(), set()
            for named in names if self._asked.all else self._asked.vms:
                try:
                    vm = states[vm_id(client, named).lower()]
                except KeyError:
                    codes.add(complain(f"{named}: no such VM"))
                except ServerError as error:
                    codes.add(complain(f"{named}: {error}"))
                else:
                    if vm["vmId"] not in done:  # named twice, perhaps once by its id
                        codes.add(self._one(vm))
                    done.add(vm["vmId"])
        if self._asked.json:
            show_json(self._answers)
        return FAILED if FAILED in codes else max(codes, default=DONE)

    def _one(self, vm: dict[str, Any]) -> int:
        name = safe(vm["name"])
        if vm["status"] == "Down" and self._asked.skip_off:
            self._say(f"{name}: it is off, and left out")
            return DONE
        params = {"vmID": vm["vmId"], "snapshotName": self._name, "freeze": self._freeze}
        verb = "VM.createConsistentSnapshot"
        try:
            made = job(self._contract, self._asked, verb, params, _JOB_S)
            good = made["consistency"] == "filesystem"
            self._say(_told(name, made))
            self._answers.append({"vmID": vm["vmId"], "set": made})
            if not good and not self._allows_crash:
                return ONLY_CRASH
            self._prune(vm)
        except (ServerError, TimedOut, NoSuchJob) as error:
            self._answers.append({"vmID": vm["vmId"], "error": str(error)})
            return complain(f"{name}: {error}")
        return DONE

    def _prune(self, vm: dict[str, Any]) -> None:
        keeping = _keeping(self._asked)
        if not keeping:
            return
        params = {"vmID": vm["vmId"], "label": self._label, **keeping}
        with daemon(self._asked) as client:
            pruned = client.request("VM.pruneConsistentSnapshots", params)
        self._answers[-1]["pruned"] = pruned
        if pruned["deleted"]:
            gone = safe(", ".join(pruned["deleted"]))
            self._say(f"{safe(vm['name'])}: {len(pruned['kept'])} kept, removed {gone}")

    def _say(self, text: str) -> None:
        if not self._asked.json:
            print(text, flush=True)


def _told(name: str, made: dict[str, Any]) -> str:
    frozen = made.get("frozenFor")
    took = "" if frozen is None else f", frozen for {duration(frozen)}"
    what = f"{name}@{safe(made['snapshotName'])}: {made['consistency']}"
    return f"{what} ({safe(made['reason'])}), {len(made['disks'])} disks{took}"
