"""What the doctor says: the findings of all judges, and a row for each VM, user and cluster. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from virtceph import __version__
from virtceph.doctor.catalogue import Finding, Severity, found
from virtceph.doctor.clusters import (
    addresses_for_qemu,
    allows_blocklist,
    appraisal_of,
    is_one_of,
    judge_clusters,
    latency_s,
    propose_interval_s,
)
from virtceph.doctor.keys import judge_keys, key_words
from virtceph.doctor.seen import ClusterSeen, HostSeen
from virtceph.doctor.vms import agent_word, judge_vms, verdict
from virtceph.doctor.words import client
from virtceph.virt.inspection import VMSeen

# Of the JSON: a change that breaks its readers counts it up.
FORMAT = 1
_LEAST = {"libvirt": (9, 0), "librbd": (16, 2), "qemu": (7, 2)}


@dataclass(frozen=True)
class VMRow:
    """A VM at a glance. `disks` counts its writable disks by their type; `snapshot` and `reason` are a
    verdict's."""

    name: str
    vmId: str
    status: str
    disks: dict[str, int]
    pools: list[str]
    keys: list[str]
    agent: str
    snapshot: str
    reason: str


@dataclass(frozen=True)
class UserRow:
    """A cephx user in one pool; each cap None where it is not known. `reason` says why not, or what fails."""

    user: str
    secret: str | None
    pool: str
    read: bool | None
    write: bool | None
    blocklist: bool | None
    reason: str | None


@dataclass(frozen=True)
class ClusterRow:
    """A cluster that answered."""

    fsid: str
    health: str
    versions: list[str]
    monitors: list[str]
    latency: float | None
    proposeInterval: float | None


@dataclass(frozen=True)
class MonitorRow:
    """A monitor's address, as it is named: how fast it greets, or why it does not. `member`: whether it is
    one of the cluster's; None where nobody could be asked."""

    address: str
    latency: float | None
    reason: str | None
    member: bool | None


@dataclass(frozen=True)
class Report:
    """Everything that is printed."""

    host: dict[str, str]
    vms: list[VMRow]
    users: list[UserRow]
    clusters: list[ClusterRow]
    monitors: list[MonitorRow]
    findings: list[Finding]

    @property
    def worst(self) -> Severity:
        """The gravest finding's severity."""
        return max((finding.severity for finding in self.findings), default=Severity.OK)

    def as_json(self) -> dict[str, Any]:
        """The report as `--json` prints it; docs/doctor.md describes it."""
        findings = [
            {**dataclasses.asdict(finding), "severity": finding.severity.word}
            for finding in self.findings
        ]
        rows = {
            name: [dataclasses.asdict(row) for row in getattr(self, name)]
            for name in ("vms", "users", "clusters", "monitors")
        }
        worst = self.worst.word
        return {"format": FORMAT, "worst": worst, "host": self.host, **rows, "findings": findings}


def report(host: HostSeen) -> Report:
    """The report on what was seen, the gravest findings first."""
    findings = [*_host(host), *judge_vms(host), *judge_keys(host), *judge_clusters(host)]
    findings = list(dict.fromkeys(findings))
    return Report(
        {"virtceph": __version__, "libvirtURI": host.uri, **host.versions},
        [_vm(host, vm) for vm in host.vms],
        [row for cluster in host.clusters for row in _users(host, cluster)],
        list(_clusters(host)),
        list(_monitors(host)),
        # Sorting is stable: what belongs together stays so.
        sorted(findings, key=lambda finding: -finding.severity),
    )


