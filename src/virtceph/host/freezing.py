"""A freeze of the daemon's own around the making of snapshots, and what it was worth."""

from __future__ import annotations

import time
from collections.abc import Callable
from uuid import UUID

from virtceph import errors
from virtceph.host.consistency import Verdict, judge
from virtceph.host.leases import FreezeResult, Leases, ThawResult, Window
from virtceph.host.making import Making

Work = Callable[[float], None]


def thaw_or_tell(leases: Leases, vm_id: UUID, window: Window | None) -> ThawResult:
    """Thaw, and tell how `window` went; a thaw that fails is told as one that did not hold. Blocks."""
    try:
        thaw = leases.thaw(vm_id, force=False)
    except errors.VirtcephError as error:
        # The lease goes on thawing; until when the freeze held is no longer sure.
        thaw = ThawResult(None, 0, 0.0, False, f"the thaw failed: {error.message}")
    # One that ended before, by its lease or by what happened to the guest, tells why itself.
    ended = window.result if window is not None else None
    return thaw if ended is None else ended


class Freezing:
    """The freeze of one set. `policy` is `required`, `preferred` or `no`; the guest is frozen for at most
    `at_most_s`, by its lease, whatever the work waits for."""

    def __init__(self, leases: Leases, making: Making, policy: str, at_most_s: float) -> None:
        self._leases, self._making = leases, making
        self._policy, self._at_most_s = policy, at_most_s
        self._vm_id = making.plan.vm_id
        self.frozen_for_s: float | None = None

    def run(self, work: Work) -> Verdict:
        """Freeze, do the work, thaw; how good what was made is. The work gets the moment (monotonic) by
        which it should be done. Blocks. The guest is thawed, whatever is raised.

        Raises:
            SnapshotFailed: the work's own, or a freeze that is required failed or did not hold.
        """
        if self._policy == "no":
            work(time.monotonic() + self._at_most_s)
            return Verdict("crash", "not frozen, as asked")
        try:
            began_s = time.monotonic()
            freeze = self._leases.freeze(self._vm_id, self._at_most_s)
        except errors.VirtcephError as error:
            self._refuse_if_required(error.message)
            work(time.monotonic() + self._at_most_s)
            return Verdict("crash", f"not frozen: {error.message}")
        window = self._leases.window_of(self._vm_id)
        # What the lease and its record took came before the guest was asked.
        asked_s = began_s if window is None else window.began_s
        self._making.took("prepare", asked_s - began_s)
        self._making.took("freeze", time.monotonic() - asked_s)
        verdict = self._frozen(freeze, window, work)
        if verdict.consistency != "filesystem":
            self._refuse_if_required(verdict.reason)
        return verdict

    def _frozen(self, freeze: FreezeResult, window: Window | None, work: Work) -> Verdict:
        try:
            work(time.monotonic() + (window.left_s() if window is not None else 0.0))
        finally:
            with self._making.timed("thaw"):
                thaw = thaw_or_tell(self._leases, self._vm_id, window)
        self.frozen_for_s = thaw.frozen_for_s
        mounted = window.mounted if window is not None else None
        return judge(thaw, freeze.filesystems, mounted, self._making.plan.covered())

    def _refuse_if_required(self, reason: str) -> None:
        if self._policy == "required":
            raise errors.SnapshotFailed(self._vm_id, "freeze", reason)
