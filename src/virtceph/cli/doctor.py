"""`virtceph doctor`: what is well and what is not on this host. Needs no daemon, and changes nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from virtceph.cli.arguments import CommandParser
from virtceph.cli.table import bold, duration, plain, safe, table

if TYPE_CHECKING:
    from virtceph.doctor.catalogue import Finding, Severity
    from virtceph.doctor.looking import Where
    from virtceph.doctor.report import Report, UserRow

USAGE = (
    "usage: virtceph doctor [-h] [--json | --suggest] [--quiet] [--connect URI] [--ceph-conf FILE]\n"
    "                       [--libvirt-dir DIR] [--socket PATH]"
)
HELP = f"""\
{USAGE}

Looks at libvirt, the VMs, their guests' agents, the keys, the cephx users, the clusters and their
monitors, and says what is well, what is not, and what to do. It needs no configuration and no daemon,
and changes nothing. Root sees most: only root reads keys, and only to ask the clusters as their users.

options:
  --json             all of it as JSON (docs/doctor.md describes it)
  --suggest          the tables for virtcephd.toml that would serve this host: its keys and pools
  --quiet            only warnings and what is critical
  --connect URI      the libvirt to look at (else $LIBVIRT_DEFAULT_URI, else qemu:///system)
  --ceph-conf FILE   where an administrator's keyring is named (else $CEPH_CONF, else
                     /etc/ceph/ceph.conf)
  --libvirt-dir DIR  where that libvirt keeps its secrets/ (/etc/libvirt)
  --socket PATH      where virtcephd should answer

