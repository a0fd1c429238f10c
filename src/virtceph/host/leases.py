"""Freeze leases: no guest stays frozen longer than its caller asked for.

    freezing ──► frozen ──► (thawed)          thaw by its owner, or by force
        │           └─────► thawing ──► (thawed)   the lease ran out, or a thaw failed
        └─────► uncertain ──► (thawed)        the agent did not answer the freeze: it may come later

A window is the time between a freeze and its thaw. In `thawing` and `uncertain` the daemon asks again
and again, until the guest itself says that it is thawed or is gone (`rescue`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID

from virtceph import errors, request
from virtceph.host.events import Tell, untold
from virtceph.host.freezetold import NEVER_FROZEN, FreezeTold
from virtceph.host.leasebook import Windows
from virtceph.host.records import ExpiredLeases, LeaseRecords
from virtceph.host.rescue import GONE, Rescue, thaw_guest
from virtceph.host.windows import (
    UNCONFIRMED,
    FreezeResult,
    FreezeStatus,
    Lease,
    LeaseExtended,
    ThawResult,
    Window,
)
from virtceph.log import facts
from virtceph.virt.agent import Agent, FileSystem
from virtceph.virt.domains import Domains
from virtceph.virt.events import DomainEvent, Happened

__all__ = [
    "FreezeResult",
    "FreezeStatus",
    "Lease",
    "LeaseExtended",
    "Leases",
    "ThawResult",
    "Window",
]

log = logging.getLogger(__name__)

# A guest that can be asked again; a guest that is another one from here on.
_REACHABLE = (Happened.AGENT_BACK, Happened.RESUMED, Happened.ARRIVED)
_ANEW = (Happened.RESET, Happened.STOPPED, Happened.LEFT)

# Engines wait 180 s for a reply, so a freeze may not take longer than this, nor half its lease.
_FREEZE_MAX_S = 150.0
_THAW_S = 10.0
# After these the freeze was not even begun. After anything else it may have been, or may come later.
_NOT_BEGUN = (
    errors.NoSuchVM,
    errors.VMDown,
    errors.FreezePaused,
    errors.FreezeNoAgent,
    errors.AlreadyFrozen,
    errors.LibvirtFailed,
    errors.LaneBusy,
)


class Leases:
    """The freezes of this host. `agent` serves callers, `rescuer` the thaws that nobody waits for."""

    def __init__(
        self,
        domains: Domains,
        agent: Agent,
        rescuer: Agent,
        agent_timeout_s: float,
        records: LeaseRecords,
        expired: ExpiredLeases,
        max_lease_s: float = 600.0,
        tell: Tell = untold,
    ) -> None:
        self._domains, self._agent = domains, agent
        self._agent_timeout_s, self._max_lease_s = agent_timeout_s, max_lease_s
        self._expired = expired
        self._windows = Windows(records, expired, FreezeTold(tell))
        self._rescue = Rescue(self._windows, rescuer)

    # --- verbs ---

    def freeze(self, vm_id: UUID, timeout_s: float) -> FreezeResult:
        """Freeze every file system of a guest for at most `timeout_s`. Blocks up to half of that.

        Raises:
            InvalidParameter, NoSuchVM, VMDown, FreezePaused, FreezeNoAgent, AlreadyFrozen, FrozenByAnother,
            NothingFrozen, FreezeFailed, GuestAgentUnresponsive, LibvirtUnavailable, ShuttingDown
        """
        owner = request.current().caller
        self.require_short(timeout_s)
        if self._domains.require_running(vm_id) == "Paused":
            raise errors.FreezePaused(vm_id)
        window, is_new = self._windows.open(vm_id, owner, timeout_s)
        if is_new:
            self._freeze_new(window, min(timeout_s / 2, _FREEZE_MAX_S))
        return FreezeResult(window.id, window.filesystems, window.left_s())

    def extend(self, vm_id: UUID, timeout_s: float) -> LeaseExtended:
        """Let the caller's freeze last until `timeout_s` from now, unless it lasts longer already.

        Raises:
            InvalidParameter, NotFrozen, FrozenByAnother, FreezeFailed
        """
        self.require_short(timeout_s)
        window = self._windows.extend(vm_id, request.current().caller, timeout_s)
        log.info("extended %s", facts(vm=vm_id, window=window.id, left_s=window.left_s()))
        return LeaseExtended(window.id, window.left_s())

    def adopt(self) -> list[Window]:
        """Take over what a daemon before this one left frozen, and tell of it. Blocks on the disk."""
        return self._windows.adopt()

    def thaw(self, vm_id: UUID, force: bool) -> ThawResult:
        """Thaw a guest; whether its freeze held. Blocks. A guest that is not frozen is thawed already.

        Raises:
            NoSuchVM, VMDown, ThawPaused, ThawNoAgent, ThawNeedsForce, ThawFailed,
            GuestAgentUnresponsive, LibvirtUnavailable
        """
        caller = request.current().caller
        try:
            return self._thaw(vm_id, caller, force)
        finally:
            self._put_back(vm_id)

    def _thaw(self, vm_id: UUID, caller: str, force: bool) -> ThawResult:
        with self._windows.thawing(vm_id) as window:
            if window is not None:
                window = self._windows.claim(window, caller, force, _THAW_S)
            try:
                self._domains.require_running(vm_id)
                count, reason = thaw_guest(self._agent, vm_id, _THAW_S)
            except (errors.NoSuchVM, errors.VMDown):
                if window is not None:
                    window.cause = "gone"
                    self._windows.end(window, 0, GONE)
                raise
            except BaseException:
                # Its owner wants it thawed: go on until it is.
                if window is not None:
                    self._windows.hand_over(window, "thawing")
                raise
            before = self._expired.forget(vm_id) or "no freeze of this daemon's"
            if window is None:
                return ThawResult(None, count, 0.0, False, reason or before)
            return self._windows.end(window, count, reason)

    def status(self, vm_id: UUID) -> FreezeStatus:
        """What the guest says, and the open lease. Blocks. Raises NoSuchVM, VMDown."""
        self._domains.require_running(vm_id)
        guest, reason = self.ask(vm_id)
        # Afterwards: a guest that hangs may outlast its lease with this question.
        lease = window.lease() if (window := self.window_of(vm_id)) else None
        return FreezeStatus(guest, reason, lease)

    # --- what happens to guests ---

    def happened(self, event: DomainEvent) -> None:
        """Take notice of what libvirt tells of a domain. May block on the disk."""
        vm_id, what = event.vm_id, event.what
        reason = f"{what.value} while it was frozen"
        if what in _REACHABLE:
            self._windows.poke(vm_id)
        elif what in (Happened.AGENT_LOST, Happened.DEVICE_REMOVED):
            self._windows.break_(vm_id, reason)
        elif what is not Happened.MIGRATING or self._migrates(vm_id):
            # Whether the VM is gone is asked when it is thawed: what is told here may be old.
            self._windows.interrupt(vm_id, reason)
        if what in _ANEW:
            self._expired.forget(vm_id)

    def _migrates(self, vm_id: UUID) -> bool:
        # QEMU saves memory by a migration into a file, and libvirt tells of it in the same words.
        if self._windows.of(vm_id) is None:
            return False
        try:
            return self._domains.is_migrating(vm_id)
        except errors.VirtcephError:
            return True

    def thaw_stranger(self, vm_id: UUID, reason: str) -> None:
        """Thaw a guest that is frozen without a lease, again and again. Blocks on the disk."""
        self._windows.take_over(vm_id, reason)

    def libvirt_lost(self, reason: str) -> None:
        """Without libvirt nobody tells what happens to the guests. Does not block."""
        self._windows.break_all(f"libvirt was not watched while it was frozen: {reason}")

    # --- for snapshots ---

    def ask(self, vm_id: UUID) -> tuple[str, str | None]:
        """`frozen`, `thawed`, or `unknown` and why. Blocks up to the agent's time-out."""
        try:
            frozen = self._agent.is_frozen(vm_id, self._agent_timeout_s)
        except errors.VirtcephError as error:
            return "unknown", error.message
        finally:
            self._put_back(vm_id)
        return ("frozen" if frozen else "thawed"), None

    def require_not_expired(self, vm_id: UUID) -> None:
        """Refuse to work under a freeze that the clock has ended. Blocks on the disk.

        Raises:
            SnapshotFailed: the lease of this VM ran out, and its caller does not know it yet.
        """
        if reason := self._expired.reason(vm_id):
            raise errors.SnapshotFailed(vm_id, "the freeze", reason)

    def require_short(self, timeout_s: float, field: str = "timeout") -> None:
        """Refuse a lease that is longer than this host allows. Raises InvalidParameter with `field`."""
        if timeout_s > self._max_lease_s:
            at_most = f"at most {self._max_lease_s:g} seconds, as this host is configured"
            raise errors.InvalidParameter(field, at_most)

    def window_of(self, vm_id: UUID) -> Window | None:
        """The open window of a VM."""
        return self._windows.of(vm_id)

    def at_end(self, window: Window, listener: Callable[[ThawResult], None]) -> bool:
        """Call `listener` once when the window ends; False when it has ended already."""
        return self._windows.at_end(window, listener)

    def frozen_count(self) -> int:
        """How many windows are open."""
        return self._windows.by_state().total()

    def by_state(self) -> Counter[str]:
        """How many windows are in each state."""
        return self._windows.by_state()

    def close(self, timeout_s: float) -> None:
        """Thaw what is open, for up to `timeout_s`, and stop. Blocks."""
        left = self._windows.close(timeout_s)
        if left:
            log.error("guests left frozen %s", facts(vms=",".join(map(str, left))))
        self._rescue.close()

    # --- inside ---

    def _freeze_new(self, window: Window, budget_s: float) -> None:
        vm_id = window.vm_id
        end_s = time.monotonic() + budget_s
        try:
            # Asked first, since a frozen guest no longer tells; a dead agent is found out here, where
            # nothing is left behind.
            window.mounted = self._mounted(vm_id, min(budget_s, self._agent_timeout_s))
        except BaseException:
            self._forget(window)
            raise
        # From here on the guest may be frozen.
        window.since_s, window.began_s = time.time(), time.monotonic()
        try:
            count = self._agent.freeze(vm_id, max(1.0, end_s - time.monotonic()))
        except _NOT_BEGUN:
            self._forget(window)
            raise
        except BaseException:
            # Unanswered, it may come later; refused, the agent's hooks may have run before it failed,
            # and thaw runs their other half.
            self._windows.hand_over(window, "uncertain", UNCONFIRMED, "uncertain")
            raise
        if count == 0:
            self._forget(window)
            raise errors.NothingFrozen(vm_id)
        if not self._windows.frozen(window, count):
            raise errors.FreezeFailed(vm_id, "a thaw was asked for meanwhile")

    def _forget(self, window: Window) -> None:
        window.cause = NEVER_FROZEN
        self._windows.end(window, 0, "the guest was not frozen")
        self._put_back(window.vm_id)

    def _put_back(self, vm_id: UUID) -> None:
        # While a window is open the rescue and the guard set limits of their own.
        if self._windows.of(vm_id) is None:
            self._agent.put_back(vm_id)

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
