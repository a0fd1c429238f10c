"""Records of open leases: on disk before the guest is asked, so that no crash leaves a guest frozen
that nobody knows of.

One small JSON file for each VM, in a folder that outlives the daemon and not a reboot. Deadlines are on
CLOCK_BOOTTIME, which a change of the wall clock does not move and a suspended host does not stop.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from virtceph.files import write_whole
from virtceph.log import facts

log = logging.getLogger(__name__)

# Folders in the runtime directory: guests that are frozen, VMs that are paused for their memory to be
# saved, and VMs whose freeze was ended by the clock.
LEASES, PAUSES, EXPIRED = "leases", "pauses", "expired"
# Why a freeze was ended by the clock, and how long that is told.
RAN_OUT = "the lease ran out"
_EXPIRED_KEPT_S = 600.0
_SUFFIX = ".json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boottime_s() -> float:
    """Seconds since boot, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class LeaseRecord:
    """What is needed to thaw a guest (or to let a VM run again) in time, and to tell how it went.

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


class _Folder:
    """One JSON object for each VM, of this boot. Every method blocks on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._boot_id = _BOOT_ID.read_text().strip()

    def write(self, vm_id: UUID, body: dict[str, Any]) -> None:
        """Whole or not at all, and on the disk. Raises OSError."""
        text = json.dumps({**body, "boot_id": self._boot_id}, default=str)
        write_whole(self._path(vm_id), text)

    def remove(self, vm_id: UUID) -> None:
        try:
            self._path(vm_id).unlink(missing_ok=True)
        except OSError as error:
            log.error("record not removed %s", facts(vm=vm_id, reason=error.strerror))

    def read(self, vm_id: UUID) -> dict[str, Any] | None:
        """A VM's object; None when there is none of this boot."""
        return self._read(self._path(vm_id))

    def bodies(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            body = self._read(path)
            if body is not None:
                yield path, body

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            body = json.loads(path.read_text())
            if body.pop("boot_id") != self._boot_id:
                path.unlink()  # its guest ended with that boot
                return None
            return dict(body)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("no record %s", facts(path=path.name, reason=error))
            return None

    def _path(self, vm_id: UUID) -> Path:
        return self._folder / f"{vm_id}{_SUFFIX}"


class LeaseRecords:
    """The records in one folder. Every method blocks on the disk."""

    def __init__(self, folder: Path) -> None:
        self._files = _Folder(folder)

    def put(self, record: LeaseRecord) -> None:
        """Write a record, whole or not at all, and have it on the disk. Raises OSError."""
        self._files.write(record.vm_id, asdict(record))

    def remove(self, vm_id: UUID) -> None:
        """Remove a VM's record, if there is one. A record that cannot be removed is logged: it only
        means that the guest is thawed once more."""
        self._files.remove(vm_id)

    def load(self) -> list[LeaseRecord]:
        """The records of this boot; those of another are removed, and what is no record is logged."""
        found = []
        for path, body in self._files.bodies():
            try:
                ids = {"vm_id": UUID(body["vm_id"]), "window_id": UUID(body["window_id"])}
                found.append(LeaseRecord(**{**body, **ids}))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                log.error("no lease record %s", facts(path=path.name, reason=error))
        return found


class ExpiredLeases:
    """VMs whose lease ran out, for as long as their engine may still believe that they are frozen: until
    the next freeze, thaw or guest reset, or 600 s. On disk, since the guard, too, ends leases."""

    def __init__(self, folder: Path) -> None:
        self._files = _Folder(folder)

    def add(self, vm_id: UUID, reason: str) -> None:
        """Say of a VM that its lease ran out. Blocks on the disk; a full one is logged."""
        try:
            self._files.write(vm_id, {"reason": reason, "at_boottime_s": boottime_s()})
        except OSError as error:
            log.error("not noted %s", facts(vm=vm_id, what=reason, error=error.strerror))

    def forget(self, vm_id: UUID) -> str | None:
        """The mark ends; what it said. Blocks on the disk."""
        reason = self.reason(vm_id)
        self._files.remove(vm_id)
        return reason

    def reason(self, vm_id: UUID) -> str | None:
        """Why a VM is no longer frozen, if its lease ran out. Blocks on the disk."""
        body = self._files.read(vm_id)
        if body is None:
            return None
        try:
            age_s = boottime_s() - float(body["at_boottime_s"])
            told = f"{body['reason']} {age_s:.0f} s ago"
        except (KeyError, TypeError, ValueError):
            return RAN_OUT
        if age_s > _EXPIRED_KEPT_S:
            self._files.remove(vm_id)
            return None
        return told
