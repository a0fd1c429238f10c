"""VM.createConsistentSnapshot and its family: sets of snapshots that are made, listed and removed as one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.events import SnapshotSetDeleted, SnapshotSetRestored
from virtceph.host.consistency import Verdict
from virtceph.host.drives import Plan, Planner
from virtceph.host.events import Tell, untold
from virtceph.host.freezing import Freezing
from virtceph.host.job import Job
from virtceph.host.jobs import Jobs
from virtceph.host.leases import Leases
from virtceph.host.making import Maker, Making
from virtceph.host.pauses import Pauses
from virtceph.host.restoring import Restorer, RestoreRequest, RestoreResult
from virtceph.host.retention import Keep, Pruned, choose, is_of_label
from virtceph.host.setnotes import FoundSet, SetDisk, SetNote, SetNotes, SnapshotSet
from virtceph.host.setremoval import of_name, prune_sets, remove_set
from virtceph.host.snapshottold import SnapshotTold
from virtceph.virt.domains import Domains
from virtceph.virt.xml import Domain


@dataclass(frozen=True)
class SetRequest:
    """The arguments of VM.createConsistentSnapshot; equal ones under one job id are one job."""

    vm_id: UUID
    snapshot_name: str
    disks: tuple[str, ...] | None
    freeze: str
    max_frozen_s: float
    memory_path: str | None
    description: str | None
    method: str = "parallel"


@dataclass(frozen=True)
class DeleteRequest:
    """The arguments of VM.deleteConsistentSnapshot."""

    vm_id: UUID
    snapshot_name: str


class SnapshotSets:
    """The sets of this host's VMs. A set is there when it is noted on its images (`setnotes`). `seen` hears
    of each whole set that is found: its VM, how consistent it is, and when it was made."""

    def __init__(
        self,
        domains: Domains,
        planner: Planner,
        leases: Leases,
        pauses: Pauses,
        jobs: Jobs,
        maker: Maker,
        notes: SetNotes,
        restorer: Restorer,
        snapshot_timeout_s: float,
        tell: Tell = untold,
        seen: Callable[[UUID, str, float], None] = lambda _vm, _consistency, _at_s: None,
    ) -> None:
        self._domains, self._planner, self._jobs = domains, planner, jobs
        self._leases, self._pauses, self._maker = leases, pauses, maker
        self._notes, self._restorer = notes, restorer
        self._timeout_s, self._tell, self._seen = snapshot_timeout_s, tell, seen

    # --- verbs ---

    def create(self, asked: SetRequest, job_uuid: UUID | None) -> UUID:
        """Check everything that can be checked at once, and start the job. Blocks on libvirt only.

        Raises:
            InvalidParameter, NoSuchVM, VMDown, MigrationInProgress, JobExists, and what
            Planner.plan_set raises
        """
        job_id = job_uuid or uuid4()
        if self._jobs.is_same(job_id, asked):
            return job_id
        if asked.freeze != "no":
            self._leases.require_short(asked.max_frozen_s, "maxFrozen")
        status, domain = self._domains.describe(asked.vm_id)
        is_off = status == "Down"
        if is_off and (asked.freeze != "no" or asked.memory_path is not None):
            raise errors.VMDown(asked.vm_id)
        if not is_off and self._domains.is_migrating(asked.vm_id):
            raise errors.MigrationInProgress(asked.vm_id)
        targets = None if asked.disks is None else list(asked.disks)
        plan = self._planner.plan_set(
            asked.vm_id,
            domain,
            asked.snapshot_name,
            targets,
            asked.memory_path,
            grouped=asked.method == "group",
        )
        if is_off and plan.asks_libvirt:
            # An overlay is put in under a QEMU that writes; the file of a VM that is off can be copied.
            raise errors.VMDown(asked.vm_id)
        job = Job(job_id, asked, "create_consistent_snapshot", "virt")
        self._jobs.start(job, lambda job: self._create(job, asked, domain.name, plan))
        return job_id

    def listed(self, vm_id: UUID) -> list[SnapshotSet]:
        """The sets of a VM, oldest first. Blocks.

        Raises:
            NoSuchVM, LibvirtUnavailable, CephUnavailable, CephPermissionDenied
        """
        return [found.told() for found in self._find(vm_id)]

    def delete(self, asked: DeleteRequest, job_uuid: UUID | None) -> UUID:
        """Start the job that removes a set. Blocks on libvirt only. Raises NoSuchVM, JobExists."""
        job_id = job_uuid or uuid4()
        if self._jobs.is_same(job_id, asked):
            return job_id
        _, domain = self._domains.describe(asked.vm_id)
        job = Job(job_id, asked, "delete_consistent_snapshot", "storage")
        self._jobs.start(job, lambda _job: self._delete(asked, domain))
        return job_id

    def prune(
        self,
        vm_id: UUID,
        keep: Keep,
        name_prefix: str = "",
        label: str | None = None,
        *,
        dry_run: bool,
    ) -> Pruned:
        """Remove the complete sets that `keep` does not keep, of those whose names begin so and that are
        called by the label and a moment. Blocks.

        Raises:
            InvalidParameter, NoSuchVM, LibvirtUnavailable, CephUnavailable, CephPermissionDenied
            PruneFailed: some could not be removed; the others were.
        """
        keep.require_any()
        found = self._find(vm_id)
        complete = [
            one
            for one in found
            if not one.missing
            and one.note.snapshot_name.startswith(name_prefix)
            and is_of_label(one.note.snapshot_name, label)
        ]
        keeping = choose([one.note.created_at_s for one in complete], keep)
        gone = [one for index, one in enumerate(complete) if index not in keeping]
        if not dry_run:
            prune_sets(vm_id, gone, self._timeout_s, lambda one: self._deleted(one, pruned=True))
        kept = [one.note.snapshot_name for i, one in enumerate(complete) if i in keeping]
        return Pruned(kept, [one.note.snapshot_name for one in gone])

    def restore(self, asked: RestoreRequest, job_uuid: UUID | None) -> UUID:
        """Start the job that restores a set. Blocks on libvirt only.

        Raises:
            NoSuchVM, VMRunning, InvalidParameter, JobExists
        """
        job_id = job_uuid or uuid4()
        if self._jobs.is_same(job_id, asked):
            return job_id
        status, domain = self._domains.describe(asked.vm_id)
        self._restorer.check(asked, status)
        job = Job(job_id, asked, "restore_consistent_snapshot", "storage")
        self._jobs.start(job, lambda _job: self._restore(asked, domain))
        return job_id

    # --- inside ---

    def _find(self, vm_id: UUID) -> list[FoundSet]:
        found = self._notes.of(vm_id, self._describe(vm_id))
        for one in found:
            if not one.missing:
                self._seen(vm_id, one.note.consistency, one.note.created_at_s)
        return found

    def _deleted(self, one: FoundSet, *, pruned: bool) -> None:
        note = one.note
        self._tell(SnapshotSetDeleted(note.vm_id, note.set_id, note.snapshot_name, pruned))

    def _create(self, job: Job, asked: SetRequest, vm_name: str, plan: Plan) -> SnapshotSet:
        name, to_freeze = asked.snapshot_name, asked.freeze != "no"
        told = SnapshotTold(self._tell, plan, job.uuid, name, to_freeze)
        with told.making(), self._maker.begin(plan) as making:
            freezing = Freezing(self._leases, making, asked.freeze, asked.max_frozen_s)
            try:
                making.prepare(is_set=True)
                created_at_s = time.time()
                verdict = _told(plan, freezing.run(lambda until_s: self._make(making, until_s)))
                note = _note(asked, vm_name, making, verdict, freezing.frozen_for_s, created_at_s)
                failure = making.note(verdict, note.dump())
                if failure is not None:
                    raise errors.SnapshotFailed(asked.vm_id, "note", failure)
            except errors.SnapshotFailed as error:
                raise _undone(making, error) from error
            making.settle()
            told.made(verdict, freezing.frozen_for_s)
            return note.told([])

    def _make(self, making: Making, until_s: float) -> None:
        left_s = max(0.0, until_s - time.monotonic())
        if making.plan.memory_path is None:
            making.make(until_s, left_s)
            return
        with self._pauses.paused(making.plan.vm_id, left_s):
            making.make(until_s, left_s)

    def _delete(self, asked: DeleteRequest, domain: Domain) -> None:
        found = of_name(self._notes.of(asked.vm_id, domain), asked.snapshot_name, domain)
        for one in found:
            remove_set(one, self._timeout_s)
            self._deleted(one, pruned=False)

    def _restore(self, asked: RestoreRequest, domain: Domain) -> RestoreResult:
        found = of_name(self._notes.of(asked.vm_id, domain), asked.snapshot_name, domain)
        # Of two of one name the older is what is left of a set that was removed by other means.
        result = self._restorer.restore(asked, domain, found[-1])
        note, volumes = found[-1].note, [disk.volume_name for disk in result.disks]
        what = note.set_id, note.snapshot_name, result.into, volumes
        self._tell(SnapshotSetRestored(asked.vm_id, *what))
        return result

    def _describe(self, vm_id: UUID) -> Domain:
        try:
            return self._domains.describe(vm_id)[1]
        except errors.LibvirtFailed as error:
            # These verbs are Ceph's; what libvirt has against telling a VM's disks may pass.
            raise errors.LibvirtUnavailable(error.message) from error


def _told(plan: Plan, verdict: Verdict) -> Verdict:
    """Of a group even what is only crash consistent is so for all disks together."""
    if verdict.consistency == "crash" and plan.grouped:
        return replace(verdict, reason=f"{verdict.reason}; all disks at one instant")
    return verdict


def _undone(making: Making, error: errors.SnapshotFailed) -> errors.SnapshotFailed:
    """Undo what was made; the error to tell, with what could not be undone."""
    overlays = making.undo()
    if not overlays:
        return error
    left = f"{error.reason}; the VM goes on writing to {', '.join(overlays)}"
    return errors.SnapshotFailed(error.vm_id, error.step, left)


def _note(
    asked: SetRequest,
    vm_name: str,
    making: Making,
    verdict: Verdict,
    frozen_for_s: float | None,
    created_at_s: float,
) -> SetNote:
    plan = making.plan
    disks = [
        SetDisk(d.target, d.domain.pool.pool, d.domain.pool.namespace, d.image, None)
        for d in plan.rbd
    ]
    disks += [SetDisk(target, None, None, None, path) for target, path in plan.overlays.items()]
    fsids = [str(d.domain.cluster.fsid) for d in plan.rbd] + [""] * len(plan.overlays)
    return SetNote(
        making.id,
        asked.vm_id,
        vm_name,
        asked.snapshot_name,
        created_at_s,
        verdict.consistency,
        verdict.reason,
        frozen_for_s,
        dict(making.steps),
        asked.description,
        plan.memory_path,
        tuple(disks),
        tuple(fsids),
        asked.method,
    )
