"""The clusters behind a host's disks, their monitors, and what each cephx user may do there."""

from __future__ import annotations

from collections.abc import Iterator

from virtceph.ceph.appraising import Appraisal
from virtceph.ceph.monmap import Monitor
from virtceph.ceph.spec import PoolSpec
from virtceph.doctor.catalogue import Finding, found
from virtceph.doctor.seen import ClusterSeen, HostSeen, Login
from virtceph.doctor.words import client, seconds, several
from virtceph.errors import CephPermissionDenied, KeyRejected, NoSuchPool
from virtceph.virt.inspection import DiskAccess, VMSeen

_SLOW_S, _SLOW_PROPOSING_S = 0.5, 0.1
_NEARLY_FULL = 0.85
# Of a round of the monitors, what a snapshot waits for on average: it comes somewhere in the middle, and one
# proposal follows another.
_ROUNDS, _ROUNDS_MOST = 0.7, 1.0


def judge_clusters(host: HostSeen) -> Iterator[Finding]:
    """What there is to say of users, pools, clusters and monitors."""
    told: set[str] = set()
    for cluster in host.clusters:
        yield from _login(host, cluster)
    for appraisal in host.appraisals():
        if str(appraisal.fsid) not in told:
            told.add(str(appraisal.fsid))
            yield from _cluster(host, appraisal)
    yield from _monitors(host)


def appraisal_of(host: HostSeen, login: Login) -> Appraisal | None:
    """The cluster as a login sees it; what an administrator's keyring tells, where the login's key could not
    be used and the cluster is the same."""
    seen = next((cluster for cluster in host.clusters if cluster.login == login), None)
    if seen is not None and seen.appraisal is not None:
        return seen.appraisal
    admin = host.admin.appraisal if host.admin is not None else None
    if admin is None or (seen is not None and seen.failure is not None):
        return None
    return admin if _names_any(host, login, admin.monitors) else None


def obstacle(host: HostSeen, access: DiskAccess) -> str | None:
    """Why the cluster would not let a disk be snapshotted, as far as was seen; None: nothing is known to
    be in the way."""
    login = (access.secret, access.user)
    for cluster in host.clusters:
        if cluster.login != login or cluster.failure is None:
            continue
        if isinstance(cluster.failure, KeyRejected):
            return "the cluster does not know its key"
        return "its cluster does not answer"
    appraisal = appraisal_of(host, login)
    pool = None if appraisal is None else appraisal.pools.get(_pool(access))
    if pool is not None and pool.failure is not None:
        return f"the pool {_pool(access)}: {pool.failure.message}"
    if pool is not None and pool.caps is not None and not pool.caps.write:
        return f"{client(access.user)} may not write to it"
    return None


def _pool(access: DiskAccess) -> PoolSpec:
    return PoolSpec(access.source.pool, access.source.namespace)


def _vms_of(host: HostSeen, login: Login, pool: PoolSpec | None = None) -> str:
    using = host.logins().get(login, [])
    return several(vm.name for vm, access in using if pool is None or _pool(access) == pool)


def _login(host: HostSeen, cluster: ClusterSeen) -> Iterator[Finding]:
    secret, user = cluster.login
    subject = client(user)
    if cluster.unasked is not None:
        yield from _by_administrator(host, cluster, cluster.unasked)
    elif isinstance(cluster.failure, KeyRejected):
        yield found("key-rejected", subject, uuid=secret, user=subject)
    elif cluster.failure is not None:
        vms, reason = _vms_of(host, cluster.login), cluster.failure.message
        yield found("cluster-silent", f"cluster of {subject}", reason=reason, vms=vms)
    elif cluster.appraisal is not None:
        yield from _pools(host, cluster.login, cluster.appraisal)


def _by_administrator(host: HostSeen, cluster: ClusterSeen, unasked: str) -> Iterator[Finding]:
    """What is known of a user whose own key cannot be used."""
    subject, appraisal = client(cluster.login[1]), appraisal_of(host, cluster.login)
    for _, access in host.logins()[cluster.login] if appraisal is not None else ():
        pool = _pool(access)
        seen = None if appraisal is None else appraisal.pools.get(pool)
        if seen is not None and isinstance(seen.failure, NoSuchPool):
            vms = _vms_of(host, cluster.login, pool)
            yield found("pool-missing", subject, pool=pool, vms=vms)
    caps = None if appraisal is None else appraisal.users.get(cluster.login[1] or "")
    if caps is None:
        advice = (
            f"ceph auth get {subject}; virtceph --human StorageDomain list tells of connected ones"
        )
        yield found("caps-unknown", subject, reason=unasked, advice=advice)
    elif not allows_blocklist(caps):
        yield found("caps-blocklist", subject, user=subject)


def allows_blocklist(caps: dict[str, str]) -> bool:
    """Whether caps, as an administrator reads them, let a user blocklist a dead client."""
    return any(word in caps.get("mon", "") for word in ("profile rbd", "allow *", "blocklist"))


