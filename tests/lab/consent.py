"""`python3 -m tests.lab.consent`: what the demo will install and start, and a question where one is due.

Stdlib only: it runs before the virtual environment exists.
"""

import os
import sys
import textwrap
from pathlib import Path

from tests.lab import packages, user
from tests.lab.state import DEFAULT_CACHE, PROJECT, STATE_PARENT

GO, REFUSED = 0, 1
WIDTH = 96


def main() -> int:
    """Print what will happen; 0 to go on, 1 not to. Blocks while it asks."""
    if os.geteuid() != 0:
        print("the demo needs root: sudo make demo", file=sys.stderr)
        return REFUSED
    if packages.missing() == ["dpkg"]:
        print("the demo needs Debian 12: there is no dpkg-query here", file=sys.stderr)
        return REFUSED
    print(announcement(packages.missing()), flush=True)
    found = in_use(Path("/"))
    if not found or os.environ.get("ASSUME_YES") == "1":
        return GO
    return _ask(found)


def announcement(missing: list[str]) -> str:
    """What will be installed, kept and started. Does not block."""
    cache = os.environ.get("VIRTCEPH_LAB_CACHE", DEFAULT_CACHE)
    rows = [
        ("Debian", _debian(missing)),
        ("PyPI", f"what pyproject.toml names, into {PROJECT / '.venv'}"),
        ("user", f"system user and group `{user.NAME}`, which stay"),
        ("cache", f"a guest's kernel and libvirt's QEMU capabilities in {cache}, which stay"),
        (
            "starts",
            "one Ceph node, a libvirtd and the daemon, each of its own, and a small VM; on loopback"
            f" only, in a new folder under {STATE_PARENT}. All of it is ended again.",
        ),
    ]
    lines = ["What `make demo` does to this machine:"]
    for label, text in rows:
        first = f"  {label:<8}"
        lines.append(
            textwrap.fill(
                text,
                WIDTH,
                initial_indent=first,
                subsequent_indent=" " * 10,
                break_on_hyphens=False,
            )
        )
    return "\n".join(lines)


def _debian(missing: list[str]) -> str:
    if not missing:
        return "no package: all that are needed are installed"
    return f"{', '.join(missing)}, which may start services as Debian's packages do"


def in_use(root: Path) -> list[str]:
    """Why this may be a machine in use: its libvirt domains, its ceph.conf. Does not block."""
    folders = [root / "etc/libvirt/qemu", root / "run/libvirt/qemu"]
    domains = sorted({path.stem for folder in folders for path in folder.glob("*.xml")})
    found = []
    if domains:
        named = ", ".join(domains[:3]) + (", …" if len(domains) > 3 else "")
        noun = "domain" if len(domains) == 1 else "domains"
        found.append(f"has {len(domains)} libvirt {noun} ({named})")
    if (root / "etc/ceph/ceph.conf").exists():
        found.append("has an /etc/ceph/ceph.conf")
    return found


def _ask(found: list[str]) -> int:
    seems = f"this machine {' and '.join(found)}"
    if not sys.stdin.isatty():
        print(f"refused: {seems}; ASSUME_YES=1 goes on all the same", file=sys.stderr)
        return REFUSED
    print(f"NB: {seems}. None of that is touched.")
    try:
        answer = input("Go on? [y/N] ")
    except (EOFError, KeyboardInterrupt):
        answer = ""
        print()
    return GO if answer.strip().lower() in ("y", "yes") else REFUSED


if __name__ == "__main__":
    raise SystemExit(main())
