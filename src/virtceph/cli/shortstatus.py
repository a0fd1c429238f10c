"""`virtceph status`: the host, its storage domains, its VMs and their last sets; or all about some VMs."""

from __future__ import annotations

import time
from typing import Any

from virtceph.cli.human import render
from virtceph.cli.short import DONE, FAILED, OPTIONS, Parser, daemon, show_json, style, vm_id
from virtceph.cli.table import duration, safe, table
from virtceph.client import Client, ServerError
from virtceph.schema.spec import Contract, FieldSpec

USAGE = "usage: virtceph status [VM …] [--json] [--socket PATH] [-h]"
HELP = f"""\
{USAGE}

Without a VM: the daemon and its versions, the storage domains, how many jobs are under way, and a line on
each VM: its state, its guest agent, whether its disks can be snapshotted, and its last set of snapshots.
With VMs: all about each, also whether its guest is frozen, which its agent is asked.

options:
{OPTIONS}
exit code: 0 done, 1 something could not be told, 2 the command line is wrong
"""
# The daemon takes more at once; its lanes would have the last ones wait long.
_AT_ONCE = 10
_UNDER_WAY = ("pending", "running", "aborting")


def run(contract: Contract, argv: list[str]) -> int:
    """Tell how things stand. Blocks. Raises UsageError, ServerError, ConnectionFailed, TimedOut."""
    parser = Parser(USAGE)
    parser.add_argument("vms", nargs="*")
    asked = parser.parse_intermixed_args(argv)
    if asked.help:
        print(HELP, end="")
        return DONE
    with daemon(asked) as client:
        found = _vms(client, asked.vms) if asked.vms else _host(client)
    if asked.json:
        show_json(found)
    else:
        lines = _vm_lines(contract, found) if asked.vms else _host_lines(found)
        print("\n".join(lines))
    return FAILED if _failures(found) else DONE


def _host(client: Client) -> dict[str, Any]:
    capabilities = client.call("Host.getCapabilities")
    vms = sorted(client.call("Host.getVMList"), key=lambda vm: vm["name"])
    jobs = client.call("Host.getJobs")
    for begin in range(0, len(vms), _AT_ONCE):
        some = vms[begin : begin + _AT_ONCE]
        calls = [
            (verb, {"vmID": vm["vmId"]})
            for vm in some
            for verb in ("VM.getInfo", "VM.listConsistentSnapshots")
        ]
        answers = client.batch(calls)
        for vm, info, sets in zip(some, answers[::2], answers[1::2], strict=True):
            vm["info"] = _or_error(info)
            last = sets[-1:] if isinstance(sets, list) else _or_error(sets)
            vm["lastSet"] = last[0] if isinstance(last, list) and last else last or None
    return {
        "host": {name: capabilities[name] for name in ("hostname", "software", "version")},
        "packages": {name: p["version"] for name, p in capabilities["packages2"].items()},
        "storageDomains": client.call("StorageDomain.list"),
        "vms": vms,
        "jobsUnderWay": sum(job["status"] in _UNDER_WAY for job in jobs.values()),
    }


def _vms(client: Client, named: list[str]) -> dict[str, Any]:
    found = {}
    for name in named:
        ident = vm_id(client, name)
        verbs = ("VM.getInfo", "VM.getFreezeStatus", "VM.listConsistentSnapshots")
        info, freeze, sets = client.batch([(verb, {"vmID": ident}) for verb in verbs])
        if isinstance(freeze, ServerError) and freeze.name == "VMDown":
            freeze = None
        answers = {"info": info, "freeze": freeze, "snapshots": sets}
        found[name] = {part: _or_error(answer) for part, answer in answers.items()}
    return {"vms": found}


def _or_error(answer: Any) -> Any:
    """An answer for JSON: of an error its code and message."""
    if not isinstance(answer, ServerError):
        return answer
    return {"error": {"code": answer.code, "message": answer.message}}


def _failures(found: Any) -> bool:
    if isinstance(found, dict):
        return set(found) == {"error"} or any(map(_failures, found.values()))
    return isinstance(found, list) and any(map(_failures, found))


def _error_of(answer: Any) -> str | None:
    failed = isinstance(answer, dict) and set(answer) == {"error"}
    return safe(answer["error"]["message"]) if failed else None


def _host_lines(found: dict[str, Any]) -> list[str]:
    host, packages = found["host"], found["packages"]
    versions = ", ".join(f"{safe(name)} {safe(text)}" for name, text in sorted(packages.items()))
    lines = [
        f"{safe(host['software'])} {safe(host['version'])} on {safe(host['hostname'])} ({versions})"
    ]
    lines.append(f"jobs under way: {found['jobsUnderWay']}")
    domains = [
        [safe(domain.get("name") or "-"), domain["storageDomainID"], safe(domain["pool"])]
        for domain in found["storageDomains"]
    ]
    shown = (
        table(["storage domain", "id", "pool"], domains, [False] * 3, style()) if domains else []
    )
    lines += ["", *(shown or ["no storage domain is connected"]), ""]
    rows = [_row(vm) for vm in found["vms"]]
    headers = ["vm", "state", "agent", "disks", "last set", "age", "consistency"]
    right = [False] * 5 + [True, False]
    return [*lines, *(table(headers, rows, right, style()) if rows else ["no VMs"])]


def _row(vm: dict[str, Any]) -> list[str]:
    info, last = vm["info"], vm["lastSet"]
    disks = info.get("disks", [])
    ready = sum(bool(disk["snapshotReady"]) for disk in disks)
    row = [
        safe(vm["name"]),
        safe(vm["status"]),
        safe(info.get("agent", "-")),
        f"{ready} of {len(disks)} ready" if disks else "-",
    ]
    if last is None:
        return [*row, "none", "-", "-"]
    if (failed := _error_of(last)) is not None:
        return [*row, failed, "-", "-"]
    age = duration(max(0.0, time.time() - last["created"]))
    complete = "" if last["complete"] else ", not complete"
    return [*row, safe(last["snapshotName"]), age, f"{last['consistency']}{complete}"]


def _vm_lines(contract: Contract, found: dict[str, Any]) -> list[str]:
    kinds = {"info": "VMInfo", "freeze": "FreezeStatus", "snapshots": "[SnapshotSet]"}
    lines: list[str] = []
    for answers in found["vms"].values():
        lines += [""] if lines else []
        for part, kind in kinds.items():
            answer = answers[part]
            if answer is None:
                continue
            lines += [] if part == "info" else [""]
            lines += [style()("snapshots:")] if part == "snapshots" else []
            failed = _error_of(answer)
            lines.append(failed or render(contract, FieldSpec(part, kind), answer, style()))
    return lines
