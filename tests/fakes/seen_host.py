"""A host as the doctor saw it, in which all is well; tests replace what they are about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

from virtceph.ceph.appraising import Appraisal, PoolAppraisal
from virtceph.ceph.cluster import Caps
from virtceph.ceph.monmap import Monitor
from virtceph.ceph.spec import PoolSpec
from virtceph.doctor.seen import AgentSeen, ClusterSeen, HostSeen, KeyFiles, MonitorSeen
from virtceph.virt.agent import FileSystem
from virtceph.virt.inspection import DiskAccess, SecretSeen, VMSeen
from virtceph.virt.xml import Disk, Domain, RbdSource

VM_ID = UUID("11111111-1111-4111-8111-111111111111")
SECRET = UUID("22222222-2222-4222-8222-222222222222")
FSID = UUID("33333333-3333-4333-8333-333333333333")
V1, V2 = "10.0.0.1:6789", "10.0.0.1:3300"
MONITOR = Monitor("a", V1, V2)
POOL = PoolSpec("rbd")


def access(
    target: str = "vda",
    *,
    secret: UUID | str | None = SECRET,
    user: str | None = "web",
    monitors: tuple[str, ...] = (V1,),
    pool: str = "rbd",
    namespace: str = "",
) -> DiskAccess:
    source = RbdSource(pool, namespace, "image", monitors)
    return DiskAccess(target, source, user, secret, None)


def vm(name: str = "web01", **changes: Any) -> VMSeen:
    """A running VM with one disk in RBD; `agent`, `disks`, `status`, `accesses` and `vm_id` may differ."""
    accesses = changes.get("accesses", (access(),))
    disks = changes.get("disks", tuple(Disk(a.target, "rbd", a.source) for a in accesses))
    domain = Domain(name, disks, changes.get("agent", "connected"))
    return VMSeen(changes.get("vm_id", VM_ID), name, changes.get("status", "Up"), domain, accesses)


def secret(**changes: Any) -> SecretSeen:
    return replace(SecretSeen(SECRET, "ceph", "ovirt/web", True, True, "<secret/>"), **changes)


def pool(**changes: Any) -> PoolAppraisal:
    return replace(PoolAppraisal(Caps(True, True, True), 0.01, 0.1), **changes)


def appraisal(**changes: Any) -> Appraisal:
    pools = {POOL: pool()}
    well = Appraisal(FSID, (MONITOR,), "HEALTH_OK", ("16.2.15",), pools, 0.02)
    return replace(well, **changes)


def host(**changes: Any) -> HostSeen:
    """A host with one VM; whatever is named is in its place."""
    seen = HostSeen(
        True,
        "qemu:///system",
        {"libvirt": "9.0.0", "qemu": "7.2.0", "librbd": "16.2.15"},
        daemon_answers=True,
        vms=(vm(),),
        secrets=(secret(),),
        agents={VM_ID: AgentSeen((FileSystem("/", ("vda",)),))},
        key_files=KeyFiles(Path("/etc/libvirt/secrets"), {}),
        monitors={a: MonitorSeen(a, 0.001, None, (a,)) for a in (V1, V2)},
        clusters=(ClusterSeen((SECRET, "web"), appraisal()),),
    )
    return replace(seen, **changes)
