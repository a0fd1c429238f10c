"""Where a key could have been left: files, argument lists and environments."""

import base64
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.processes import ProcessRecord


@dataclass
class Search:
    """What was looked through, and where the key turned up."""

    files: int = 0
    processes: int = 0
    found: list[str] = field(default_factory=list)


def search(key: str, folders: Iterable[Path], processes: Iterable[ProcessRecord]) -> Search:
    """Look for a base64 key, as text and as bytes, in files and in processes' arguments. Blocks."""
    needles = (key.encode(), base64.b64decode(key))
    result = Search()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_symlink() or not path.is_file():
                continue
            result.files += 1
            if _holds(path, needles):
                result.found.append(str(path))
    for record in processes:
        result.processes += 1
        for name in ("cmdline", "environ"):
            if _holds(Path(f"/proc/{record.pid}/{name}"), needles):
                result.found.append(f"{name} of {record.name}")
    return result


def _holds(path: Path, needles: tuple[bytes, ...]) -> bool:
    # A log may be rotated, and a process end, while we look.
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        data = path.read_bytes()
        return any(needle in data for needle in needles)
    return False
