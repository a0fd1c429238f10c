"""The open windows: who may open, extend, thaw and end one, where threads meet."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from virtceph import errors
from virtceph.host.freezetold import FreezeTold
from virtceph.host.records import RAN_OUT, ExpiredLeases, LeaseRecords
from virtceph.host.windows import ThawResult, Window, due_of, outcome_of, put_on_record
from virtceph.log import facts

log = logging.getLogger(__name__)

# How long a freeze waits for a thaw of the same VM that is under way.
_THAW_UNDER_WAY_S = 10.0


class Windows:
    """The open windows of this host, at most one for each VM. Threads meet here, under one lock."""

    def __init__(self, records: LeaseRecords, expired: ExpiredLeases, told: FreezeTold) -> None:
        self._records, self._expired, self.told = records, expired, told
        self._open: dict[UUID, Window] = {}
        self._thaws: Counter[UUID] = Counter()
        self._changed = threading.Condition()
        self._closing = self._closed = False

    def of(self, vm_id: UUID) -> Window | None:
        """The open window of a VM."""
        with self._changed:
            return self._open.get(vm_id)

    def by_state(self) -> Counter[str]:
        """How many are open, in each state."""
        return Counter(window.state for window in list(self._open.values()))

    def open(self, vm_id: UUID, owner: str, timeout_s: float) -> tuple[Window, bool]:
        """A new window, or the owner's open one with a deadline no earlier than before; and which.

        Blocks while the VM is being thawed: that thaw would undo the new freeze behind its owner's back.

        Raises:
            FrozenByAnother, FreezeFailed (an earlier freeze is not over), ShuttingDown
        """
        with self._changed:
            if vm_id not in self._open and not self._changed.wait_for(
                lambda: not self._thaws[vm_id], _THAW_UNDER_WAY_S
            ):
                raise errors.FreezeFailed(vm_id, "a thaw is still under way")
            if self._closing:
                raise errors.ShuttingDown
            deadline_s = time.monotonic() + timeout_s
            window = self._open.get(vm_id)
            if window is None:
                window = Window(vm_id, owner, deadline_s)
                put_on_record(self._records, window)
                self._expired.forget(vm_id)
                self._open[vm_id] = window
                return window, True
            if window.owner != owner:
                raise errors.FrozenByAnother(vm_id, window.owner)
            if window.state != "frozen":
                raise errors.FreezeFailed(vm_id, f"an earlier freeze is still {window.state}")
            self._extend(window, deadline_s)
            return window, False

    def extend(self, vm_id: UUID, owner: str, timeout_s: float) -> Window:
        """The owner's open window, its deadline no earlier than before. Blocks on the disk.

        Raises:
            NotFrozen: there is none, or it is being thawed.
            FrozenByAnother, FreezeFailed (the longer lease could not be recorded; the old one holds)
        """
        with self._changed:
            window = self._open.get(vm_id)
            if window is None or window.state != "frozen":
                raise errors.NotFrozen(vm_id)
            if window.owner != owner:
                raise errors.FrozenByAnother(vm_id, window.owner)
            self._extend(window, time.monotonic() + timeout_s)
            return window

    def adopt(self) -> list[Window]:
        """Take over the windows that a daemon before this one left on disk: those that run keep their
        deadline, the others are thawed from now on. Blocks on the disk."""
        with self._changed:
            for record in self._records.load():
                window = self._open[record.vm_id] = Window.of_record(record)
                self.told.found(window)
                if window.state == "frozen" and record.left_s() <= 0:
                    window.state = "thawing"
                    self._ran_out(window)
            self._changed.notify_all()
            return list(self._open.values())

    def take_over(self, vm_id: UUID, reason: str) -> None:
        """Thaw a guest that somebody unknown froze, again and again. Blocks on the disk."""
        window = Window(vm_id, "virtcephd", time.monotonic(), state="uncertain", broken=reason)
        window.cause = "found"
        with self._changed:
            if vm_id in self._open or self._closing:
                return
            try:
                put_on_record(self._records, window)
            except errors.FreezeFailed as error:
                log.error("%s %s", error.message, facts(vm=vm_id))
            self._open[vm_id] = window
            self._changed.notify_all()

    def _extend(self, window: Window, deadline_s: float) -> None:
        before_s = window.deadline_s
        window.deadline_s = max(before_s, deadline_s)
        try:
            put_on_record(self._records, window)
        except errors.FreezeFailed:
            window.deadline_s = before_s
            raise

    def frozen(self, window: Window, filesystems: int) -> bool:
        """The guest is frozen; False when nobody wants that any more (it is thawed from now on)."""
        with self._changed:
            window.filesystems = filesystems
            try:
                put_on_record(self._records, window)
            except errors.FreezeFailed:
                # The first record holds: a daemon that finds it undoes the freeze.
                log.exception("record not renewed %s", facts(vm=window.vm_id, window=window.id))
            # Under the lock: before it can be told that it is over.
            self.told.frozen(window)
            window.state = "thawing" if window.unwanted else "frozen"
            if window.unwanted:
                window.deadline_s = time.monotonic()
            self._changed.notify_all()
            return not window.unwanted

    @contextmanager
    def thawing(self, vm_id: UUID) -> Iterator[Window | None]:
        """The open window of a VM that is thawed in this block; no new one opens meanwhile."""
        with self._changed:
            self._thaws[vm_id] += 1
            window = self._open.get(vm_id)
        try:
            yield window
        finally:
            with self._changed:
                self._thaws[vm_id] -= 1
                if not self._thaws[vm_id]:
                    del self._thaws[vm_id]
                self._changed.notify_all()

    def claim(self, window: Window, caller: str, force: bool, timeout_s: float) -> Window | None:
        """Let `caller` thaw the window's guest; None when it ended meanwhile. A freeze under way is
        waited for: a thaw that overtook it would leave the guest frozen without a lease.

        Raises:
            ThawNeedsForce: somebody else's, and no force.
            GuestAgentUnresponsive: the freeze goes on; the daemon thaws the guest when it is done.
        """
        with self._changed:
            if window.owner != caller:
                if not force:
                    raise errors.ThawNeedsForce(window.vm_id, window.owner)
                log.warning(
                    "thaw by force %s", facts(vm=window.vm_id, owner=window.owner, caller=caller)
                )
                window.broken = window.broken or f"{caller} thawed it by force"
            window.cause = "verb" if window.owner == caller else "force"
            window.thawed_by = caller
            if window.state == "freezing":
                window.unwanted = True
                window.broken = window.broken or "a thaw was asked for during the freeze"
                if not self._changed.wait_for(lambda: window.state != "freezing", timeout_s):
                    raise errors.GuestAgentUnresponsive(window.vm_id, timeout_s)
            if window.state == "frozen":
                window.state = "thawing"
            return window if window.result is None else None

    def hand_over(
        self, window: Window, state: str, broken: str | None = None, cause: str = "verb"
    ) -> None:
        """Let the daemon itself thaw the guest from now on, again and again."""
        with self._changed:
            if window.result is not None:
                return
            window.state, window.broken, window.cause = state, window.broken or broken, cause
            window.deadline_s = min(window.deadline_s, time.monotonic())
            window.next_try_s, window.tries = 0.0, 0
            self._changed.notify_all()

    def take_due(self) -> list[Window]:
        """The windows whose guests the daemon shall thaw now, marked as being rescued. Blocks until
        there are some; none when closed."""
        with self._changed:
            while not self._closed:
                now_s = time.monotonic()
                if due := due_of(self._open.values(), now_s):
                    for window in due:
                        self._mark_due(window)
                    return due
                # Those that are due already wait for a thread: `try_again` and `end` wake us.
                later = (w.due_s() for w in self._open.values() if w.due_s() > now_s)
                soonest_s = min(later, default=now_s + 3600)
                self._changed.wait(min(soonest_s - now_s, 3600))
            return []

    def _mark_due(self, window: Window) -> None:
        window.rescued = True
        window.tries += 1
        if window.state == "frozen":
            # Said here, under the lock: from now on nobody can extend it.
            window.state = "thawing"
            self._ran_out(window)

    def _ran_out(self, window: Window) -> None:
        window.broken, window.cause = window.broken or RAN_OUT, "lease"
        self._expired.add(window.vm_id, RAN_OUT)
        self.told.ran_out(window)

    def break_(self, vm_id: UUID, reason: str) -> None:
        """Say that an open freeze did not hold."""
        with self._changed:
            if (window := self._open.get(vm_id)) and window.broken is None:
                window.broken = reason
                log.warning("freeze broken %s", facts(vm=vm_id, window=window.id, reason=reason))

    def interrupt(self, vm_id: UUID, reason: str, cause: str = "guest") -> None:
        """Say so, and thaw the guest from now on. A freeze under way is undone when it is done."""
        self.break_(vm_id, reason)
        with self._changed:
            if window := self._open.get(vm_id):
                window.unwanted, window.cause = True, cause
                if window.state != "freezing":
                    self.hand_over(window, "thawing", reason, cause)

    def break_all(self, reason: str) -> None:
        """Say so of every open one."""
        with self._changed:
            for vm_id in self._open:
                self.break_(vm_id, reason)

    def poke(self, vm_id: UUID) -> None:
        """Try now what would be tried later: the guest can be reached again."""
        with self._changed:
            if window := self._open.get(vm_id):
                window.next_try_s = 0.0
                self._changed.notify_all()

    def try_again(self, window: Window, delay_s: float) -> None:
        """This time the guest was not thawed."""
        with self._changed:
            window.rescued = False
            window.next_try_s = time.monotonic() + delay_s
            self._changed.notify_all()

    def at_end(self, window: Window, listener: Callable[[ThawResult], None]) -> bool:
        """Call `listener` once when the window ends; False when it has ended already."""
        with self._changed:
            if window.result is not None:
                return False
            window.at_end.append(listener)
            return True

    def end(self, window: Window, count: int, reason: str | None) -> ThawResult:
        """The guest is thawed (or gone, or was never frozen). Of two that end a window the first is
        right, and both are told the same."""
        with self._changed:
            if window.result is not None:
                return window.result
            result = window.result = outcome_of(window, count, reason)
            window.state = "ended"
            del self._open[window.vm_id]
            self._records.remove(window.vm_id)
            listeners, window.at_end = window.at_end, []
            self.told.ended(window, result)  # before anybody learns of it otherwise
            self._changed.notify_all()
        for listener in listeners:
            try:
                listener(result)
            except Exception:
                log.exception("a listener broke %s", facts(vm=window.vm_id, window=window.id))
        return result

    def close(self, timeout_s: float) -> list[UUID]:
        """Open no more, have those that are open thawed, and wait for that up to `timeout_s`; the
        VMs that are left frozen. Blocks."""
        with self._changed:
            self._closing = True
            for vm_id in list(self._open):
                self.interrupt(vm_id, "the daemon stopped", "stop")
            self._changed.wait_for(lambda: not self._open, timeout_s)
            self._closed = True
            self._changed.notify_all()
            return list(self._open)
