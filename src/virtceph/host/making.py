"""Making what a plan says, and unmaking it: RBD snapshots by workers, overlays and memory by libvirt."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.host.consistency import Verdict
from virtceph.host.diskchanges import DiskChanges
from virtceph.host.drives import Plan
from virtceph.host.groupsnapshots import GroupSnapshots
from virtceph.host.intents import Intents
from virtceph.host.names import SnapshotNames
from virtceph.host.rbdsnapshots import RbdSnapshots
from virtceph.log import facts
from virtceph.virt.domains import Domains

log = logging.getLogger(__name__)

_ABORT_AGAIN_S = 0.02


class Maker:
    """What every making needs."""

    def __init__(
        self,
        domains: Domains,
        names: SnapshotNames,
        intents: Intents,
        changes: DiskChanges,
        snapshot_timeout_s: float,
    ) -> None:
        self._domains, self._names, self._intents = domains, names, intents
        self._changes, self._timeout_s = changes, snapshot_timeout_s

    def begin(self, plan: Plan) -> Making:
        """A plan about to be carried out. Does not block."""
        ident = uuid4()
        maker = GroupSnapshots if plan.grouped else RbdSnapshots
        rbd = maker(ident, plan.vm_id, plan.rbd, self._names, self._intents, self._timeout_s)
        return Making(ident, plan, self._domains, rbd, self._changes)


class Making:
    """One plan being carried out. `prepare`, then `make`; `undo` removes what this run made, and nothing
    that was there before or that somebody else made under the same name; `settle` when all is well.

    `id` is new for each; `steps` are the seconds that each step took.
    """

    def __init__(
        self, ident: UUID, plan: Plan, domains: Domains, rbd: RbdSnapshots, changes: DiskChanges
    ) -> None:
        self.id, self.plan = ident, plan
        self.steps: dict[str, float] = {}
        self._domains, self._rbd = domains, rbd
        self._libvirt_made = False
        # From beginning to end no disk of the VM comes or goes.
        self._disks = changes.snapshot(plan.vm_id)

    def __enter__(self) -> Making:
        with step(self.plan.vm_id, "prepare"):
            self._disks.__enter__()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._disks.__exit__(None, None, None)
        self._rbd.close()

    def prepare(self, *, is_set: bool = False) -> None:
        """What can fail or wait before a guest is frozen. Blocks. Raises SnapshotFailed."""
        with step(self.plan.vm_id, "prepare"), self.timed("prepare"):
            self._rbd.prepare(is_set=is_set)

    def make(self, until_s: float, memory_timeout_s: float) -> None:
        """All RBD snapshots at once, then libvirt's part; nothing begins after `until_s` (monotonic), and
        snapshots that are there only then are too late. Blocks.

        Raises:
            SnapshotFailed: `undo` removes what was made.
        """
        with self.timed("snapshots"):
            # A VM whose memory is saved is paused by now, and nobody resumes it before this is over.
            self._rbd.make(until_s, at_once=self.plan.memory_path is not None)
        # An overlay comes last: undoing one needs a merge.
        if self.plan.asks_libvirt:
            if time.monotonic() > until_s:
                raise errors.SnapshotFailed(self.plan.vm_id, "freeze_timeout", "the time is over")
            left_s = until_s - time.monotonic()
            with self.timed("memory" if self.plan.memory_path else "overlays"):
                self._make_libvirt(min(memory_timeout_s, left_s))
        took = {f"{name}_s": seconds for name, seconds in self.steps.items()}
        log.info("snapshot made %s", facts(vm=self.plan.vm_id, **took))

    def undo(self) -> list[str]:
        """Remove the RBD snapshots and the memory file of this run. Blocks. What cannot be removed is
        logged; the overlays that the VM writes to by now are returned, since only a merge undoes them."""
        self._rbd.undo()
        if not self._libvirt_made:
            return []
        if self.plan.memory_path is not None:
            self._remove_memory(self.plan.memory_path)
        return sorted(self.plan.overlays.values())

    def note(self, verdict: Verdict, set_note: dict[str, Any] | None = None) -> str | None:
        """Write the verdict, and the set, to the images. Blocks. Why that failed, or None."""
        return self._rbd.note(verdict, set_note)

    def settle(self) -> None:
        """All is well: a daemon after this one has nothing to remove. Blocks on the disk."""
        self._rbd.settle()

    @contextlib.contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Note how long the block took."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.took(name, time.monotonic() - began_s)

    def took(self, name: str, took_s: float) -> None:
        """Note how long a part of a step took."""
        self.steps[name] = self.steps.get(name, 0.0) + took_s

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
            self._libvirt_made = True
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

    def _remove_memory(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError as error:
            log.error("memory file not removed %s", facts(path=path, reason=error.strerror))


@contextlib.contextmanager
def step(vm_id: UUID, name: str) -> Iterator[None]:
    """Any error of the block becomes SnapshotFailed with the step's name."""
    try:
        yield
    except errors.SnapshotFailed:
        raise
    except errors.VirtcephError as error:
        raise errors.SnapshotFailed(vm_id, name, error.message) from error
