"""The guest agent: freeze, thaw, status. Every call has a time-out, since libvirt's default is for ever."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import libvirt
import libvirt_qemu

from virtceph import errors
from virtceph.virt.connection import ConnectionPool
from virtceph.virt.faults import AgentFault, agent_fault, libvirt_faults, reason_of

_RECONNECT_S, _RETRY_S = 2.0, 0.1
_PUT_BACK_S = 0.5


class DomainLocks:
    """One agent call per domain at a time: libvirt would queue a second behind a hung first, where
    no time-out of ours could reach it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[UUID, tuple[threading.Lock, int]] = {}

    @contextlib.contextmanager
    def hold(self, vm_id: UUID, timeout_s: float) -> Iterator[None]:
        """Hold the domain's lock. Raises GuestAgentUnresponsive when it is not free in time."""
        with self._guard:
            lock, users = self._locks.get(vm_id, (threading.Lock(), 0))
            self._locks[vm_id] = (lock, users + 1)
        try:
            if not lock.acquire(timeout=max(0.0, timeout_s)):
                raise errors.GuestAgentUnresponsive(vm_id, timeout_s)
            try:
                yield
            finally:
                lock.release()
        finally:
            self._leave(vm_id)

    def _leave(self, vm_id: UUID) -> None:
        with self._guard:
            lock, users = self._locks[vm_id]
            if users == 1:
                del self._locks[vm_id]
            else:
                self._locks[vm_id] = (lock, users - 1)


@dataclass(frozen=True)
class FileSystem:
    """One mounted file system of a guest and the disks (targets) it lies on."""

    mountpoint: str
    targets: tuple[str, ...]


