"""What was seen of a host: plain values that the judges read. None, or an error, is for what was not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from virtceph.ceph.appraising import Appraisal
from virtceph.errors import VirtcephError
from virtceph.virt.agent import FileSystem
from virtceph.virt.inspection import DiskAccess, SecretSeen, VMSeen

# Who uses a secret: the secret as disks name it (None: disks without one), and the user they name.
Login = tuple[UUID | str | None, str | None]


@dataclass(frozen=True)
class AgentSeen:
    """What a guest's agent answered: its file systems, `frozen`, or why there is no answer. `silent` when it
    did not answer in time."""

    file_systems: tuple[FileSystem, ...] | None = None
    frozen: bool = False
    silent: bool = False
    failure: str | None = None


@dataclass(frozen=True)
class MonitorSeen:
    """One address, as it is named: how long its banner took, or why it did not come. `resolved` are the
    addresses that it stands for."""

    address: str
    latency_s: float | None
    failure: str | None = None
    resolved: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClusterSeen:
    """A cluster as one login sees it; `unasked` says why it was not even tried."""

    login: Login
    appraisal: Appraisal | None = None
    failure: VirtcephError | None = None
    unasked: str | None = None


@dataclass(frozen=True)
class KeyFiles:
    """The keys in libvirt's folder, by the secret's UUID; None: the folder could not be listed."""

    folder: Path
    files: Mapping[UUID, Path] | None
    # Also those that libvirt itself has encrypted.
    encrypted: frozenset[UUID] = frozenset()


@dataclass(frozen=True)
class AdminSeen:
    """What an administrator's keyring on this host told of its cluster."""

    keyring: Path
    monitors: tuple[str, ...]
    appraisal: Appraisal | None = None
    failure: VirtcephError | None = None


@dataclass(frozen=True)
class HostSeen:
    """Everything that was seen."""

    is_root: bool
    uri: str
    versions: Mapping[str, str]
    libvirt_failure: VirtcephError | None = None
    libvirt_refused: str | None = None
    daemon_socket: str = ""
    daemon_answers: bool | None = False
    vms: tuple[VMSeen, ...] = ()
    # Why some VMs could not be read, one text each.
    unread: tuple[str, ...] = ()
    secrets: tuple[SecretSeen, ...] | None = None
    agents: Mapping[UUID, AgentSeen] = field(default_factory=dict)
    agents_unasked: str | None = None
    key_files: KeyFiles | None = None
    monitors: Mapping[str, MonitorSeen] = field(default_factory=dict)
    clusters: tuple[ClusterSeen, ...] = ()
    admin: AdminSeen | None = None

    def logins(self) -> dict[Login, list[tuple[VMSeen, DiskAccess]]]:
        """Who reaches disks in RBD, with whose disks."""
        logins: dict[Login, list[tuple[VMSeen, DiskAccess]]] = {}
        for vm in self.vms:
            for access in vm.accesses:
                logins.setdefault((access.secret, access.user), []).append((vm, access))
        return logins

    def appraisals(self) -> list[Appraisal]:
        """Each cluster's, as each login and the administrator saw it."""
        seen = [cluster.appraisal for cluster in self.clusters]
        seen.append(self.admin.appraisal if self.admin is not None else None)
        return [appraisal for appraisal in seen if appraisal is not None]
