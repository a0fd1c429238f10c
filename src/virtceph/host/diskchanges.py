"""Who may change the disks of a VM, or the size of a volume: one at a time, and nobody during a snapshot.

What is asked of QEMU hangs as long as QEMU does. So each such call has a thread of its own, which its caller
leaves behind when it is late; what it was to change stays taken until that thread has ended. That is what
keeps a late call from undoing what somebody does after it: a resize that comes late would cut off what a
later one has added.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as LateError
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar
from uuid import UUID

from virtceph.errors import DiskChangeStalled, DisksBusy
from virtceph.log import facts

log = logging.getLogger(__name__)

T = TypeVar("T")
Key = Hashable

# A stopped QEMU may go on any moment; a healthy one answers in a tenth of a second.
CHANGE_S = 15.0


class DiskChanges:
    """The changes under way on this host."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[Key] = set()
        self._snapshots: Counter[UUID] = Counter()

    @contextmanager
    def change(self, what: str, keys: list[Key], *, vm_id: UUID | None = None) -> Iterator[Change]:
        """Be the only one who changes `keys` inside the block. With `vm_id` the disks of that VM come or go:
        not while they are snapshotted. `what` tells people what is changed.

        Raises:
            DisksBusy: somebody else is at it.
        """
        with self._lock:
            if vm_id is not None and self._snapshots[vm_id]:
                raise DisksBusy(what, "they are being snapshotted")
            if self._taken.intersection(keys):
                raise DisksBusy(what, "another change is under way")
            self._taken.update(keys)
        change = Change(what, lambda: self._give_back(keys))
        try:
            yield change
        finally:
            change.leave()

    @contextmanager
    def snapshot(self, vm_id: UUID) -> Iterator[None]:
        """No disk of the VM comes or goes inside the block. Raises DisksBusy."""
        with self._lock:
            if disks_of(vm_id) in self._taken:
                raise DisksBusy(f"VM {vm_id}", "a disk is being plugged or unplugged")
            self._snapshots[vm_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._snapshots[vm_id] -= 1
                if not self._snapshots[vm_id]:
                    del self._snapshots[vm_id]

    def _give_back(self, keys: list[Key]) -> None:
        with self._lock:
            self._taken.difference_update(keys)


def disks_of(vm_id: UUID) -> Key:
    """The key of which disks a VM has."""
    return "disks", vm_id


def qemu_of(vm_id: UUID) -> Key:
    """The key of what is asked of a VM's QEMU: when one call hangs, the next would too."""
    return "qemu", vm_id


class Change:
    """One change: held by the block that makes it, and by each call of it that still hangs."""

    def __init__(self, what: str, give_back: Callable[[], None]) -> None:
        self.what = what
        self._give_back = give_back
        self._holders = 1
        self._lock = threading.Lock()

    def call(self, work: Callable[[], T], timeout_s: float = CHANGE_S) -> T:
        """Have `work` done in a thread; what it returns or raises. Blocks up to `timeout_s`.

        Raises:
            DiskChangeStalled: it is not done yet. It goes on, and the change is under way until it ends.
        """
        result: Future[T] = Future()
        context = copy_context()

        def run() -> None:
            # Let go before the caller is told: it may ask again at once.
            try:
                value = context.run(work)
            except BaseException as error:
                self.leave()
                result.set_exception(error)
            else:
                self.leave()
                result.set_result(value)

        with self._lock:
            self._holders += 1
        # A daemon thread: the process ends without it.
        threading.Thread(target=run, name="disk-change", daemon=True).start()
        try:
            return result.result(timeout_s)
        except LateError:
            if result.done():
                return result.result()
        log.warning("disk change hangs %s", facts(what=self.what, timeout_s=timeout_s))
        result.add_done_callback(self._told_late)
        raise DiskChangeStalled(self.what, timeout_s)

    def _told_late(self, result: Future[T]) -> None:
        error = result.exception()
        outcome = "done" if error is None else error
        log.warning("late disk change ended %s", facts(what=self.what, outcome=outcome))

    def leave(self) -> None:
        """The block, or a call, is over."""
        with self._lock:
            self._holders -= 1
            last = not self._holders
        if last:
            self._give_back()
