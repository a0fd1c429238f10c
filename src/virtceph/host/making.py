"""Making what a plan says, and unmaking it: RBD snapshots by workers, overlays and memory by libvirt."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from uuid import UUID

from virtceph import errors
from virtceph.ceph.workers import Call, NoReply, Outcome, WorkerProcess
from virtceph.host.consistency import Verdict
from virtceph.host.drives import Plan, RbdDrive
from virtceph.host.names import SnapshotNames
from virtceph.host.storage import StorageDomain
from virtceph.log import facts
from virtceph.virt.domains import Domains

log = logging.getLogger(__name__)

# Time to note the outcome on the images, after the guest is thawed: nobody waits for it.
_NOTE_S = 10.0
_ABORT_AGAIN_S = 0.02


class Making:
    """One plan being carried out. `prepare`, then `make`; `undo` removes what this run made, and
    nothing that was there before or that somebody else made under the same name."""

    def __init__(
        self, plan: Plan, domains: Domains, snapshot_timeout_s: float, names: SnapshotNames
    ) -> None:
        self._names = names
        self.plan, self._domains, self._timeout_s = plan, domains, snapshot_timeout_s
        self._stack = ExitStack()
        self._workers: dict[StorageDomain, WorkerProcess | None]
        self._workers = {drive.domain: None for drive in plan.rbd}
        self._made: list[RbdDrive] = []
        self._unanswered: list[RbdDrive] = []

    def __enter__(self) -> Making:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def prepare(self) -> None:
        """What can fail or wait before a guest is frozen: names free, workers ready. Blocks."""
        with step(self.plan.vm_id, "prepare"):
            wanted = [d.domain.snapshot_name(d.image, d.snapshot) for d in self.plan.rbd]
            self._stack.enter_context(self._names.reserve(wanted))
            for drive in self.plan.rbd:
                if drive.domain.images.has_snapshot(drive.image, drive.snapshot):
                    raise errors.SnapshotExists(drive.image, drive.snapshot)
                drive.domain.images.require_answers(drive.image)
            self._workers = {
                domain: self._stack.enter_context(domain.workers.worker())
                for domain in self._workers
            }

    def make(self, memory_timeout_s: float, freeze_timeout_s: float) -> None:
        """All RBD snapshots at once, then libvirt's part. Blocks. Raises SnapshotFailed."""
        began_s = time.monotonic()
        self._make_rbd()
        # An overlay comes last: undoing one needs a merge.
        if self.plan.asks_libvirt:
            if not self.plan.memory_path and time.monotonic() - began_s > freeze_timeout_s:
                raise errors.SnapshotFailed(self.plan.vm_id, "freeze_timeout", "the time is over")
            self._make_libvirt(memory_timeout_s)
        log.info(
            "snapshot made %s", facts(vm=self.plan.vm_id, elapsed_s=time.monotonic() - began_s)
        )

    def undo(self) -> None:
        """Remove the RBD snapshots of this run. Blocks. What cannot be removed is logged."""
        for drive in self._made:
            reason = self._remove(drive)
            if reason is not None:
                log.error(
                    "snapshot not removed %s",
                    facts(image=drive.image, snapshot=drive.snapshot, reason=reason),
                )
        for drive in self._unanswered:
            drive.domain.give_up(self._names, drive.image, drive.snapshot, self._timeout_s)
        self._made.clear()
        self._unanswered.clear()

    def note(self, verdict: Verdict) -> None:
        """Write the verdict to the images, so that it is there when this daemon no longer is. Blocks."""
        for drive in self.plan.rbd:
            arguments = {**_names(drive), "consistency": verdict.consistency}
            outcome = _run_one(drive, "set_consistency", arguments, _NOTE_S)
            if outcome is not None:
                log.warning("consistency not noted %s", facts(image=drive.image, why=outcome))

    def _make_rbd(self) -> None:
        deadline_s = time.monotonic() + self._timeout_s
        groups = [
            (worker, [d for d in self.plan.rbd if d.domain is domain])
            for domain, worker in self._workers.items()
            if worker is not None
        ]
        with ThreadPoolExecutor(max(1, len(groups)), "snapshot") as threads:
            results = list(
                threads.map(lambda group: group[0].run(_creations(group[1]), deadline_s), groups)
            )
        outcomes = [
            (drive, outcome)
            for (_, drives), group in zip(groups, results, strict=True)
            for drive, outcome in zip(drives, group, strict=True)
        ]
        # One without a reply may have been made all the same, once it had begun.
        self._made = [d for d, o in outcomes if _may_be_made(o)]
        self._unanswered = [d for d, o in outcomes if isinstance(o, NoReply) and o.begun]
        for drive, outcome in outcomes:
            self._require(drive, outcome)

    def _require(self, drive: RbdDrive, outcome: Outcome) -> None:
        if isinstance(outcome, NoReply):
            outcome = errors.LockOwnerStalled(drive.image, self._timeout_s)
        if isinstance(outcome, errors.VirtcephError):
            what = f"snapshot of {drive.target}"
            raise errors.SnapshotFailed(self.plan.vm_id, what, outcome.message)

    def _make_libvirt(self, memory_timeout_s: float) -> None:
        done = threading.Event()
        if self.plan.memory_path is not None:
            watch = threading.Thread(
                target=self._abort_when_late, args=(done, memory_timeout_s), daemon=True
            )
            watch.start()
        try:
            with step(self.plan.vm_id, "libvirt snapshot"):
                self._domains.snapshot(
                    self.plan.vm_id,
                    self.plan.targets,
                    self.plan.overlays,
                    reuse=self.plan.reuse,
                    memory_path=self.plan.memory_path,
                )
        finally:
            done.set()

    def _abort_when_late(self, done: threading.Event, timeout_s: float) -> None:
        wait_s = timeout_s
        while not done.wait(wait_s):
            log.warning("saving the memory takes too long %s", facts(vm=self.plan.vm_id))
            try:
                self._domains.abort_job(self.plan.vm_id)
            except errors.VirtcephError as error:
                # libvirt may not have begun yet; then there is nothing to abort so far.
                log.warning("could not abort %s", facts(vm=self.plan.vm_id, reason=error))
            wait_s = _ABORT_AGAIN_S

    def _remove(self, drive: RbdDrive) -> str | None:
        """Remove one snapshot if it is there; why it could not be, or None."""
        try:
            if not drive.domain.images.has_snapshot(drive.image, drive.snapshot):
                return None
        except errors.VirtcephError as error:
            return error.message
        return _run_one(drive, "remove_snapshot", _names(drive), self._timeout_s)


