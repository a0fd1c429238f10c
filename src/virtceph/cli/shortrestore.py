"""`virtceph restore`: a VM that is off goes back to a set; what is there now is kept as a set first."""

from __future__ import annotations

import argparse
import re
import time
from typing import Any

from virtceph.cli.asking import confirmed
from virtceph.cli.short import (
    DONE,
    FAILED,
    OPTIONS,
    Parser,
    complain,
    daemon,
    job,
    show_json,
    vm_id,
)
from virtceph.cli.table import duration, moment, safe
from virtceph.client import Client
from virtceph.schema.spec import Contract

USAGE = (
    "usage: virtceph restore VM@NAME [--yes] [--dry-run] [--no-safety] [--without-memory]\n"
    "                        [--timeout S] [--json] [--socket PATH] [-h]\n"
    "       virtceph restore VM@NAME --clones PREFIX […]"
)
# A rollback takes as long as the images are large.
OPTIONS_HERE = OPTIONS.replace("each answer (180)", "its end (86400)")
HELP = f"""\
{USAGE}

Rolls every volume of a set of snapshots back (VM.restoreConsistentSnapshot): the VM has to be off. It says
first what cannot be undone and what it is about to do, and asks. What the volumes hold now is kept as a set
of its own before, before-restore-20261124-030000, by which they can be brought back.

options:
  --yes              do not ask
  --dry-run          say what it would do, and do nothing
  --no-safety        do not take the set before-restore-… first: what was written since is gone for good
  --clones PREFIX    make clones called PREFIX and the image's name, and leave the volumes as they are; the VM
                     may run, and nothing is asked
  --without-memory   of a set that has memory: do not let the VM go on from it
{OPTIONS_HERE}
exit code: 0 done, 1 refused or failed (what is left is said), 2 the command line is wrong
"""
_JOB_S, _RESTORE_S = 600.0, 86400.0
# As the contract has it: told before the plan is shown.
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,94}")
_PREFIX_EXPECTED = "expected letters, digits, `.`, `_` and `-`, at most 95 characters"


