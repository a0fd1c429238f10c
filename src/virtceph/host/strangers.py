"""Guests that are frozen although nobody here holds a lease: another tool's, or another host's.

They are looked for once, when the daemon starts, and when a VM arrives by migration: guests without a lease
are not polled.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from virtceph import errors
from virtceph.events import VMFoundFrozen
from virtceph.host.events import Tell, untold
from virtceph.host.leases import Leases
from virtceph.log import facts
from virtceph.virt.agent import Agent
from virtceph.virt.domains import Domains

log = logging.getLogger(__name__)

_ASK_S = 5.0
_THREADS = 4
# Who froze it is out of its reach on the host it came from, so nobody else will thaw it.
_ARRIVED = "it arrived frozen from another host"


class Strangers:
    """Looks for them. `policy` is `report`, `thaw` or `ignore`."""

    def __init__(
        self,
        domains: Domains,
        agent: Agent,
        leases: Leases,
        policy: str,
        tell: Tell = untold,
    ) -> None:
        self._domains, self._agent, self._leases = domains, agent, leases
        self._policy, self._tell = policy, tell
        self._threads = ThreadPoolExecutor(_THREADS, "strangers")

    def look_at_all(self) -> None:
        """Ask every running guest with an agent, in the background. Does not wait."""
        if self._policy != "ignore":
            self._threads.submit(self._look_at_all)

    def arrived(self, vm_id: UUID) -> None:
        """A VM has come from another host: thaw it if it is frozen. Does not wait."""
        if self._policy != "ignore":
            self._threads.submit(self._look_at, vm_id, _ARRIVED)

    def close(self) -> None:
        """Look no more. Does not wait."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _look_at_all(self) -> None:
        try:
            running = [d.vm_id for d in self._domains.states() if d.status == "Up"]
        except errors.VirtcephError as error:
            log.warning("did not look for frozen guests %s", facts(reason=error))
            return
        for vm_id in running:
            self._threads.submit(self._look_at, vm_id, None)

    def _look_at(self, vm_id: UUID, thaw_because: str | None) -> None:
        try:
            if self._leases.window_of(vm_id) is not None or not self._is_frozen(
                vm_id, has_arrived=thaw_because is not None
            ):
                return
        except errors.VirtcephError as error:
            # No agent, or one that does not answer: nobody can have frozen it by now, or tell.
            log.debug("not asked %s", facts(vm=vm_id, reason=error))
            return
        except Exception:
            log.exception("look broke %s", facts(vm=vm_id))
            return
        log.error("a guest is frozen by nobody known here %s", facts(vm=vm_id))
        if thaw_because is None and self._policy == "thaw":
            thaw_because = "it was frozen by nobody known here"
        self._tell(VMFoundFrozen(vm_id, thaw_because is not None))
        if thaw_because is not None:
            self._leases.thaw_stranger(vm_id, thaw_because)

    def _is_frozen(self, vm_id: UUID, *, has_arrived: bool) -> bool:
        agent = self._domains.describe(vm_id)[1].agent
        # libvirt tells of the agent of a guest that arrived a moment after it told of the guest.
        if agent == "absent" or (agent == "disconnected" and not has_arrived):
            return False
        try:
            return self._agent.looks_frozen(vm_id, _ASK_S)
        finally:
            if self._leases.window_of(vm_id) is None:
                self._agent.put_back(vm_id)