def _pools(host: HostSeen, login: Login, appraisal: Appraisal) -> Iterator[Finding]:
    user = client(login[1])
    blocklist: list[bool | None] = []
    for pool, seen in appraisal.pools.items():
        vms = _vms_of(host, login, pool)
        if isinstance(seen.failure, NoSuchPool):
            yield found("pool-missing", user, pool=pool, vms=vms)
        elif isinstance(seen.failure, CephPermissionDenied):
            reason = seen.failure.message
            yield found("caps-read", user, pool=pool, vms=vms, reason=reason, user=user)
        elif seen.failure is not None:
            reason = seen.failure.message
            yield found("pool-unasked", user, pool=pool, vms=vms, reason=reason)
        if seen.caps is not None:
            blocklist.append(seen.caps.blocklist)
            if not seen.caps.write:
                yield found("caps-write", user, pool=pool, vms=vms, user=user)
        if seen.used_share is not None and seen.used_share >= _NEARLY_FULL:
            percent = round(seen.used_share * 100)
            yield found("pool-nearly-full", user, pool=pool, percent=percent)
    if False in blocklist:
        yield found("caps-blocklist", user, user=user)
    elif None in blocklist:
        reason = "the cluster gave no clear answer about osd blocklist"
        yield found("caps-unknown", user, reason=reason, advice=f"ceph auth get {user}")


def latency_s(appraisal: Appraisal) -> float | None:
    """The slowest answer of a cluster's pools."""
    known = [pool.latency_s for pool in appraisal.pools.values() if pool.latency_s is not None]
    return max(known, default=None)


def _cluster(host: HostSeen, appraisal: Appraisal) -> Iterator[Finding]:
    subject = f"cluster {appraisal.fsid}"
    took_s = latency_s(appraisal)
    if took_s is not None:
        code = "cluster-ready" if took_s < _SLOW_S else "cluster-slow"
        yield found(code, subject, latency=seconds(took_s))
    if appraisal.health != "HEALTH_OK":
        code = "cluster-unwell" if appraisal.health == "HEALTH_WARN" else "cluster-ill"
        yield found(code, subject, health=appraisal.health)
    ours = host.versions.get("librbd", "")
    theirs = [version for version in appraisal.versions if version != ours]
    if theirs and ours:
        yield found("cluster-client-old", subject, theirs=several(theirs), ours=ours)
    yield from _proposing(host, appraisal, subject)


def _proposing(host: HostSeen, appraisal: Appraisal, subject: str) -> Iterator[Finding]:
    interval_s = propose_interval_s(host, appraisal)
    if interval_s is None:
        yield found("propose-unknown", subject)
    elif interval_s > _SLOW_PROPOSING_S:
        yield found(
            "propose-slow",
            subject,
            interval=seconds(interval_s),
            cost=seconds(_ROUNDS * interval_s),
            most=seconds(_ROUNDS_MOST * interval_s),
        )


def propose_interval_s(host: HostSeen, appraisal: Appraisal) -> float | None:
    """A cluster's paxos_propose_interval, from whoever was told it."""
    for other in host.appraisals():
        if other.fsid == appraisal.fsid and other.propose_interval_s:
            return other.propose_interval_s
    return None


def _monitors(host: HostSeen) -> Iterator[Finding]:
    gone: dict[str, tuple[Appraisal, list[str]]] = {}
    unknown: dict[str, list[str]] = {}
    for login, using in host.logins().items():
        appraisal = appraisal_of(host, login)
        for vm, access in using:
            for address in access.source.monitors:
                if appraisal is not None and not is_one_of(host, address, appraisal.monitors):
                    gone.setdefault(address, (appraisal, []))[1].append(vm.name)
                elif appraisal is None and host.monitors[address].latency_s is None:
                    unknown.setdefault(address, []).append(vm.name)
    for address, (appraisal, names) in gone.items():
        monitors = several(addresses_for_qemu(appraisal.monitors))
        yield found("monitor-gone", f"monitor {address}", vms=several(names), monitors=monitors)
    for address, names in unknown.items():
        reason = host.monitors[address].failure
        yield found("monitor-unknown", f"monitor {address}", reason=reason, vms=several(names))
    yield from _vms_without_monitor(host)
    yield from _silent(host)


def _vms_without_monitor(host: HostSeen) -> Iterator[Finding]:
    told: set[VMSeen] = set()
    for login, using in host.logins().items():
        appraisal = appraisal_of(host, login)
        if appraisal is None:
            continue
        for vm, access in using:
            names = access.source.monitors
            if names and not any(is_one_of(host, a, appraisal.monitors) for a in names):
                if vm not in told:
                    monitors = several(addresses_for_qemu(appraisal.monitors))
                    subject = f"vm {vm.name}"
                    yield found("monitors-all-gone", subject, vm=vm.name, monitors=monitors)
                told.add(vm)


def _silent(host: HostSeen) -> Iterator[Finding]:
    """Monitors that the cluster has and that do not greet."""
    told: set[str] = set()
    for appraisal in host.appraisals():
        for monitor in appraisal.monitors:
            for address in monitor.addresses():
                seen = host.monitors.get(address)
                if seen is not None and seen.latency_s is None and address not in told:
                    told.add(address)
                    yield found("monitor-silent", f"monitor {address}", reason=seen.failure)


def addresses_for_qemu(monitors: tuple[Monitor, ...]) -> list[str]:
    """A cluster's monitors as a `<host>` takes them."""
    found = [monitor.for_qemu(v2=False) for monitor in monitors]
    return [address for address in found if address is not None]


def is_one_of(host: HostSeen, address: str, monitors: tuple[Monitor, ...]) -> bool:
    """Whether an address, or what its name stands for, is a monitor's."""
    seen = host.monitors.get(address)
    named = {address, *(seen.resolved if seen is not None else ())}
    return any(named.intersection(monitor.addresses()) for monitor in monitors)


def _names_any(host: HostSeen, login: Login, monitors: tuple[Monitor, ...]) -> bool:
    return any(
        is_one_of(host, address, monitors)
        for _, access in host.logins().get(login, [])
        for address in access.source.monitors
    )
