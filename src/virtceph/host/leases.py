"""Freeze leases: no guest stays frozen longer than its caller asked for.

    freezing ──► frozen ──► (thawed)          thaw by its owner, or by force
        │           └─────► thawing ──► (thawed)   the lease ran out, or a thaw failed
        └─────► uncertain ──► (thawed)        the agent did not answer the freeze: it may come later

A window is the time between a freeze and its thaw. In `thawing` and `uncertain` the daemon asks again
and again, until the guest itself says that it is thawed or is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from virtceph import errors, request
from virtceph.log import facts
from virtceph.schema import wire
from virtceph.virt.agent import Agent, FileSystem
from virtceph.virt.domains import Domains

log = logging.getLogger(__name__)

# Engines wait 180 s for a reply, so a freeze may not take longer than this, nor half its lease.
_FREEZE_MAX_S = 150.0
_THAW_S = 10.0
_RESCUE_CALL_S = 2.0
_RESCUE_THREADS = 8
_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)


@wire("FreezeResult")
@dataclass(frozen=True)
class FreezeResult:
    window_id: UUID
    filesystems: int
    expires_in_s: float


@wire("ThawResult")
@dataclass(frozen=True)
class ThawResult:
    window_id: UUID | None
    filesystems: int
    frozen_for_s: float
    intact: bool
    reason: str


@wire("Lease")
@dataclass(frozen=True)
class Lease:
    window_id: UUID
    owner: str
    since_s: float
    expires_in_s: float
    state: str


@wire("FreezeStatus")
@dataclass(frozen=True)
class FreezeStatus:
    guest: str
    reason: str | None
    lease: Lease | None


@dataclass
class Window:
    """A freeze under way. `broken` says why it did not hold, once that is known."""

    vm_id: UUID
    owner: str
    deadline_s: float
    id: UUID = field(default_factory=uuid4)
    state: str = "freezing"
    since_s: float = field(default_factory=time.time)
    began_s: float = field(default_factory=time.monotonic)
    filesystems: int = 0
    mounted: list[FileSystem] | None = None
    broken: str | None = None
    next_try_s: float = 0.0
    tries: int = 0
    at_end: list[Callable[[ThawResult], None]] = field(default_factory=list)


class Leases:
    """The freezes of this host. `agent` serves callers, `rescuer` (with connections of its own) the
    thaws that nobody waits for."""

    def __init__(
        self, domains: Domains, agent: Agent, rescuer: Agent, agent_timeout_s: float
    ) -> None:
        self._domains, self._agent, self._rescuer = domains, agent, rescuer
        self._agent_timeout_s = agent_timeout_s
        self._windows: dict[UUID, Window] = {}
        self._lock = threading.Condition()
        self._closed = False
        self._rescuers = ThreadPoolExecutor(_RESCUE_THREADS, "rescue")
        self._reaper = threading.Thread(target=self._reap, name="lease-reaper", daemon=True)
        self._reaper.start()

    # --- verbs ---

    def freeze(self, vm_id: UUID, timeout_s: float) -> FreezeResult:
        """Freeze every file system of a guest for at most `timeout_s`. Blocks up to half of that.

        Raises:
            NoSuchVM, VMDown, FreezePaused, FreezeNoAgent, AlreadyFrozen, FrozenByAnother,
            NothingFrozen, FreezeFailed, GuestAgentUnresponsive, LibvirtUnavailable
        """
        owner = request.current().caller
        if self._domains.require_running(vm_id) == "Paused":
            raise errors.FreezePaused(vm_id)
        window, is_new = self._open_window(vm_id, owner, timeout_s)
        if is_new:
            self._freeze_new(window, min(timeout_s / 2, _FREEZE_MAX_S))
            log.info(
                "froze %s",
                facts(
                    vm=vm_id,
                    window=window.id,
                    filesystems=window.filesystems,
                    elapsed_s=time.monotonic() - window.began_s,
                ),
            )
        return FreezeResult(window.id, window.filesystems, _left_s(window))

    def thaw(self, vm_id: UUID, force: bool) -> ThawResult:
        """Thaw a guest; whether its freeze held. Blocks. A guest that is not frozen is thawed already.

        Raises:
            NoSuchVM, VMDown, ThawPaused, ThawNoAgent, ThawNeedsForce, ThawFailed,
            GuestAgentUnresponsive, LibvirtUnavailable
        """
        caller = request.current().caller
        window = self.window_of(vm_id)
        if window is not None and window.owner != caller:
            if not force:
                raise errors.ThawNeedsForce(vm_id, window.owner)
            log.warning("thaw by force %s", facts(vm=vm_id, owner=window.owner, caller=caller))
            window.broken = window.broken or f"{caller} thawed it by force"
        try:
            self._domains.require_running(vm_id)
            count, reason = self._thaw(self._agent, vm_id, _THAW_S)
        except (errors.NoSuchVM, errors.VMDown):
            if window is not None:
                self._end(window, 0, "the guest is gone")
            raise
        except errors.VirtcephError:
            # Its owner wants it thawed: go on until it is.
            if window is not None:
                self._rescue_from_now(window, "thawing")
            raise
        if window is None:
            return ThawResult(None, count, 0.0, False, reason or "no freeze of this daemon's")
        return self._end(window, count, reason)

    def status(self, vm_id: UUID) -> FreezeStatus:
        """What the guest says, and the open lease. Blocks. Raises NoSuchVM, VMDown."""
        self._domains.require_running(vm_id)
        window = self.window_of(vm_id)
        lease = None if window is None else _lease(window)
        guest, reason = self.ask(vm_id)
        return FreezeStatus(guest, reason, lease)

    # --- for snapshots ---

    def ask(self, vm_id: UUID) -> tuple[str, str | None]:
        """`frozen`, `thawed`, or `unknown` and why. Blocks up to the agent's time-out."""
        try:
            frozen = self._agent.is_frozen(vm_id, self._agent_timeout_s)
        except errors.VirtcephError as error:
            return "unknown", error.message
        return ("frozen" if frozen else "thawed"), None

    def window_of(self, vm_id: UUID) -> Window | None:
        """The open window of a VM."""
        with self._lock:
            return self._windows.get(vm_id)

    def at_end(self, window: Window, listener: Callable[[ThawResult], None]) -> bool:
        """Call `listener` when the window ends; False when it has ended already."""
        with self._lock:
            if self._windows.get(window.vm_id) is not window:
                return False
            window.at_end.append(listener)
            return True

    def frozen_count(self) -> int:
        """How many windows are open."""
        with self._lock:
            return len(self._windows)

    def close(self, timeout_s: float) -> None:
        """Thaw what is open, for up to `timeout_s`, and stop. Blocks."""
        with self._lock:
            windows = list(self._windows.values())
        for window in windows:
            window.broken = window.broken or "the daemon stopped"
            self._rescue_from_now(window, "thawing")
        with self._lock:
            self._lock.wait_for(lambda: not self._windows, timeout_s)
            left = [str(window.vm_id) for window in self._windows.values()]
            self._closed = True
            self._lock.notify_all()
        if left:
            log.error("guests left frozen %s", facts(vms=",".join(left)))
        self._rescuers.shutdown(wait=False, cancel_futures=True)

    # --- inside ---

    def _open_window(self, vm_id: UUID, owner: str, timeout_s: float) -> tuple[Window, bool]:
        deadline_s = time.monotonic() + timeout_s
        with self._lock:
            window = self._windows.get(vm_id)
            if window is None:
                window = self._windows[vm_id] = Window(vm_id, owner, deadline_s)
                self._lock.notify_all()
                return window, True
            if window.owner != owner:
                raise errors.FrozenByAnother(vm_id, window.owner)
            if window.state != "frozen":
                raise errors.FreezeFailed(vm_id, f"an earlier freeze is still {window.state}")
            window.deadline_s = max(window.deadline_s, deadline_s)
            return window, False

    def _freeze_new(self, window: Window, budget_s: float) -> None:
        vm_id = window.vm_id
        end_s = time.monotonic() + budget_s
        try:
            # Asked first, since a frozen guest no longer tells; a dead agent is found out here, where
            # nothing is left behind.
            window.mounted = self._mounted(vm_id, min(budget_s, self._agent_timeout_s))
        except errors.VirtcephError:
            self._forget(window)
            raise
        try:
            count = self._agent.freeze(vm_id, max(1.0, end_s - time.monotonic()))
        except (errors.GuestAgentUnresponsive, errors.LibvirtUnavailable):
            self._rescue_from_now(window, "uncertain")
            raise
        except errors.FreezeFailed:
            # The agent's hooks may have run before it failed: thaw runs their other half.
            self._rescue_from_now(window, "uncertain")
            raise
        except errors.VirtcephError:
            self._forget(window)
            raise
        if count == 0:
            self._forget(window)
            raise errors.NothingFrozen(vm_id)
        with self._lock:
            window.filesystems, window.state = count, "frozen"
            self._lock.notify_all()

    def _mounted(self, vm_id: UUID, timeout_s: float) -> list[FileSystem] | None:
        try:
            return self._agent.file_systems(vm_id, timeout_s)
        except errors.ThawNoAgent as error:
            raise errors.FreezeNoAgent(vm_id) from error
        except errors.ThawPaused as error:
            raise errors.FreezePaused(vm_id) from error
        except errors.ThawFailed:
            # Frozen by somebody else, or an agent that cannot tell: the freeze itself will show.
            return None

    def _thaw(self, agent: Agent, vm_id: UUID, timeout_s: float) -> tuple[int, str | None]:
        """Thaw; how many file systems, and why the freeze had not held if the agent says so."""
        try:
            return agent.thaw(vm_id, timeout_s), None
        except errors.ThawFailed as error:
            # Some agents answer an error and are thawed all the same (VSS after its 10 s).
            if agent.is_frozen(vm_id, timeout_s):
                raise
            return 0, error.reason

    def _forget(self, window: Window) -> None:
        with self._lock:
            self._windows.pop(window.vm_id, None)
            self._lock.notify_all()

    def _rescue_from_now(self, window: Window, state: str) -> None:
        with self._lock:
            window.state = state
            window.deadline_s = min(window.deadline_s, time.monotonic())
            window.next_try_s = 0.0
            self._lock.notify_all()

    def _end(self, window: Window, count: int, reason: str | None) -> ThawResult:
        elapsed_s = time.monotonic() - window.began_s
        broken = window.broken or reason
        if broken is None and count != window.filesystems:
            broken = f"{window.filesystems} file systems were frozen and {count} thawed"
        result = ThawResult(
            window.id, count, elapsed_s, broken is None, broken or "held throughout"
        )
        with self._lock:
            if self._windows.get(window.vm_id) is window:
                del self._windows[window.vm_id]
            listeners, window.at_end = window.at_end, []
            self._lock.notify_all()
        log.info(
            "thawed %s",
            facts(
                vm=window.vm_id,
                window=window.id,
                filesystems=count,
                frozen_s=elapsed_s,
                intact=result.intact,
                reason=result.reason,
            ),
        )
        for listener in listeners:
            listener(result)
        return result

    # --- the reaper ---

    def _reap(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    return
                now_s = time.monotonic()
                due = [w for w in self._windows.values() if _due_s(w) <= now_s]
                for window in due:
                    delay_s = _BACKOFF_S[min(window.tries, len(_BACKOFF_S) - 1)]
                    window.tries += 1
                    window.next_try_s = now_s + delay_s + _RESCUE_CALL_S
                if not due:
                    soonest_s = min(map(_due_s, self._windows.values()), default=now_s + 3600)
                    self._lock.wait(min(soonest_s - now_s, 3600))
            for window in due:
                self._rescuers.submit(self._rescue, window)

    def _rescue(self, window: Window) -> None:
        if window.state == "frozen":
            log.warning("lease ran out %s", facts(vm=window.vm_id, window=window.id))
            window.broken = window.broken or "the lease ran out"
            window.state = "thawing"
        try:
            count, reason = self._thaw(self._rescuer, window.vm_id, _RESCUE_CALL_S)
            if self._rescuer.is_frozen(window.vm_id, _RESCUE_CALL_S):
                return
        except (errors.NoSuchVM, errors.VMDown):
            count, reason = 0, "the guest is gone"
        except errors.VirtcephError as error:
            log.warning(
                "not thawed yet %s", facts(vm=window.vm_id, tries=window.tries, reason=error)
            )
            return
        except Exception:
            log.exception("rescue broke %s", facts(vm=window.vm_id))
            return
        if window.state == "uncertain":
            reason = reason or "the freeze was not confirmed"
        self._end(window, count, reason)


def _due_s(window: Window) -> float:
    if window.state == "freezing":
        return float("inf")
    return max(window.deadline_s, window.next_try_s)


def _left_s(window: Window) -> float:
    return max(0.0, window.deadline_s - time.monotonic())


def _lease(window: Window) -> Lease:
    return Lease(window.id, window.owner, window.since_s, _left_s(window), window.state)
