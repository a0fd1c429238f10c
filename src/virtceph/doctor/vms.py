"""The VMs of a host: whether a consistent snapshot of each would work, and what is in its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from virtceph.doctor.catalogue import Finding, found
from virtceph.doctor.clusters import obstacle
from virtceph.doctor.seen import AgentSeen, HostSeen
from virtceph.doctor.words import seconds
from virtceph.virt.agent import FileSystem
from virtceph.virt.inspection import VMSeen

# libvirt from here on takes `pool/namespace/image`; older ones look for an image with a slash in its name.
_KNOWS_NAMESPACES = (11, 6)
AGENT_S = 3.0
_OFF = ("Down", "Powering down")


@dataclass(frozen=True)
class Verdict:
    """What a consistent snapshot would be: `filesystem`, `crash` (it would not be called consistent), `no`
    (it would fail) or `unknown`; and why."""

    snapshot: str
    reason: str


def judge_vms(host: HostSeen) -> Iterator[Finding]:
    """What there is to say of the VMs."""
    for vm in host.vms:
        subject = f"vm {vm.name}"
        yield from _disks(host, vm, subject)
        yield from _guest(host, vm, subject)


def verdict(host: HostSeen, vm: VMSeen) -> Verdict:
    """Whether `VM.createConsistentSnapshot` of all its disks would work."""
    if vm.status != "Up":
        return Verdict("no", "it is off" if vm.status in _OFF else "it is paused")
    unfit = [disk.target for disk in vm.domain.disks if disk.type not in ("rbd", "file")]
    if not any(disk.type == "rbd" for disk in vm.domain.disks):
        return Verdict("no", "it has no writable disk in RBD")
    if unfit:
        return Verdict("no", f"{', '.join(unfit)} cannot be snapshotted; name the others in disks=")
    for access in vm.accesses:
        if (reason := obstacle(host, access)) is not None:
            return Verdict("no", f"{access.target}: {reason}")
    return _by_agent(host, vm)


def _by_agent(host: HostSeen, vm: VMSeen) -> Verdict:
    agent = host.agents.get(vm.vm_id, AgentSeen(failure=host.agents_unasked or "not asked"))
    if vm.domain.agent == "absent":
        return Verdict("crash", "no guest agent channel")
    if vm.domain.agent == "disconnected":
        return Verdict("crash", "no guest agent runs")
    if agent.silent:
        return Verdict("crash", "the guest agent does not answer")
    if agent.frozen:
        return Verdict("crash", "the guest is frozen already")
    if agent.file_systems is None:
        return Verdict("unknown", f"the agent was not asked: {agent.failure}")
    if not (systems := _on_disks(vm, agent.file_systems)):
        return Verdict("crash", "no file system lies on its disks")
    return Verdict("filesystem", told_systems(systems))


def told_systems(systems: list[FileSystem]) -> str:
    """`2 file systems`."""
    return f"{len(systems)} file system{'' if len(systems) == 1 else 's'}"


def _on_disks(vm: VMSeen, systems: tuple[FileSystem, ...]) -> list[FileSystem]:
    targets = {disk.target for disk in vm.domain.disks}
    return [system for system in systems if targets.intersection(system.targets)]


def _disks(host: HostSeen, vm: VMSeen, subject: str) -> Iterator[Finding]:
    disks = vm.domain.disks
    for disk in disks:
        if disk.type == "file":
            yield found("disk-file", subject, disk=disk.target, path=disk.path or "no file")
        elif disk.type != "rbd":
            yield found("disk-unfit", subject, disk=disk.target)
    if disks and not any(disk.type == "rbd" for disk in disks):
        yield found("no-rbd-disk", subject)
    version = host.versions.get("libvirt", "")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < _KNOWS_NAMESPACES:
        for access in vm.accesses:
            if access.source.namespace:
                yield found("disk-namespace", subject, disk=access.target, version=version)


def _guest(host: HostSeen, vm: VMSeen, subject: str) -> Iterator[Finding]:
    if vm.domain.agent == "absent":
        yield found("agent-absent", subject)
    if vm.status in _OFF:
        yield found("vm-off", subject)
    elif vm.status != "Up":
        yield found("vm-paused", subject, vm=vm.name)
    elif vm.domain.agent == "disconnected":
        yield found("agent-disconnected", subject)
    elif vm.domain.agent == "connected":
        agent = host.agents.get(vm.vm_id)
        if agent is not None:
            yield from _agent(agent, vm, subject)
    if (answer := verdict(host, vm)).snapshot == "filesystem":
        yield found("vm-ready", subject, systems=answer.reason)


def _agent(agent: AgentSeen, vm: VMSeen, subject: str) -> Iterator[Finding]:
    if agent.silent:
        yield found("agent-silent", subject, waited=seconds(AGENT_S))
    elif agent.frozen:
        yield found("guest-frozen", subject, vm=vm.name)
    elif agent.file_systems is None:
        yield found("agent-failed", subject, reason=agent.failure)
    elif not _on_disks(vm, agent.file_systems):
        yield found("no-file-system", subject)


def agent_word(host: HostSeen, vm: VMSeen) -> str:
    """The agent in one word, for a table."""
    if vm.domain.agent != "connected":
        return {"absent": "no channel", "disconnected": "not there"}[vm.domain.agent]
    agent = host.agents.get(vm.vm_id)
    if agent is None:
        return "connected"
    if agent.silent:
        return "silent"
    return "frozen" if agent.frozen else "refuses" if agent.file_systems is None else "answers"
