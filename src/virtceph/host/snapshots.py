"""VM.snapshot: when the guest is frozen, by whom, and how good what was made under it is."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.host.consistency import Verdict, judge, not_frozen_by_us
from virtceph.host.drives import Plan, Planner, SnapDrive
from virtceph.host.jobs import Job, Jobs
from virtceph.host.leases import Leases, ThawResult
from virtceph.host.making import Making, step
from virtceph.host.names import SnapshotNames
from virtceph.log import facts
from virtceph.schema import wire
from virtceph.virt.domains import Domains

log = logging.getLogger(__name__)

_RESUME_TRIES, _RESUME_AGAIN_S = 5, 1.0


@wire("DriveResult")
@dataclass(frozen=True)
class DriveResult:
    disk: str
    snapshot_name: str | None
    path: str | None


@wire("SnapshotResult")
@dataclass(frozen=True)
class SnapshotResult:
    consistency: str
    reason: str
    window_id: UUID | None
    frozen_for_s: float | None
    drives: list[DriveResult]
    memory_path: str | None


@dataclass(frozen=True)
class SnapshotRequest:
    """The arguments of VM.snapshot; equal ones under one job id are one job."""

    vm_id: UUID
    drives: tuple[SnapDrive, ...]
    memory: str | None
    frozen: bool
    memory_timeout_s: float
    freeze_timeout_s: float


class Snapshots:
    """Live snapshots of VMs."""

    def __init__(
        self,
        domains: Domains,
        planner: Planner,
        leases: Leases,
        jobs: Jobs,
        snapshot_timeout_s: float,
        names: SnapshotNames,
    ) -> None:
        self._names = names
        self._domains, self._planner, self._leases, self._jobs = domains, planner, leases, jobs
        self._timeout_s = snapshot_timeout_s
        self._notes = ThreadPoolExecutor(4, "note-consistency")

    def start(self, asked: SnapshotRequest, job_uuid: UUID | None) -> UUID:
        """Check everything that can be checked at once, and start the job. Blocks on libvirt only.

        Raises:
            NoSuchVM, VMDown, MigrationInProgress, JobExists, and what Planner.plan raises
        """
        job_id = job_uuid or uuid4()
        if self._jobs.is_same(job_id, asked):
            return job_id
        status, domain = self._domains.describe(asked.vm_id)
        if status == "Down":
            raise errors.VMDown(asked.vm_id)
        if self._domains.is_migrating(asked.vm_id):
            raise errors.MigrationInProgress(asked.vm_id)
        plan = self._planner.plan(asked.vm_id, domain, list(asked.drives), asked.memory)
        job = Job(job_id, asked, "snapshot_vm", "virt")
        self._jobs.start(job, lambda job: self._run(job, asked, plan))
        return job_id

    def _run(self, job: Job, asked: SnapshotRequest, plan: Plan) -> SnapshotResult:
        with Making(plan, self._domains, self._timeout_s, self._names) as making:
            making.prepare()
            if asked.frozen:
                return self._under_the_callers_freeze(job, asked, making)
            if plan.memory_path is not None:
                return self._with_memory(asked, making)
            return self._under_our_freeze(asked, making)

    def _under_the_callers_freeze(
        self, job: Job, asked: SnapshotRequest, making: Making
    ) -> SnapshotResult:
        """The caller owns the freezing: the guest is only asked, before and after."""
        plan = making.plan
        before, _ = self._leases.ask(plan.vm_id)
        window = self._leases.window_of(plan.vm_id)
        _make_or_undo(making, asked)
        after, why = self._leases.ask(plan.vm_id)
        if window is None or (before, after) != ("frozen", "frozen"):
            return self._noted(making, not_frozen_by_us(before, after, why, window))

        def ended(thaw: ThawResult) -> None:
            verdict = judge(thaw, window.filesystems, window.mounted, plan.covered())
            job.result = _result(plan, verdict, window.id, thaw.frozen_for_s)
            self._notes.submit(making.note, verdict)

        job.result = _result(
            plan, Verdict("pending", "the guest is still frozen; known at the thaw"), window.id
        )
        if not self._leases.at_end(window, ended):
            verdict = Verdict("crash", "the freeze ended while the snapshot was made")
            job.result = self._noted(making, verdict)
        # By now the window may have ended, and `ended` have told how.
        told: SnapshotResult = job.result
        return told

    def _under_our_freeze(self, asked: SnapshotRequest, making: Making) -> SnapshotResult:
        """Freeze, make, thaw. A guest that cannot be frozen is snapshotted all the same, and told."""
        plan = making.plan
        try:
            freeze = self._leases.freeze(plan.vm_id, asked.freeze_timeout_s)
        except errors.VirtcephError as error:
            _make_or_undo(making, asked)
            return self._noted(making, Verdict("crash", f"not frozen: {error.message}"))
        window = self._leases.window_of(plan.vm_id)
        failure: errors.SnapshotFailed | None = None
        try:
            making.make(asked.memory_timeout_s, asked.freeze_timeout_s)
        except errors.SnapshotFailed as error:
            failure = error
        finally:
            # First thaw, then undo: the guest waits for neither.
            thaw = self._thaw(plan.vm_id)
        if failure is not None:
            making.undo()
            raise failure
        mounted = window.mounted if window is not None else None
        verdict = judge(thaw, freeze.filesystems, mounted, plan.covered())
        result = self._noted(making, verdict)
        return replace(result, window_id=freeze.window_id, frozen_for_s=thaw.frozen_for_s)

    def _thaw(self, vm_id: UUID) -> ThawResult:
        try:
            return self._leases.thaw(vm_id, force=False)
        except errors.VirtcephError as error:
            # The lease goes on thawing; until when the freeze held is no longer sure.
            return ThawResult(None, 0, 0.0, False, f"the thaw failed: {error.message}")

    def _with_memory(self, asked: SnapshotRequest, making: Making) -> SnapshotResult:
        """Memory and disks of one instant: the VM is paused while both are taken."""
        vm_id = making.plan.vm_id
        was_running = self._domains.status(vm_id) == "Up"
        if was_running:
            with step(vm_id, "pause"):
                self._domains.suspend(vm_id)
        try:
            try:
                making.make(asked.memory_timeout_s, asked.freeze_timeout_s)
            finally:
                if was_running:
                    self._resume(vm_id)
        except errors.SnapshotFailed:
            # The VM runs again, or cannot be made to: nothing waits for the undoing.
            making.undo()
            raise
        reason = "taken with the memory of the same instant; not frozen"
        return self._noted(making, Verdict("crash", reason))

    def _resume(self, vm_id: UUID) -> None:
        """Let the VM run again, whatever became of its snapshot. Raises SnapshotFailed."""
        for _ in range(_RESUME_TRIES - 1):
            try:
                self._domains.resume(vm_id)
                return
            except errors.VirtcephError as error:
                # libvirt may just be restarting: a VM left paused is worse than a late job.
                log.error("still paused %s", facts(vm=vm_id, reason=error))
                time.sleep(_RESUME_AGAIN_S)
        with step(vm_id, "resume; the VM is still paused"):
            self._domains.resume(vm_id)

    def _noted(self, making: Making, verdict: Verdict) -> SnapshotResult:
        making.note(verdict)
        return _result(making.plan, verdict)


def _make_or_undo(making: Making, asked: SnapshotRequest) -> None:
    try:
        making.make(asked.memory_timeout_s, asked.freeze_timeout_s)
    except errors.SnapshotFailed:
        making.undo()
        raise


def _result(
    plan: Plan,
    verdict: Verdict,
    window_id: UUID | None = None,
    frozen_for_s: float | None = None,
) -> SnapshotResult:
    drives = [DriveResult(d.target, d.snapshot, None) for d in plan.rbd]
    drives += [DriveResult(target, None, path) for target, path in plan.overlays.items()]
    return SnapshotResult(
        verdict.consistency, verdict.reason, window_id, frozen_for_s, drives, plan.memory_path
    )