def _host(host: HostSeen) -> Iterator[Finding]:
    if host.libvirt_failure is not None:
        yield found("libvirt-unreachable", "host", reason=host.libvirt_failure.message)
    if host.libvirt_refused is not None:
        yield found("libvirt-refused", "host", reason=host.libvirt_refused)
    for reason in host.unread:
        advice = "run this as root"
        yield found("unseen", "host", what="a VM", reason=reason, advice=advice)
    if host.agents_unasked is not None:
        what, advice = "the guest agents", "run this as root or as a member of the group libvirt"
        reason = host.agents_unasked
        yield found("unseen", "host", what=what, reason=reason, advice=advice)
    if host.key_files is not None and host.key_files.files is None and host.secrets:
        what, advice = str(host.key_files.folder), "run this as root"
        yield found("unseen", "host", what=what, reason="only root may", advice=advice)
    if host.admin is not None and host.admin.failure is not None:
        reason = host.admin.failure.message
        yield found(
            "cluster-silent", "cluster of ceph.conf", reason=reason, vms="VMs that are not known"
        )
    for program, least in _LEAST.items():
        version = host.versions.get(program, "")
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers and numbers < least:
            text = ".".join(map(str, least))
            yield found("version-untested", "host", program=program, version=version, least=text)
    if host.daemon_answers is None:
        reason = f"no permission for {host.daemon_socket}"
        advice = "run this as root or as a member of the group virtceph"
        yield found("unseen", "host", what="virtcephd", reason=reason, advice=advice)
    elif not host.daemon_answers:
        yield found("daemon-absent", "host", path=host.daemon_socket)


def _vm(host: HostSeen, vm: VMSeen) -> VMRow:
    disks: dict[str, int] = {}
    for disk in vm.domain.disks:
        disks[disk.type] = disks.get(disk.type, 0) + 1
    pools = [access.source.pool for access in vm.accesses]
    answer = verdict(host, vm)
    return VMRow(
        vm.name,
        str(vm.vm_id),
        vm.status,
        disks,
        list(dict.fromkeys(pools)),
        key_words(host, vm),
        agent_word(host, vm),
        answer.snapshot,
        answer.reason,
    )


def _users(host: HostSeen, cluster: ClusterSeen) -> Iterator[UserRow]:
    named, user = cluster.login
    if user is None:
        return
    secret = None if named is None else str(named)
    appraisal = cluster.appraisal
    if appraisal is None:
        failed = None if cluster.failure is None else cluster.failure.message
        reason = cluster.unasked or failed
        told = appraisal_of(host, cluster.login)
        caps = None if told is None else told.users.get(user)
        if caps is not None:
            reason = ", ".join(f"{service} '{text}'" for service, text in caps.items())
        blocklist = None if caps is None else allows_blocklist(caps)
        yield UserRow(client(user), secret, "", None, None, blocklist, reason)
        return
    for pool, seen in appraisal.pools.items():
        failure = None if seen.failure is None else seen.failure.message
        caps_seen = seen.caps
        yield UserRow(
            client(user),
            secret,
            str(pool),
            None if caps_seen is None else caps_seen.read,
            None if caps_seen is None else caps_seen.write,
            None if caps_seen is None else caps_seen.blocklist,
            failure,
        )


def _monitors(host: HostSeen) -> Iterator[MonitorRow]:
    members = [monitor for appraisal in host.appraisals() for monitor in appraisal.monitors]
    for address, seen in host.monitors.items():
        member: bool | None = is_one_of(host, address, tuple(members))
        if not member and not _was_asked(host, address):
            member = None
        yield MonitorRow(address, seen.latency_s, seen.failure, member)


def _was_asked(host: HostSeen, address: str) -> bool:
    """Whether a cluster answered to somebody whose disks name this monitor."""
    return any(
        address in access.source.monitors
        for login, using in host.logins().items()
        if appraisal_of(host, login) is not None
        for _, access in using
    )


def _clusters(host: HostSeen) -> Iterator[ClusterRow]:
    told: set[str] = set()
    for appraisal in host.appraisals():
        if str(appraisal.fsid) in told:
            continue
        told.add(str(appraisal.fsid))
        yield ClusterRow(
            str(appraisal.fsid),
            appraisal.health,
            list(appraisal.versions),
            addresses_for_qemu(appraisal.monitors),
            latency_s(appraisal),
            propose_interval_s(host, appraisal),
        )
