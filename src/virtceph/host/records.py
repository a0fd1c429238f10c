"""Records of open leases: on disk before the guest is asked, so that no crash leaves a guest frozen
that nobody knows of.

One small JSON file for each VM, in a folder that outlives the daemon and not a reboot. Deadlines are on
CLOCK_BOOTTIME, which a change of the wall clock does not move and a suspended host does not stop.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from virtceph.log import facts

log = logging.getLogger(__name__)

# Their folder in the runtime directory.
FOLDER = "leases"
_SUFFIX = ".json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boottime_s() -> float:
    """Seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class LeaseRecord:
    """What is needed to thaw a guest in time, and to tell how its freeze went.

    `filesystems` is 0 until the guest said that it is frozen. `mounted` are mount points and the disks
    they lie on; None when the guest did not tell.
    """

    vm_id: UUID
    window_id: UUID
    owner: str
    since_s: float
    deadline_boottime_s: float
    filesystems: int = 0
    mounted: list[tuple[str, list[str]]] | None = None

    def left_s(self) -> float:
        """Seconds until the deadline; negative when it is past."""
        return self.deadline_boottime_s - boottime_s()


class LeaseRecords:
    """The records in one folder. Every method blocks on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot_id = _BOOT_ID.read_text().strip()

    def put(self, record: LeaseRecord) -> None:
        """Write a record, whole or not at all, and have it on the disk. Raises OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._path(record.vm_id)
        temporary = path.with_suffix(".new")
        body = {**asdict(record), "boot_id": self._boot_id}
        try:
            with temporary.open("w") as file:
                json.dump(body, file, default=str)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        self._sync_folder()

    def remove(self, vm_id: UUID) -> None:
        """Remove a VM's record, if there is one. A record that cannot be removed is logged: it only
        means that the guest is thawed once more."""
        try:
            self._path(vm_id).unlink(missing_ok=True)
        except OSError as error:
            log.error("record not removed %s", facts(vm=vm_id, reason=error.strerror))

    def load(self) -> list[LeaseRecord]:
        """The records of this boot; those of another are removed, and what is no record is logged."""
        found = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            record = self._read(path)
            if record is not None:
                found.append(record)
        return found

    def _read(self, path: Path) -> LeaseRecord | None:
        try:
            raw = json.loads(path.read_text())
            if raw.pop("boot_id") != self._boot_id:
                path.unlink()  # its guest ended with that boot
                return None
            return LeaseRecord(
                **{**raw, "vm_id": UUID(raw["vm_id"]), "window_id": UUID(raw["window_id"])}
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("no lease record %s", facts(path=path.name, reason=error))
            return None

    def _path(self, vm_id: UUID) -> Path:
        return self._folder / f"{vm_id}{_SUFFIX}"

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