exit code: 0 nothing worse than a note, 1 a warning, 2 something critical, 3 the command line is wrong;
with --suggest 0, or 1 where libvirt could not be asked
"""
# As monitoring plug-ins do; so a wrong command line, 2 elsewhere, is 3 here.
_USAGE_WRONG = 3
_MARKS = {"critical": "✗", "warning": "!", "note": "·", "ok": "✓"}
_COLOURS = {"critical": "31", "warning": "33", "note": "36", "ok": "32"}


def run(argv: list[str]) -> int:
    """Look and tell; `argv` is the command line without the word `doctor`. Blocks. Raises UsageError."""
    parser = CommandParser(USAGE, _USAGE_WRONG)
    parser.add_argument("-h", "--help", action="store_true")
    printing = parser.add_mutually_exclusive_group()
    printing.add_argument("--json", action="store_true")
    printing.add_argument("--suggest", action="store_true")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("--connect")
    parser.add_argument("--ceph-conf")
    parser.add_argument("--libvirt-dir", default="/etc/libvirt")
    parser.add_argument("--socket")
    asked = parser.parse_args(argv)
    if asked.help:
        print(HELP, end="")
        return 0
    # libvirt and librbd take a while to load, and no other command needs them.
    from virtceph.doctor.looking import look
    from virtceph.doctor.report import report
    from virtceph.doctor.suggest import suggestion

    host = look(_where(asked))
    found = report(host)
    if asked.json:
        print(json.dumps(found.as_json(), indent=4))
    elif asked.suggest:
        print(suggestion(host), end="")
        return _done_if(host.libvirt_failure is None and host.libvirt_refused is None)
    else:
        print("\n".join(shown(found, quiet=asked.quiet, colours=_colours())))
    _leave_behind(exit_code(found.worst))
    return exit_code(found.worst)


def _leave_behind(code: int) -> None:
    """End at once where a thread is left in librados or libvirt: what these clear up at the end of a process,
    such a thread still uses."""
    from virtceph.doctor.bounded import left_behind

    sys.stdout.flush()
    if left_behind():
        os._exit(code)


def _done_if(well: bool) -> int:
    if not well:
        print("virtceph: libvirt could not be asked; see virtceph doctor", file=sys.stderr)
    return 0 if well else 1


def exit_code(worst: Severity) -> int:
    """0 for ok and note, 1 for a warning, 2 for critical."""
    return max(0, worst - 1)


def _where(asked: argparse.Namespace) -> Where:
    from virtceph.client import socket_path
    from virtceph.doctor.looking import Where
    from virtceph.process import forbid_core_dumps, forget_ceph_environment

    # The keys of this host's disks are in this process for a moment.
    forbid_core_dumps()
    conf = asked.ceph_conf or os.environ.get("CEPH_CONF") or "/etc/ceph/ceph.conf"
    forget_ceph_environment()
    return Where(
        libvirt_uri(asked.connect),
        Path(conf),
        Path(asked.libvirt_dir),
        asked.socket or socket_path(),
    )


def libvirt_uri(asked: str | None) -> str:
    """The URI that was asked for. libvirt itself would choose another one for those who are not root."""
    return asked or os.environ.get("LIBVIRT_DEFAULT_URI") or "qemu:///system"


def _colours() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def shown(found: Report, *, quiet: bool, colours: bool) -> list[str]:
    """The report as lines for a terminal."""
    style = bold if colours else plain
    lines = ["  ".join(f"{name} {safe(text)}" for name, text in found.host.items()), ""]
    for make in (_vms, _users, _clusters, _monitors):
        rows = make(found, style)
        lines += [*rows, ""] if rows else []
    findings = [f for f in found.findings if not quiet or exit_code(f.severity)]
    for finding in findings:
        lines += _finding(finding, colours=colours)
    counts = [f"{sum(f.severity.word == word for f in found.findings)} {word}" for word in _MARKS]
    return [*lines, *([""] if findings else []), ", ".join(counts)]


def _finding(finding: Finding, *, colours: bool) -> list[str]:
    word = finding.severity.word
    head = f"{_MARKS[word]} {word:<8}"
    if colours:
        head = f"\x1b[{_COLOURS[word]}m{head}\x1b[0m"
    lines = [f"{head}  {safe(finding.subject)}: {safe(finding.sentence)}"]
    return [*lines, f"            → {safe(finding.advice)}"] if finding.advice else lines


def _vms(found: Report, style: Callable[[str], str]) -> list[str]:
    rows = [
        [
            safe(vm.name),
            vm.status,
            ", ".join(f"{count} {kind}" for kind, count in vm.disks.items()) or "none",
            safe(", ".join(vm.pools)) or "-",
            ", ".join(vm.keys) or "-",
            vm.agent,
            f"{vm.snapshot}: {safe(vm.reason)}",
        ]
        for vm in found.vms
    ]
    headers = ["vm", "state", "disks", "pool", "key", "agent", "consistent snapshot"]
    return table(headers, rows, [False] * len(headers), style) if rows else []


def _users(found: Report, style: Callable[[str], str]) -> list[str]:
    rows = [[safe(user.user), safe(user.pool) or "-", *_caps(user)] for user in found.users]
    headers = ["user", "pool", "read", "write", "blocklist", ""]
    return table(headers, rows, [False] * len(headers), style) if rows else []


def _caps(user: UserRow) -> list[str]:
    words = {True: "yes", False: "no", None: "unknown"}
    caps = (user.read, user.write, user.blocklist)
    return [*(words[cap] for cap in caps), safe(user.reason or "")]


def _latency(value_s: float | None) -> str:
    if value_s is None:
        return "-"
    return "< 1 ms" if value_s < 0.001 else duration(value_s)


def _monitors(found: Report, style: Callable[[str], str]) -> list[str]:
    rows = [
        [
            safe(monitor.address),
            _latency(monitor.latency),
            {True: "yes", False: "no", None: "unknown"}[monitor.member],
            safe(monitor.reason or ""),
        ]
        for monitor in found.monitors
    ]
    headers = ["monitor", "greets within", "of the cluster", ""]
    return table(headers, rows, [False] * len(headers), style) if rows else []


def _clusters(found: Report, style: Callable[[str], str]) -> list[str]:
    rows = [
        [
            cluster.fsid,
            cluster.health,
            ", ".join(cluster.versions),
            ", ".join(cluster.monitors),
            _latency(cluster.latency),
            "unknown" if cluster.proposeInterval is None else duration(cluster.proposeInterval),
        ]
        for cluster in found.clusters
    ]
    headers = ["cluster", "health", "ceph", "monitors", "latency", "paxos_propose_interval"]
    return table(headers, rows, [False] * len(headers), style) if rows else []