def run(contract: Contract, argv: list[str]) -> int:
    """Restore one set. Blocks. Raises UsageError, ServerError, ConnectionFailed, TimedOut, NoSuchJob."""
    parser = Parser(USAGE, _RESTORE_S)
    parser.add_argument("what", nargs="?")
    for option in ("--yes", "--dry-run", "--no-safety", "--without-memory"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("--clones")
    asked = parser.parse_intermixed_args(argv)
    if asked.help:
        print(HELP, end="")
        return DONE
    vm, _, name = (asked.what or "").rpartition("@")
    if not vm or not name:
        parser.error("name a VM and a set, as in web01@daily-20261124-030000")
    if asked.clones is not None and _PREFIX.fullmatch(asked.clones) is None:
        parser.error(f"--clones: {_PREFIX_EXPECTED}")
    with daemon(asked) as client:
        restore = _Restore(client, vm, name, asked)
    if (refusal := restore.refusal()) is not None:
        return complain(f"restore: {refusal}")
    return restore.run(contract)


class _Restore:
    """What is about to be done. Made by asking; blocks. Raises ServerError."""

    def __init__(self, client: Client, vm: str, name: str, asked: argparse.Namespace) -> None:
        self._name, self._asked = name, asked
        self._vm_id = vm_id(client, vm)
        self._info = client.request("VM.getInfo", {"vmID": self._vm_id})
        self._sets = client.request("VM.listConsistentSnapshots", {"vmID": self._vm_id})
        found = [one for one in self._sets if one["snapshotName"] == name]
        self._set: dict[str, Any] | None = found[-1] if found else None
        stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        self._safety = f"before-restore-{stamp}"

    def refusal(self) -> str | None:
        """Why it will not be done; None: it will."""
        vm = safe(self._info["name"])
        if self._set is None:
            known = ", ".join(safe(one["snapshotName"]) for one in self._sets) or "none"
            return f"{vm} has no set {safe(self._name)}; it has {known}"
        if not self._set["complete"]:
            gone = "; ".join(f"{one['disk']}: {one['reason']}" for one in self._set["missing"])
            return f"{safe(self._name)} is not complete: {safe(gone)}"
        if self._asked.clones is not None:
            return None
        if self._info["state"] != "Down":
            state = safe(self._info["state"])
            return (
                f"{vm} is {state}, and a running VM is not rolled back: virsh shutdown {vm} first"
            )
        files = [disk["disk"] for disk in self._set["disks"] if "path" in disk]
        if files:
            return f"{safe(', '.join(files))} of the set is a file, and cannot be rolled back"
        return None

    def run(self, contract: Contract) -> int:
        assert self._set is not None
        if not self._asked.json or not self._asked.yes:
            print("\n".join(self._plan(self._set)))
        if self._asked.dry_run:
            return DONE
        rolls_back = self._asked.clones is None
        if rolls_back and not self._asked.yes and not confirmed("go on?"):
            print("nothing was changed")
            return FAILED
        if rolls_back and not self._asked.no_safety:
            params = {"vmID": self._vm_id, "snapshotName": self._safety, "freeze": "no"}
            params["description"] = f"before {self._name} was restored"
            # What fails here is told by its error, and nothing was rolled back.
            job(contract, self._asked, "VM.createConsistentSnapshot", params, _JOB_S)
        params = {"vmID": self._vm_id, "snapshotName": self._name, **self._how()}
        verb = "VM.restoreConsistentSnapshot"
        try:
            result = job(contract, self._asked, verb, params, self._asked.timeout)
        except BaseException:
            if rolls_back:
                self._warn()
            raise
        if self._asked.json:
            show_json(result)
        else:
            print(f"{safe(self._info['name'])}: {self._done(result)}")
        return DONE

    def _how(self) -> dict[str, Any]:
        if self._asked.clones is not None:
            return {"into": "clones", "clonePrefix": self._asked.clones}
        return {"withMemory": False} if self._asked.without_memory else {}

    def _plan(self, one: dict[str, Any]) -> list[str]:
        age = duration(max(0.0, time.time() - one["created"]))
        head = f"{safe(self._info['name'])}@{safe(self._name)}: made {moment(one['created'])}, {age} ago"
        about = f"{one['consistency']} ({safe(one['reason'])})"
        volumes = [f"  {disk['disk']}  {_path(disk)}" for disk in one["disks"]]
        if self._asked.clones is not None:
            return [f"{head}, {about}; clones {safe(self._asked.clones)}… of:", *volumes]
        lines = [self._loss(), "", f"{head}, {about}; rolled back are:", *volumes]
        if one.get("memoryPath") and not self._asked.without_memory:
            lines.append(f"then the VM goes on from its memory, {safe(one['memoryPath'])}: it runs")
        if not self._asked.no_safety:
            lines.append(f"before that, the set {self._safety} is made of what is there now")
        return lines

    def _loss(self) -> str:
        what = "CANNOT BE UNDONE: what was written to these volumes since is lost"
        return what if self._asked.no_safety else f"{what}, but for the set {self._safety}"

    def _warn(self) -> None:
        complain(
            "restore: it did not end. Volumes may be partly old and partly new: do not start the VM, "
            f"and repeat the command until it succeeds, with --no-safety{self._kept()}"
        )

    def _kept(self) -> str:
        return "" if self._asked.no_safety else f": the set {self._safety} is there"

    def _done(self, result: dict[str, Any]) -> str:
        volumes = ", ".join(safe(disk["volumeName"]) for disk in result["disks"])
        if self._asked.clones is not None:
            return f"made {volumes}"
        back = "" if self._asked.no_safety else f"; back again: virtceph restore {self._back()}"
        return f"rolled back {volumes}{back}"

    def _back(self) -> str:
        return f"{safe(self._info['name'])}@{self._safety}"


def _path(disk: dict[str, Any]) -> str:
    parts = (disk.get("pool"), disk.get("namespace"), disk.get("volumeName") or disk.get("path"))
    return safe("/".join(part for part in parts if part))
