"""What a run produced, searched afterwards: for keys, and for what no daemon may tell."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.integration.sampled import forms


def files(folder: Path) -> Iterator[Path]:
    """All that the run left in files, but for those of clusters."""
    for root, folders, names in os.walk(folder):
        # The cluster keeps its users' keys: that is its job. The code is not of this run.
        folders[:] = [f for f in folders if not f.startswith("ceph") and f != "code"]
        for name in names:
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                yield path


def holding(folder: Path, keys: Iterable[bytes]) -> list[Path]:
    """The files in which one of the keys is, in one form or another."""
    wanted = [form for key in keys for form in forms(key)]
    return [path for path in files(folder) if any(f in path.read_bytes() for f in wanted)]


def replies_holding(replies: Iterable[str], keys: Iterable[bytes]) -> list[str]:
    """The replies in which one of the keys is."""
    wanted = [form for key in keys for form in forms(key)]
    return [reply for reply in replies if any(form in reply.encode() for form in wanted)]


def outside_contract(folder: Path) -> list[str]:
    """Lines of daemons' logs about an event that they did not tell, as its contract has no such one."""
    texts = [p.read_text(errors="replace") for p in folder.glob("*/log") if p.is_file()]
    return [line for text in texts for line in text.splitlines() if "event not told" in line]
