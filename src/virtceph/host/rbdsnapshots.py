"""The RBD snapshots of one job: prepared, made all at once, then undone or noted, by worker processes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.workers import Call, NoReply, Outcome, WorkerProcess
from virtceph.host.consistency import Verdict
from virtceph.host.drives import RbdDrive
from virtceph.host.intents import Intents, Planned, new_intent
from virtceph.host.names import SnapshotNames, after_all
from virtceph.host.sidebyside import failure_of, may_be_made, on_all
from virtceph.host.storage import StorageDomain
from virtceph.log import facts

log = logging.getLogger(__name__)

# Time to note the outcome on the images and to close them, after the guest is thawed: nobody waits.
AFTERWARDS_S = 10.0

Outcomes = list[tuple[RbdDrive, Outcome]]


class RbdSnapshots:
    """`prepare`, then `make`; then `undo`, which removes what this run made and nothing else, or `note`.

    Everything is done on all images side by side, in one worker for each storage domain. The images stay
    open there from `prepare` to `close`, so that a frozen guest waits for no opening.
    """

    def __init__(
        self,
        intent_id: UUID,
        vm_id: UUID,
        drives: list[RbdDrive],
        names: SnapshotNames,
        intents: Intents,
        timeout_s: float,
    ) -> None:
        self._id, self._vm_id, self._drives = intent_id, vm_id, drives
        self._names, self._intents, self._timeout_s = names, intents, timeout_s
        self._stack = ExitStack()
        self._workers: dict[StorageDomain, WorkerProcess] = {}
        # A worker is one thread's at a time; a thaw may have the verdict noted while the job closes.
        self._busy = threading.RLock()
        self._made: list[RbdDrive] = []
        self._unanswered: list[RbdDrive] = []

    def prepare(self, *, is_set: bool) -> None:
        """What can fail or wait before a guest is frozen: cluster there, names free, images open and their
        users alive, intent on disk. Blocks.

        Raises:
            SnapshotExists, NoSuchVolume, LockOwnerStalled, CephUnavailable, CephPermissionDenied
        """
        wanted = [d.domain.snapshot_name(d.image, d.snapshot) for d in self._drives]
        self._stack.enter_context(self._names.reserve(wanted))
        for domain in dict.fromkeys(drive.domain for drive in self._drives):
            domain.require_monitors()
            self._workers[domain] = self._stack.enter_context(domain.workers.worker())
        self._prepare_images(is_set)

    def make(self, deadline_s: float, *, at_once: bool = False) -> None:
        """All snapshots at once; too late when they are not there by `deadline_s` (monotonic). Blocks up to
        the time-out of snapshots. With `at_once`, for a VM that waits meanwhile, up to `deadline_s` at the
        most.

        Raises:
            SnapshotFailed: `undo` removes what was made.
        """
        began_s = time.monotonic()
        left_s = deadline_s - began_s
        if left_s <= 0:
            raise errors.SnapshotFailed(self._vm_id, "freeze_timeout", "the time is over")
        # A worker that is killed leaves a watch, for which the undo has to wait half a minute. The lease
        # thaws the guest at its end, so a late request may as well end by itself.
        timeout_s = min(self._timeout_s, left_s) if at_once else self._timeout_s
        outcomes = self._create_all(timeout_s)
        # One without a reply may have been made all the same, once it had begun.
        self._made = [d for d, o in outcomes if may_be_made(o)]
        self._unanswered = [d for d, o in outcomes if isinstance(o, NoReply) and o.begun]
        for drive, outcome in outcomes:
            error = failure_of(outcome, drive.image, timeout_s)
            if error is None:
                continue
            reason = error.message
            if isinstance(outcome, NoReply) and timeout_s < self._timeout_s:
                reason = f"not done within the {left_s:.1f} s that were left of its time"
            raise errors.SnapshotFailed(self._vm_id, f"snapshot of {drive.target}", reason)
        took_s = time.monotonic() - began_s
        if took_s > left_s:
            reason = f"the snapshots took {took_s:.1f} s, and {left_s:.1f} s were left of its time"
            raise errors.SnapshotFailed(self._vm_id, "freeze_timeout", reason)

    def undo(self) -> None:
        """Remove the snapshots of this run. Blocks. What cannot be removed now, or may still appear, is
        removed later (`names`); until then its intent is kept, for a daemon after this one."""
        late = {drive.target: drive for drive in self._unanswered}
        for drive, outcome in self._remove_all():
            error = failure_of(outcome, drive.image, self._timeout_s)
            if error is not None and not isinstance(error, errors.NoSuchSnapshot):
                # A worker that was killed is still waited for by the others, for 30 s.
                late[drive.target] = drive
                told = facts(image=drive.image, snapshot=drive.snapshot, reason=error)
                log.warning("snapshot not removed yet %s", told)
        self._give_up(list(late.values()))
        self._made, self._unanswered = [], []
        if not late:
            self.settle()

    def note(self, verdict: Verdict, set_note: dict[str, Any] | None = None) -> str | None:
        """Write the verdict, and the set they belong to, to the images, so that it is there when this
        daemon no longer is. Also after `close`. Blocks. Why one could not be written, or None."""
        failure = None
        for drive, outcome in self._note_all(verdict.consistency, set_note):
            error = failure_of(outcome, drive.image, AFTERWARDS_S)
            if error is not None:
                log.warning("consistency not noted %s", facts(image=drive.image, why=error))
                failure = failure or f"{drive.image}: {error.message}"
        return failure

    def settle(self) -> None:
        """The job is done, well or undone: a daemon after this one has nothing to remove."""
        self._intents.remove(self._id)

    def close(self) -> None:
        """Close the images, and give workers and names back. Blocks."""
        with self._busy:
            self._stack.close()
            self._workers.clear()

    # --- each image by itself; `groupsnapshots` does it for all of them at one instant ---

    def _prepare_images(self, is_set: bool) -> None:
        self._stack.callback(self._close_images)
        for drive, outcome in self._on_all("open_image", _name, self._timeout_s):
            if isinstance(outcome, NoReply):
                raise errors.CephUnavailable(f"{drive.image} could not be opened in time")
            if isinstance(outcome, errors.VirtcephError):
                raise outcome
        self._put_intent(is_set=is_set)

    def _create_all(self, timeout_s: float) -> Outcomes:
        return self._on_all("create_snapshot", _name, timeout_s)

    def _remove_all(self) -> Outcomes:
        return self._on_all("remove_snapshot", _name, self._timeout_s, drives=self._made)

    def _note_all(self, consistency: str, set_note: dict[str, Any] | None) -> Outcomes:
        def arguments(drive: RbdDrive) -> dict[str, Any]:
            return {**_name(drive), "consistency": consistency, "set_note": set_note}

        return self._on_all("annotate_snapshot", arguments, AFTERWARDS_S)

    def _give_up(self, late: list[RbdDrive]) -> None:
        then = after_all(len(late), self.settle)
        for drive in late:
            drive.domain.give_up(self._names, drive.image, drive.snapshot, self._timeout_s, then)

    # --- inside ---

    def _put_intent(self, *, is_set: bool, group: str | None = None) -> None:
        if not self._drives:
            return
        planned = tuple(
            Planned(d.domain.cluster.fsid, d.domain.pool.pool, d.domain.pool.namespace, d.image, d.snapshot)
            for d in self._drives
        )  # fmt: skip
        try:
            self._intents.put(
                new_intent(self._id, self._vm_id, planned, is_set=is_set, group=group)
            )
        except OSError as error:
            reason = f"the intent cannot be recorded: {error.strerror}"
            raise errors.SnapshotFailed(self._vm_id, "prepare", reason) from error

    def _close_images(self) -> None:
        self._on_all("close_image", lambda drive: {"name": drive.image}, AFTERWARDS_S, idle=False)

    def _on_all(
        self,
        operation: str,
        arguments: Callable[[RbdDrive], Mapping[str, Any]],
        timeout_s: float,
        *,
        drives: list[RbdDrive] | None = None,
        idle: bool = True,
    ) -> Outcomes:
        """One operation on each drive's image, all side by side. Blocks up to `timeout_s`.

        A worker that was killed is replaced by one of the pool's, unless `idle` is false: what it held open
        it holds no longer.
        """
        deadline_s = time.monotonic() + timeout_s

        def run(domain: StorageDomain, calls: list[Call]) -> list[Outcome]:
            worker = self._workers.get(domain)
            if worker is not None and worker.alive():
                return worker.run(calls, deadline_s)
            if not idle:
                return [None] * len(calls)
            return domain.workers.run(calls, max(0.0, deadline_s - time.monotonic()))

        with self._busy:
            return on_all(self._drives if drives is None else drives, operation, arguments, run)


def _name(drive: RbdDrive) -> dict[str, str]:
    return {"name": drive.image, "snapshot": drive.snapshot}
