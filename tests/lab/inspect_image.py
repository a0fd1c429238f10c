"""What an ext4 image holds, read without mounting: was it frozen, is it sound, which records?"""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import rados
import rbd

from tests.lab.processes import plain_environment, run

CHUNK_BYTES = 4 << 20


@dataclass(frozen=True)
class FsReport:
    """An examined file system.

    A snapshot of a frozen guest is `clean`: its journal is empty. One of a running guest has
    `needs_recovery`; `fsck_clean` and `records` then tell of a copy whose journal was replayed.
    """

    clean: bool
    needs_recovery: bool
    fsck_clean: bool
    records: list[int]


def examine_image(ioctx: rados.Ioctx, image: str, snapshot: str | None, folder: Path) -> FsReport:
    """Examine an RBD image, or one of its snapshots, by way of a file in `folder`. Blocks."""
    with tempfile.TemporaryDirectory(prefix="examine-", dir=folder) as work:
        path = Path(work, "image")
        export_image(ioctx, image, snapshot, path)
        return examine_filesystem(path)


def export_image(ioctx: rados.Ioctx, image: str, snapshot: str | None, path: Path) -> None:
    """Write an RBD image, or one of its snapshots, to a new sparse file. Blocks."""
    with (
        rbd.Image(ioctx, image, snapshot=snapshot, read_only=True) as source,
        path.open("xb") as file,
    ):

        def copy(offset: int, length: int, exists: bool) -> None:
            if exists:
                file.seek(offset)
                file.write(source.read(offset, length))

        size_bytes = source.size()
        file.truncate(size_bytes)
        source.diff_iterate(0, size_bytes, None, copy)


def examine_filesystem(path: Path) -> FsReport:
    """Examine a file that holds an ext4 file system; the file stays as it is. Blocks.

    Raises:
        CommandFailed: it holds no ext4 at all.
    """
    head = _header(path)
    needs_recovery = "needs_recovery" in head["Filesystem features"].split()
    clean = head["Filesystem state"] == "clean" and not needs_recovery
    if not needs_recovery:
        return FsReport(clean, needs_recovery, _fsck_finds_nothing(path), _records(path))
    with tempfile.TemporaryDirectory(prefix="replay-", dir=path.parent) as work:
        copy = Path(work, "image")
        run(["cp", "--sparse=always", str(path), str(copy)])
        # Only the journal, as a mount would: a repair by fsck would hide what we look for.
        _fsck(copy, "-E", "journal_only", "-y")
        return FsReport(clean, needs_recovery, _fsck_finds_nothing(copy), _records(copy))


def _header(path: Path) -> dict[str, str]:
    rows = (line.partition(":") for line in run(["dumpe2fs", "-h", str(path)]).splitlines())
    return {key.strip(): value.strip() for key, _, value in rows}


def _fsck(path: Path, *options: str) -> int:
    argv = ["e2fsck", *options, str(path)]
    return subprocess.run(
        argv, capture_output=True, env=plain_environment(), check=False
    ).returncode


def _fsck_finds_nothing(path: Path) -> bool:
    return _fsck(path, "-f", "-n") == 0


def _records(path: Path) -> list[int]:
    # debugfs prints an error, and nothing else, if there is no log yet.
    lines = run(["debugfs", "-R", "cat /log", str(path)]).splitlines(keepends=True)
    return [int(line) for line in lines if line.endswith("\n") and line.strip().isdigit()]
