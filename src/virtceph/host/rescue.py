"""The thaws that nobody waits for: of leases that ran out, and of freezes whose end is unknown."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from virtceph import errors
from virtceph.host.leasebook import Windows
from virtceph.host.windows import Window
from virtceph.log import facts
from virtceph.virt.agent import Agent

log = logging.getLogger(__name__)

# How long one attempt may take: longer each time, for an agent that answers, but late.
_CALL_S, _CALL_MAX_S = 2.0, 10.0
_THREADS = 12
_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 10.0)
GONE = "the guest is gone"


def thaw_guest(agent: Agent, vm_id: UUID, timeout_s: float) -> tuple[int, str | None]:
    """Thaw; how many file systems, and why the freeze had not held if the agent says so. Blocks.

    Raises:
        What Agent.thaw raises.
    """
    try:
        return agent.thaw(vm_id, timeout_s), None
    except errors.ThawFailed as error:
        # Some agents answer an error and are thawed all the same (VSS after its 10 s).
        if agent.is_frozen(vm_id, timeout_s):
            raise
        return 0, error.reason


class Rescue:
    """Thaws the guests of due windows, side by side, until each guest says that it is thawed or gone."""

    def __init__(self, windows: Windows, agent: Agent) -> None:
        self._windows, self._agent = windows, agent
        self._threads = ThreadPoolExecutor(_THREADS, "rescue")
        self._reaper = threading.Thread(target=self._reap, name="lease-reaper", daemon=True)
        self._reaper.start()

    def close(self) -> None:
        """Start nothing more. Does not wait."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _reap(self) -> None:
        while due := self._windows.take_due():
            for window in due:
                with contextlib.suppress(RuntimeError):  # shut down meanwhile
                    self._threads.submit(self._rescue, window)

    def _rescue(self, window: Window) -> None:
        try:
            with self._windows.thawing(window.vm_id) as open_now:
                if open_now is not window or self._thawed(window):
                    return
            reason = "the guest says that it is still frozen"
        except errors.VirtcephError as error:
            reason = error.message
        except Exception:
            log.exception("rescue broke %s", facts(vm=window.vm_id))
            reason = "see above"
        self._windows.told.not_thawed(window, reason)
        self._windows.try_again(window, _BACKOFF_S[min(window.tries, len(_BACKOFF_S)) - 1])

    def _thawed(self, window: Window) -> bool:
        """Thaw once, and end the window if the guest itself says that it is thawed, or is gone."""
        limit_s = min(_CALL_S * window.tries, _CALL_MAX_S)
        try:
            count, reason = thaw_guest(self._agent, window.vm_id, limit_s)
            if self._agent.is_frozen(window.vm_id, limit_s):
                return False
        except (errors.NoSuchVM, errors.VMDown):
            count, reason, window.cause = 0, GONE, "gone"
        self._windows.end(window, count, reason)
        self._agent.put_back(window.vm_id)
        return True
