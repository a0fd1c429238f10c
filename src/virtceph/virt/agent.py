"""The guest agent: freeze, thaw, status. Every call has a time-out, since libvirt's default is for ever."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID

import libvirt
import libvirt_qemu

from virtceph import errors
from virtceph.virt.connection import ConnectionPool
from virtceph.virt.faults import AgentFault, agent_fault, libvirt_faults, reason_of

_RECONNECT_S, _RETRY_S = 2.0, 0.1


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
    """Guest agent calls over one pool of connections."""

    def __init__(self, pool: ConnectionPool, locks: DomainLocks) -> None:
        self._pool, self._locks = pool, locks

    def freeze(self, vm_id: UUID, timeout_s: float) -> int:
        """Freeze every mounted file system; how many. Blocks up to `timeout_s`.

        After GuestAgentUnresponsive the command is still queued in the guest: it may freeze later.
        Source: virDomainFSFreeze without mount points.

        Raises:
            NoSuchVM, VMDown, FreezePaused, FreezeNoAgent, AlreadyFrozen, FreezeFailed,
            GuestAgentUnresponsive, LibvirtUnavailable, LaneBusy
        """
        with self._domain(vm_id, timeout_s) as (domain, left_s):
            try:
                self._limit(domain, left_s)
                return int(domain.fsFreeze())
            except libvirt.libvirtError as error:
                _raise_freeze_error(error, domain, vm_id, left_s)

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

        The query taints the domain in libvirt's eyes, so only guests with a lease, or those a caller
        asks about, are asked. Raises as `thaw` does.
        """
        answer = self._ask(
            vm_id,
            timeout_s,
            lambda domain, left_s: libvirt_qemu.qemuAgentCommand(
                domain, '{"execute":"guest-fsfreeze-status"}', _whole_seconds(left_s), 0
            ),
        )
        return bool(json.loads(answer)["return"] == "frozen")

    def file_systems(self, vm_id: UUID, timeout_s: float) -> list[FileSystem]:
        """The mounted file systems. Blocks up to `timeout_s`. A frozen guest refuses to tell.

        Source: virDomainGetFSInfo. Raises as `thaw` does.
        """
        found = self._ask(vm_id, timeout_s, lambda domain, _left_s: domain.fsInfo())
        return [FileSystem(mountpoint, tuple(targets)) for mountpoint, _, _, targets in found]

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
                        _raise_thaw_error(error, domain, vm_id, left_s)
            except errors.GuestAgentUnresponsive:
                if time.monotonic() >= patience_s:
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


def _whole_seconds(seconds: float) -> int:
    return max(1, int(seconds))


def _raise_common(
    fault: AgentFault, error: libvirt.libvirtError, vm_id: UUID, timeout_s: float
) -> None:
    if fault is AgentFault.LOST_LIBVIRT:
        raise errors.LibvirtUnavailable(reason_of(error)) from error
    if fault is AgentFault.GONE:
        raise errors.NoSuchVM(vm_id) from error
    if fault is AgentFault.UNRESPONSIVE:
        raise errors.GuestAgentUnresponsive(vm_id, timeout_s) from error


def _is_paused(domain: libvirt.virDomain) -> bool:
    with libvirt_faults("read the domain's state"):
        return bool(domain.isActive())


def _raise_freeze_error(
    error: libvirt.libvirtError, domain: libvirt.virDomain, vm_id: UUID, timeout_s: float
) -> NoReturn:
    fault = agent_fault(error)
    _raise_common(fault, error, vm_id, timeout_s)
    if fault is AgentFault.NOT_RUNNING:
        raise (errors.FreezePaused if _is_paused(domain) else errors.VMDown)(vm_id) from error
    if fault is AgentFault.NO_CHANNEL:
        raise errors.FreezeNoAgent(vm_id) from error
    if fault is AgentFault.ALREADY_FROZEN:
        raise errors.AlreadyFrozen(vm_id) from error
    raise errors.FreezeFailed(vm_id, reason_of(error)) from error


def _raise_thaw_error(
    error: libvirt.libvirtError, domain: libvirt.virDomain, vm_id: UUID, timeout_s: float
) -> NoReturn:
    fault = agent_fault(error)
    _raise_common(fault, error, vm_id, timeout_s)
    if fault is AgentFault.NOT_RUNNING:
        raise (errors.ThawPaused if _is_paused(domain) else errors.VMDown)(vm_id) from error
    if fault is AgentFault.NO_CHANNEL:
        raise errors.ThawNoAgent(vm_id) from error
    raise errors.ThawFailed(vm_id, reason_of(error)) from error
