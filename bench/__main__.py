"""`python -m bench [NAME…] [--json FILE]`: the table of ratios, on a lab of its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import data, disks, listing, memory, ping, rpc, secrets, startup, window
from bench.figures import Row
from bench.site import Site
from bench.table import machine, table
from tests.lab import packages
from tests.lab.libvirtd import quiet_errors

ENTRIES: dict[str, Callable[[Site], Iterator[Row]]] = {
    "ping": ping.measure,
    "rpc": rpc.measure,
    "startup": startup.measure,
    "secrets": secrets.measure,
    "window": window.measure,
    "disks": disks.measure,
    "data": data.measure,
    "listing": listing.measure,
    "memory": memory.measure,
}


def main() -> int:
    """Measure and print; 0 whether or not goals are met. Blocks, about 15 minutes for all."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"only these: {', '.join(ENTRIES)}"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures there")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in ENTRIES]:
        parser.error(f"no such entry: {', '.join(unknown)}; there are {', '.join(ENTRIES)}")
    if os.geteuid() != 0 or (missing := packages.missing()):
        needs = "root" if os.geteuid() != 0 else f"these packages: {' '.join(missing)}"
        print(f"the benchmarks need {needs}", file=sys.stderr)
        return 1
    quiet_errors()
    chosen = [name for name in ENTRIES if not arguments.names or name in arguments.names]
    measured, failed = _measure(chosen)
    head = machine()
    print(f"{head}\n{table(measured)}")
    if arguments.json:
        raw = {"machine": head, "rows": [row.raw() for row in measured]}
        arguments.json.write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n")
    return 1 if failed else 0


def _measure(names: list[str]) -> tuple[list[Row], list[str]]:
    """The rows of all entries that could be measured, and the names of the others."""
    measured: list[Row] = []
    failed: list[str] = []
    with Site() as site:
        for name in names:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            try:
                measured += ENTRIES[name](site)
            except Exception:
                # What the others measured in these minutes is worth printing all the same.
                traceback.print_exc()
                failed.append(name)
    return measured, failed


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        raise SystemExit("interrupted") from None