class Agent:
    """Guest agent calls over one pool of connections. `on_silent` is called whenever an agent did not answer
    in time."""

    def __init__(
        self,
        pool: ConnectionPool,
        locks: DomainLocks,
        on_silent: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool, self._locks, self._on_silent = pool, locks, on_silent

    def freeze(self, vm_id: UUID, timeout_s: float) -> int:
        """Freeze every mounted file system; how many. Blocks up to `timeout_s`.

        After GuestAgentUnresponsive the command is still queued in the guest: it may freeze later.
        Source: virDomainFSFreeze without mount points.

        Raises:
            NoSuchVM, VMDown, FreezePaused, FreezeNoAgent, AlreadyFrozen, FreezeFailed,
            GuestAgentUnresponsive, LibvirtUnavailable, LaneBusy
        """
        try:
            return self._freeze(vm_id, timeout_s)
        except errors.AlreadyFrozen as error:
            # Many agents say the same of a command that their administrator blocked.
            if self.is_frozen(vm_id, timeout_s):
                raise
            raise errors.FreezeFailed(vm_id, str(error.__cause__)) from error

    def _freeze(self, vm_id: UUID, timeout_s: float) -> int:
        with self._domain(vm_id, timeout_s) as (domain, left_s):
            try:
                self._limit(domain, left_s)
                return int(domain.fsFreeze())
            except libvirt.libvirtError as error:
                told = _told(_FREEZE, error, domain, vm_id, left_s)
                if isinstance(told, errors.GuestAgentUnresponsive):
                    self._on_silent()
                raise told from error

    def thaw(self, vm_id: UUID, timeout_s: float) -> int:
        """Thaw every file system; how many (0 when none was frozen). Blocks up to `timeout_s`.

        Source: virDomainFSThaw.

        Raises:
            NoSuchVM, VMDown, ThawPaused, ThawNoAgent, ThawFailed, GuestAgentUnresponsive,
            LibvirtUnavailable, LaneBusy
        """
        return int(self._ask(vm_id, timeout_s, lambda domain, _left_s: domain.fsThaw()))

    def is_frozen(self, vm_id: UUID, timeout_s: float) -> bool:
        """What the agent itself says. Blocks up to `timeout_s`. Source: QGA guest-fsfreeze-status.

        The query taints the domain in libvirt's eyes, so only guests with a lease, those a caller asks
        about, and those that look frozen are asked. Raises as `thaw` does.
        """
        answer = self._ask(
            vm_id,
            timeout_s,
            lambda domain, left_s: libvirt_qemu.qemuAgentCommand(
                domain, '{"execute":"guest-fsfreeze-status"}', _whole_seconds(left_s), 0
            ),
        )
        return bool(json.loads(answer)["return"] == "frozen")

    def looks_frozen(self, vm_id: UUID, timeout_s: float) -> bool:
        """Whether a guest is frozen, found out without tainting one that is not. Blocks up to twice
        `timeout_s`. Raises as `thaw` does.

        A frozen agent refuses guest-get-fsinfo. So does one whose administrator blocked it: such a one
        is asked outright.
        """
        try:
            self.file_systems(vm_id, timeout_s)
        except errors.ThawFailed as error:
            if refused_as_frozen(error):
                return self.is_frozen(vm_id, timeout_s)
        return False

    def file_systems(self, vm_id: UUID, timeout_s: float) -> list[FileSystem]:
        """The mounted file systems. Blocks up to `timeout_s`. A frozen guest refuses to tell.

        Source: virDomainGetFSInfo. Raises as `thaw` does.
        """
        found = self._ask(vm_id, timeout_s, lambda domain, _left_s: domain.fsInfo())
        return [FileSystem(mountpoint, tuple(targets)) for mountpoint, _, _, targets in found]

    def put_back(self, vm_id: UUID) -> None:
        """Give a domain libvirt's own time-out again (none), as other clients of it expect. Blocks
        shortly. To be called when nothing of ours is under way with its agent: a call that another
        process makes just then would be without a limit.

        Source: virDomainAgentSetResponseTimeout.
        """
        limit = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK
        with (
            contextlib.suppress(errors.VirtcephError, libvirt.libvirtError),
            self._domain(vm_id, _PUT_BACK_S) as (domain, _left_s),
        ):
            domain.agentSetResponseTimeout(limit, 0)

    def _ask(
        self, vm_id: UUID, timeout_s: float, call: Callable[[libvirt.virDomain, float], Any]
    ) -> Any:
        """One call that may be repeated. A libvirtd that was just restarted takes a moment to find
        the agent again, and until then answers at once that it does not respond."""
        patience_s = time.monotonic() + min(timeout_s, _RECONNECT_S)
        while True:
            try:
                with self._domain(vm_id, timeout_s) as (domain, left_s):
                    try:
                        self._limit(domain, left_s)
                        return call(domain, left_s)
                    except libvirt.libvirtError as error:
                        raise _told(_THAW, error, domain, vm_id, left_s) from error
            except errors.GuestAgentUnresponsive:
                if time.monotonic() >= patience_s:
                    self._on_silent()
                    raise
            time.sleep(_RETRY_S)

    @contextlib.contextmanager
    def _domain(self, vm_id: UUID, timeout_s: float) -> Iterator[tuple[libvirt.virDomain, float]]:
        """The domain, alone with its agent, and the seconds that are left of `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        with (
            self._locks.hold(vm_id, timeout_s),
            self._pool.connection(max(0.1, end_s - time.monotonic())) as connection,
        ):
            with libvirt_faults("look the domain up", vm_id):
                domain = connection.lookupByUUIDString(str(vm_id))
            yield domain, max(1.0, end_s - time.monotonic())

    @staticmethod
    def _limit(domain: libvirt.virDomain, left_s: float) -> None:
        # Sticky and shared by every client of the domain; each call of ours sets its own.
        domain.agentSetResponseTimeout(_whole_seconds(left_s), 0)


def refused_as_frozen(error: errors.ThawFailed) -> bool:
    """Whether an agent refused because its guest is frozen; one whose administrator blocked the command may
    say the same."""
    cause = error.__cause__
    return (
        isinstance(cause, libvirt.libvirtError) and agent_fault(cause) is AgentFault.ALREADY_FROZEN
    )


def _whole_seconds(seconds: float) -> int:
    # Up: what is left of two seconds is no longer two, and half of them would be lost.
    return max(1, math.ceil(seconds))


@dataclass(frozen=True)
class _Telling:
    """What the faults of one kind of call are told as."""

    paused: type[errors.FreezePaused | errors.ThawPaused]
    no_agent: type[errors.FreezeNoAgent | errors.ThawNoAgent]
    failed: type[errors.FreezeFailed | errors.ThawFailed]


_FREEZE = _Telling(errors.FreezePaused, errors.FreezeNoAgent, errors.FreezeFailed)
_THAW = _Telling(errors.ThawPaused, errors.ThawNoAgent, errors.ThawFailed)


def _told(
    as_: _Telling,
    error: libvirt.libvirtError,
    domain: libvirt.virDomain,
    vm_id: UUID,
    timeout_s: float,
) -> errors.VirtcephError:
    """Our error for one of libvirt's. Blocks for a look at the domain, where that decides."""
    match agent_fault(error):
        case AgentFault.LOST_LIBVIRT:
            return errors.LibvirtUnavailable(reason_of(error))
        case AgentFault.GONE:
            return errors.NoSuchVM(vm_id)
        case AgentFault.UNRESPONSIVE:
            return errors.GuestAgentUnresponsive(vm_id, timeout_s)
        case AgentFault.NO_CHANNEL:
            return as_.no_agent(vm_id)
        case AgentFault.NOT_RUNNING:
            return as_.paused(vm_id) if _is_active(domain) else errors.VMDown(vm_id)
        case AgentFault.ALREADY_FROZEN if as_ is _FREEZE:
            return errors.AlreadyFrozen(vm_id)
    return as_.failed(vm_id, reason_of(error))


def _is_active(domain: libvirt.virDomain) -> bool:
    with libvirt_faults("read the domain's state"):
        return bool(domain.isActive())
