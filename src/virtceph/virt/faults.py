"""libvirt's errors become ours here, once. Nobody above knows a `VIR_ERR_*`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from uuid import UUID

import libvirt

from virtceph.errors import LibvirtFailed, LibvirtUnavailable, NoSuchVM

# The connection's own layers, and the codes they give when the peer is gone. Other codes of these
# layers (an argument too large to send, say) are refusals, not losses.
_TRANSPORT = (libvirt.VIR_FROM_RPC, libvirt.VIR_FROM_REMOTE)
_LOST = (
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_NO_CONNECT,
    libvirt.VIR_ERR_INVALID_CONN,
)


def is_connection_lost(error: libvirt.libvirtError) -> bool:
    """Whether libvirtd went away, rather than refused."""
    code = error.get_error_code()
    return code == libvirt.VIR_ERR_INVALID_CONN or (
        error.get_error_domain() in _TRANSPORT and code in _LOST
    )


def reason_of(error: libvirt.libvirtError) -> str:
    """libvirt's own sentence, on one line."""
    return " ".join((error.get_error_message() or str(error)).split())


@contextmanager
def libvirt_faults(operation: str, vm_id: UUID | None = None) -> Iterator[None]:
    """Turn any libvirt error of the block into LibvirtUnavailable, NoSuchVM or LibvirtFailed."""
    try:
        yield
    except libvirt.libvirtError as error:
        if is_connection_lost(error):
            raise LibvirtUnavailable(reason_of(error)) from error
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN and vm_id is not None:
            raise NoSuchVM(vm_id) from error
        raise LibvirtFailed(operation, error.get_error_code(), reason_of(error)) from error


class AgentFault(Enum):
    """Why a guest agent call failed."""

    UNRESPONSIVE = "unresponsive"
    NO_CHANNEL = "no channel"
    NOT_RUNNING = "not running"
    ALREADY_FROZEN = "already frozen"
    LOST_LIBVIRT = "libvirt lost"
    GONE = "gone"
    REFUSED = "refused"


# The agent's refusals come as VIR_ERR_INTERNAL_ERROR, told apart by their text alone: those of a frozen
# guest's agent before 2.10, up to 9.0 and since. The first and the last are also said of a command that an
# administrator blocked, so whoever is told so asks once more.
_FROZEN_TEXTS = (
    "has been disabled for this instance",
    "the agent is in frozen state",
    "has been disabled: the command is not allowed",
)
_AGENT_FAULTS = {
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE: AgentFault.UNRESPONSIVE,
    # The agent started another command of the same domain and holds it: same remedy, ask again.
    libvirt.VIR_ERR_OPERATION_TIMEOUT: AgentFault.UNRESPONSIVE,
    libvirt.VIR_ERR_AGENT_UNSYNCED: AgentFault.UNRESPONSIVE,
    # VIR_ERR_AGENT_COMMAND_TIMEOUT, from libvirt 11.2 on: it answered before, and not to this.
    getattr(libvirt, "VIR_ERR_AGENT_COMMAND_TIMEOUT", 112): AgentFault.UNRESPONSIVE,
    libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED: AgentFault.NO_CHANNEL,
    libvirt.VIR_ERR_OPERATION_INVALID: AgentFault.NOT_RUNNING,
    libvirt.VIR_ERR_NO_DOMAIN: AgentFault.GONE,
}


def agent_fault(error: libvirt.libvirtError) -> AgentFault:
    """Tell apart what libvirt's code alone does not."""
    if is_connection_lost(error):
        return AgentFault.LOST_LIBVIRT
    text = reason_of(error)
    if any(frozen in text for frozen in _FROZEN_TEXTS):
        return AgentFault.ALREADY_FROZEN
    return _AGENT_FAULTS.get(error.get_error_code(), AgentFault.REFUSED)
