"""What is told of snapshots of VMs by events: made and how good, or not made and why."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from virtceph import errors
from virtceph.events import SnapshotDone, SnapshotFailed, SnapshotInconsistent
from virtceph.host.consistency import Verdict
from virtceph.host.drives import Plan
from virtceph.host.events import Tell


@dataclass(frozen=True)
class SnapshotTold:
    """One snapshot, whose making its job tells of. `to_freeze`: its guest was to be frozen, whoever was to do
    it. Nothing here blocks."""

    tell: Tell
    plan: Plan
    job_id: UUID
    name: str | None
    to_freeze: bool

    @contextmanager
    def making(self) -> Iterator[None]:
        """Whatever ends the block is told as the reason why there is no snapshot."""
        try:
            yield
        except errors.VirtcephError as error:
            self._failed(error.message)
            raise
        except Exception:
            self._failed("a bug; see the daemon's log")
            raise

    def made(self, verdict: Verdict, frozen_for_s: float | None) -> None:
        """It is there, and this is how good it is."""
        consistent = verdict.consistency == "filesystem" or not self.to_freeze
        kind = SnapshotDone if consistent else SnapshotInconsistent
        disks = [drive.target for drive in self.plan.rbd] + sorted(self.plan.overlays)
        what = verdict.consistency, verdict.reason, frozen_for_s, disks
        self.tell(kind(self.plan.vm_id, self.job_id, self.name, *what))

    def _failed(self, reason: str) -> None:
        self.tell(SnapshotFailed(self.plan.vm_id, self.job_id, self.name, reason))