def _run_one(
    drive: RbdDrive, operation: str, arguments: dict[str, str], timeout_s: float
) -> str | None:
    """One call in a worker: why it failed, or None."""
    try:
        call = Call(operation, drive.domain.pool, arguments)
        (outcome,) = drive.domain.workers.run([call], timeout_s)
    except errors.VirtcephError as error:
        return error.message
    if isinstance(outcome, NoReply):
        return f"no answer within {timeout_s:g} s"
    return outcome.message if isinstance(outcome, errors.VirtcephError) else None


@contextmanager
def step(vm_id: UUID, name: str) -> Iterator[None]:
    """Any error of the block becomes SnapshotFailed with the step's name."""
    try:
        yield
    except errors.SnapshotFailed:
        raise
    except errors.VirtcephError as error:
        raise errors.SnapshotFailed(vm_id, name, error.message) from error


def _may_be_made(outcome: Outcome) -> bool:
    if isinstance(outcome, NoReply):
        return outcome.begun
    return not isinstance(outcome, errors.VirtcephError)


def _names(drive: RbdDrive) -> dict[str, str]:
    return {"name": drive.image, "snapshot": drive.snapshot}


def _creations(drives: list[RbdDrive]) -> list[Call]:
    return [Call("create_snapshot", drive.domain.pool, _names(drive)) for drive in drives]
