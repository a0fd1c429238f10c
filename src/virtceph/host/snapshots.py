"""VM.snapshot: when the guest is frozen, by whom, and how good what was made under it is."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.host.consistency import Verdict, judge, not_frozen_by_us
from virtceph.host.drives import Plan, Planner, SnapDrive
from virtceph.host.events import Tell, untold
from virtceph.host.freezing import thaw_or_tell
from virtceph.host.job import Job
from virtceph.host.jobs import Jobs
from virtceph.host.leases import Leases, ThawResult
from virtceph.host.making import Maker, Making
from virtceph.host.pauses import Pauses
from virtceph.host.snapshottold import SnapshotTold
from virtceph.schema import wire
from virtceph.virt.domains import Domains


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
        pauses: Pauses,
        jobs: Jobs,
        maker: Maker,
        tell: Tell = untold,
    ) -> None:
        self._domains, self._planner, self._jobs = domains, planner, jobs
        self._leases, self._pauses, self._maker = leases, pauses, maker
        self._tell = tell
        self._notes = ThreadPoolExecutor(4, "note-consistency")

    def start(self, asked: SnapshotRequest, job_uuid: UUID | None) -> UUID:
        """Check everything that can be checked at once, and start the job. Blocks on libvirt only.

        Raises:
            NoSuchVM, VMDown, MigrationInProgress, JobExists, and what Planner.plan raises
        """
        job_id = job_uuid or uuid4()
        if self._jobs.is_same(job_id, asked):
            return job_id
        if asked.frozen:
            self._leases.require_not_expired(asked.vm_id)
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
        to_freeze = asked.frozen or plan.memory_path is None
        told = SnapshotTold(self._tell, plan, job.uuid, None, to_freeze)
        with told.making(), self._maker.begin(plan) as making:
            making.prepare()
            if asked.frozen:
                result = self._under_the_callers_freeze(job, asked, making, told)
            elif plan.memory_path is not None:
                result = self._with_memory(asked, making, told)
            else:
                result = self._under_our_freeze(asked, making, told)
            making.settle()
            return result

    def _under_the_callers_freeze(
        self, job: Job, asked: SnapshotRequest, making: Making, told: SnapshotTold
    ) -> SnapshotResult:
        """The caller owns the freezing: the guest is only asked, before and after."""
        plan = making.plan
        before, _ = self._leases.ask(plan.vm_id)
        window = self._leases.window_of(plan.vm_id)
        _make_or_undo(making, asked)
        after, why = self._leases.ask(plan.vm_id)
        if window is None or (before, after) != ("frozen", "frozen"):
            return self._noted(making, told, not_frozen_by_us(before, after, why, window))

        def ended(thaw: ThawResult) -> None:
            verdict = judge(thaw, window.filesystems, window.mounted, plan.covered())
            job.result = _result(plan, verdict, window.id, thaw.frozen_for_s)
            self._notes.submit(making.note, verdict)
            told.made(verdict, thaw.frozen_for_s)

        job.result = _result(
            plan, Verdict("pending", "the guest is still frozen; known at the thaw"), window.id
        )
        if not self._leases.at_end(window, ended):
            verdict = Verdict("crash", "the freeze ended while the snapshot was made")
            job.result = self._noted(making, told, verdict)
        # By now the window may have ended, and `ended` have told how.
        result: SnapshotResult = job.result
        return result

    def _under_our_freeze(
        self, asked: SnapshotRequest, making: Making, told: SnapshotTold
    ) -> SnapshotResult:
        """Freeze, make, thaw. A guest that cannot be frozen is snapshotted all the same, and told."""
        plan = making.plan
        try:
            freeze = self._leases.freeze(plan.vm_id, asked.freeze_timeout_s)
        except errors.VirtcephError as error:
            _make_or_undo(making, asked)
            return self._noted(making, told, Verdict("crash", f"not frozen: {error.message}"))
        window = self._leases.window_of(plan.vm_id)
        failure: errors.SnapshotFailed | None = None
        try:
            _make(making, asked)
        except errors.SnapshotFailed as error:
            failure = error
        finally:
            # First thaw, then undo: the guest waits for neither.
            thaw = thaw_or_tell(self._leases, plan.vm_id, window)
        if failure is not None:
            making.undo()
            raise failure
        mounted = window.mounted if window is not None else None
        verdict = judge(thaw, freeze.filesystems, mounted, plan.covered())
        result = self._noted(making, told, verdict, thaw.frozen_for_s)
        return replace(result, window_id=freeze.window_id)

    def _with_memory(
        self, asked: SnapshotRequest, making: Making, told: SnapshotTold
    ) -> SnapshotResult:
        """Memory and disks of one instant: the VM is paused while both are taken."""
        try:
            with self._pauses.paused(making.plan.vm_id, asked.memory_timeout_s):
                _make(making, asked)
        except errors.SnapshotFailed:
            # The VM runs again, or cannot be made to: nothing waits for the undoing.
            making.undo()
            raise
        reason = "taken with the memory of the same instant; not frozen"
        return self._noted(making, told, Verdict("crash", reason))

    def _noted(
        self,
        making: Making,
        told: SnapshotTold,
        verdict: Verdict,
        frozen_for_s: float | None = None,
    ) -> SnapshotResult:
        making.note(verdict)
        told.made(verdict, frozen_for_s)
        return _result(making.plan, verdict, frozen_for_s=frozen_for_s)


def _make(making: Making, asked: SnapshotRequest) -> None:
    # With memory the VM is paused and not frozen by us, for as long as saving it may take.
    lasts_s = asked.memory_timeout_s if asked.memory is not None else asked.freeze_timeout_s
    making.make(time.monotonic() + lasts_s, asked.memory_timeout_s)


def _make_or_undo(making: Making, asked: SnapshotRequest) -> None:
    try:
        _make(making, asked)
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
