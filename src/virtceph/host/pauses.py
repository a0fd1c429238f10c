"""Pause leases: no VM stays paused because the one who paused it for its memory to be saved is gone.

While a VM is paused a record of it is on disk. The daemon lets it run again at the end of the work; the
guard does so when the record's deadline is past, or when no daemon runs any more.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.host.records import LeaseRecord, LeaseRecords, boottime_s
from virtceph.log import facts
from virtceph.virt.domains import Domains

log = logging.getLogger(__name__)

_TRIES, _AGAIN_S = 5, 1.0
_ADOPTED_AGAIN_S = 2.0
# The guard comes so long after the time in which the work itself should have ended.
_MARGIN_S = 5.0


class Pauses:
    """The VMs that this daemon paused. `records` are those of one folder."""

    def __init__(self, domains: Domains, records: LeaseRecords) -> None:
        self._domains, self._records = domains, records
        self._closed = threading.Event()

    @contextlib.contextmanager
    def paused(self, vm_id: UUID, at_most_s: float) -> Iterator[None]:
        """Keep a VM paused in this block, which should end within `at_most_s`. A VM that was paused
        before stays so afterwards. Blocks.

        Raises:
            SnapshotFailed: it could not be paused, or does not run again.
        """
        try:
            was_running = self._domains.status(vm_id) == "Up"
            if was_running:
                self._suspend(vm_id, at_most_s)
        except errors.VirtcephError as error:
            raise errors.SnapshotFailed(vm_id, "pause", error.message) from error
        try:
            yield
        finally:
            if was_running:
                self._resume(vm_id)

    def adopt(self) -> list[UUID]:
        """Let those VMs run again that a daemon before this one left paused: what it saved is lost with
        it. Does not wait for them; blocks on the disk."""
        found = [record.vm_id for record in self._records.load()]
        for vm_id in found:
            log.warning("found a paused VM %s", facts(vm=vm_id))
            threading.Thread(
                target=self._resume_adopted, args=(vm_id,), name="resume", daemon=True
            ).start()
        return found

    def close(self) -> None:
        """Try no more for what was adopted; its records stay for the guard."""
        self._closed.set()

    def _suspend(self, vm_id: UUID, at_most_s: float) -> None:
        deadline_s = boottime_s() + at_most_s + _MARGIN_S
        record = LeaseRecord(vm_id, uuid4(), "virtcephd", time.time(), deadline_s)
        try:
            self._records.put(record)
        except OSError as error:
            reason = f"its pause cannot be recorded: {error.strerror}"
            raise errors.SnapshotFailed(vm_id, "pause", reason) from error
        try:
            self._domains.suspend(vm_id)
        except errors.VirtcephError:
            # libvirt may have paused it and been lost before it said so.
            self._resume(vm_id)
            raise

    def _resume(self, vm_id: UUID) -> None:
        """Let the VM run again, whatever became of the work. Raises SnapshotFailed (the record is kept,
        so that the guard goes on)."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                resume(self._domains, vm_id)
                self._records.remove(vm_id)
                return
            except errors.VirtcephError as error:
                # libvirt may just be restarting: a VM left paused is worse than a late job.
                log.error("still paused %s", facts(vm=vm_id, reason=error))
                if not left:
                    what = "resume; the VM is still paused"
                    raise errors.SnapshotFailed(vm_id, what, error.message) from error
            time.sleep(_AGAIN_S)

    def _resume_adopted(self, vm_id: UUID) -> None:
        while not self._closed.is_set():
            try:
                resume(self._domains, vm_id, abort=True)
                self._records.remove(vm_id)
                return
            except errors.VirtcephError as error:
                log.error("still paused %s", facts(vm=vm_id, reason=error))
            self._closed.wait(_ADOPTED_AGAIN_S)


def resume(domains: Domains, vm_id: UUID, *, abort: bool = False) -> None:
    """Let a paused VM run again; one that runs, is off or gone needs nothing. `abort` ends the saving of
    its memory first, which would go on without anybody. Blocks.

    Raises:
        LibvirtUnavailable, LibvirtFailed
    """
    try:
        if abort:
            with contextlib.suppress(errors.LibvirtFailed):  # no job is under way
                domains.abort_job(vm_id)
        if domains.status(vm_id) in ("Paused", "Saving State"):
            domains.resume(vm_id)
    except errors.NoSuchVM:
        return
