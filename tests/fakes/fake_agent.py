"""A guest and its agent, in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID

from virtceph import errors
from virtceph.virt.agent import FileSystem

TWO_FILE_SYSTEMS = [FileSystem("/", ("vda",)), FileSystem("/data", ("vdb",))]


class FakeAgent:
    """As `virt.agent.Agent`, for one guest. `mood` says how it answers:

    well      it answers
    silent    GuestAgentUnresponsive after `delay_s`; a freeze asked for is done later, by `wake`
    refusing  FreezeFailed, ThawFailed with `reason`
    paused, gone, down, absent, lost   the error of that state
    """

    def __init__(self, file_systems: list[FileSystem] | None = None) -> None:
        self.file_system_list = TWO_FILE_SYSTEMS if file_systems is None else file_systems
        self.mood, self.delay_s, self.reason = "well", 0.001, "the agent says no"
        self.frozen = False
        self.froze = self.thaws = self.put_backs = 0
        # How many file systems the agent says it froze and thawed; None: all of them.
        self.count: int | None = None
        self.thawed_count: int | None = None
        # So many thaws are answered and come to nothing.
        self.idle_thaws = 0
        self.in_freeze: Callable[[], None] = lambda: None
        self.in_thaw: Callable[[], None] = lambda: None
        self._queued = False
        self._one_at_a_time = threading.RLock()

    def freeze(self, vm_id: UUID, timeout_s: float) -> int:
        self.in_freeze()
        with self._one_at_a_time:
            if self.mood == "silent":
                self._queued = True
            self._answer(vm_id, timeout_s, errors.FreezePaused, errors.FreezeNoAgent)
            if self.mood == "refusing":
                raise errors.FreezeFailed(vm_id, self.reason)
            if self.frozen:
                raise errors.AlreadyFrozen(vm_id)
            return self._freeze()

    def _freeze(self) -> int:
        self.froze += 1
        count = len(self.file_system_list) if self.count is None else self.count
        self.frozen = count > 0
        return count

    def wake(self) -> None:
        """Answer again, after doing what was asked meanwhile."""
        with self._one_at_a_time:
            self.mood = "well"
            if self._queued:
                self._queued = False
                self._freeze()

    def thaw(self, vm_id: UUID, timeout_s: float) -> int:
        self.in_thaw()
        with self._one_at_a_time:
            self._answer(vm_id, timeout_s, errors.ThawPaused, errors.ThawNoAgent)
            if self.mood == "refusing":
                raise errors.ThawFailed(vm_id, self.reason)
            self.thaws += 1
            if self.idle_thaws:
                self.idle_thaws -= 1
                return 0
            was_frozen, self.frozen = self.frozen, False
            if not was_frozen:
                return 0
            if self.thawed_count is not None:
                return self.thawed_count
            return len(self.file_system_list) if self.count is None else self.count

    def is_frozen(self, vm_id: UUID, timeout_s: float) -> bool:
        self._answer(vm_id, timeout_s, errors.ThawPaused, errors.ThawNoAgent)
        return self.frozen

    def looks_frozen(self, vm_id: UUID, timeout_s: float) -> bool:
        return self.is_frozen(vm_id, timeout_s)

    def put_back(self, vm_id: UUID) -> None:
        self.put_backs += 1

    def file_systems(self, vm_id: UUID, timeout_s: float) -> list[FileSystem]:
        self._answer(vm_id, timeout_s, errors.ThawPaused, errors.ThawNoAgent)
        if self.frozen or self.mood == "refusing":
            raise errors.ThawFailed(vm_id, "the agent is in frozen state")
        return self.file_system_list

    def _answer(
        self, vm_id: UUID, timeout_s: float, paused: type[Exception], absent: type[Exception]
    ) -> None:
        if self.mood == "silent":
            time.sleep(self.delay_s)
            raise errors.GuestAgentUnresponsive(vm_id, timeout_s)
        if self.mood == "lost":
            raise errors.LibvirtUnavailable("libvirtd went away")
        kinds = {"paused": paused, "absent": absent, "gone": errors.NoSuchVM, "down": errors.VMDown}
        if self.mood in kinds:
            raise kinds[self.mood](vm_id)
