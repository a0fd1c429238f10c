"""Ask each guest's agent once which file systems it has: what a freeze would find."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from virtceph.doctor.bounded import Late, side_by_side
from virtceph.doctor.seen import AgentSeen
from virtceph.doctor.vms import AGENT_S
from virtceph.errors import (
    GuestAgentUnresponsive,
    LibvirtUnavailable,
    ThawFailed,
    VirtcephError,
)
from virtceph.virt.agent import Agent, DomainLocks, refused_as_frozen
from virtceph.virt.connection import ConnectionPool
from virtceph.virt.inspection import VMSeen

# As the daemon does it: libvirtd serves five requests of a client at a time.
_CONNECTIONS, _CALLS_EACH = 3, 4
_SLACK_S = 2.0


@dataclass(frozen=True)
class Asked:
    """What the agents answered; `unasked` says why none was asked."""

    agents: Mapping[UUID, AgentSeen]
    unasked: str | None = None


class Guests:
    """The agents behind one libvirt, over connections that may write: libvirt lets nobody else ask one."""

    def __init__(self, uri: str) -> None:
        self._pool = ConnectionPool(
            uri, connections=_CONNECTIONS, calls_each=_CALLS_EACH, lane="doctor"
        )
        self._agent = Agent(self._pool, DomainLocks())

    def ask(self, vms: Sequence[VMSeen]) -> Asked:
        """Ask every running guest with an agent. Blocks for some seconds, however many hang."""
        running = [vm for vm in vms if vm.status == "Up" and vm.domain.agent == "connected"]
        answers = side_by_side(
            {vm.vm_id: self._question(vm.vm_id) for vm in running},
            AGENT_S + _SLACK_S,
            at_once=_CONNECTIONS * _CALLS_EACH,
        )
        refusals = [a for a in answers.values() if isinstance(a, LibvirtUnavailable)]
        if refusals:
            return Asked({}, refusals[0].reason)
        if not any(isinstance(answer, Late) for answer in answers.values()):
            self._pool.close()
        return Asked({vm_id: _seen(answer) for vm_id, answer in answers.items()})

    def _question(self, vm_id: UUID) -> Callable[[], AgentSeen]:
        def ask() -> AgentSeen:
            try:
                return AgentSeen(tuple(self._agent.file_systems(vm_id, AGENT_S)))
            except ThawFailed as error:
                # Many agents say the same of a command that their administrator blocked.
                if refused_as_frozen(error) and not self._agent.is_frozen(vm_id, AGENT_S):
                    return AgentSeen(failure=_reason(error))
                raise
            finally:
                # Other clients of libvirt expect its own time-out, which is none.
                self._agent.put_back(vm_id)

        return ask


def _seen(answer: AgentSeen | Exception) -> AgentSeen:
    if isinstance(answer, AgentSeen):
        return answer
    if isinstance(answer, ThawFailed):
        return AgentSeen(frozen=refused_as_frozen(answer), failure=_reason(answer))
    if isinstance(answer, (Late, GuestAgentUnresponsive)):
        return AgentSeen(silent=True)
    if isinstance(answer, VirtcephError):
        return AgentSeen(failure=answer.message)
    raise answer


def _reason(error: ThawFailed) -> str:
    return " ".join(str(error.__cause__).split()) if error.__cause__ else error.message
