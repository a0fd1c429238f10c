"""What is told of freezes, in the log and by events: begun, found, run out, not thawed yet, over."""

from __future__ import annotations

import logging
import time

from virtceph.events import LeaseExpired, VMFrozen, VMNotThawed, VMThawed
from virtceph.host.events import Tell, untold
from virtceph.host.windows import ThawResult, Window
from virtceph.log import facts

log = logging.getLogger(__name__)

# The cause of a window's end whose guest never was frozen: nobody was told that it is.
NEVER_FROZEN = ""


class FreezeTold:
    """Tells of windows. Nothing here blocks."""

    def __init__(self, tell: Tell = untold) -> None:
        self._tell = tell

    def frozen(self, window: Window) -> None:
        """The guest says that it is frozen."""
        log.info(
            "froze %s",
            facts(
                vm=window.vm_id,
                window=window.id,
                filesystems=window.filesystems,
                elapsed_s=time.monotonic() - window.began_s,
            ),
        )
        self._frozen(window, adopted=False)

    def found(self, window: Window) -> None:
        """A daemon before this one left it."""
        told = facts(vm=window.vm_id, window=window.id, state=window.state, left_s=window.left_s())
        log.warning("found a lease %s", told)
        self._frozen(window, adopted=True)

    def _frozen(self, window: Window, *, adopted: bool) -> None:
        left_s = window.left_s()
        self._tell(
            VMFrozen(window.vm_id, window.id, window.owner, window.filesystems, left_s, adopted)
        )

    def ran_out(self, window: Window) -> None:
        """Its lease is over, and the daemon thaws the guest."""
        log.warning("lease ran out %s", facts(vm=window.vm_id, window=window.id))
        self._tell(LeaseExpired(window.vm_id, window.id, window.owner))

    def not_thawed(self, window: Window, reason: str) -> None:
        """A thaw of the daemon's own came to nothing so far."""
        tries = window.tries
        log.warning("not thawed yet %s", facts(vm=window.vm_id, tries=tries, reason=reason))
        # At 1, 2, 4 …: a guest that hangs for days shall not push all else out of what is kept.
        if tries & (tries - 1) == 0:
            self._tell(VMNotThawed(window.vm_id, window.id, window.owner, tries, reason))

    def ended(self, window: Window, result: ThawResult) -> None:
        """It is over."""
        log.info(
            "thawed %s",
            facts(
                vm=window.vm_id,
                window=window.id,
                cause=window.cause,
                filesystems=result.filesystems,
                frozen_s=result.frozen_for_s,
                intact=result.intact,
                reason=result.reason,
            ),
        )
        if window.cause == NEVER_FROZEN:
            return
        self._tell(
            VMThawed(
                window.vm_id,
                window.id,
                window.owner,
                window.cause,
                window.thawed_by,
                result.filesystems,
                result.frozen_for_s,
                result.intact,
                result.reason,
            )
        )
