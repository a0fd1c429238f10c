"""A cluster as one of its users sees it: who its monitors are, what the user may do, how fast it answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from virtceph.ceph.cluster import Caps, Cluster
from virtceph.ceph.monmap import Monitor
from virtceph.ceph.probing import probe
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.errors import CephFailed, VirtcephError


@dataclass(frozen=True)
class PoolAppraisal:
    """A pool: what the user may do there, how long the slower of a monitor and an OSD took, how full it is
    (None: not told); or why it cannot be told."""

    caps: Caps | None = None
    latency_s: float | None = None
    used_share: float | None = None
    failure: VirtcephError | None = None


@dataclass(frozen=True)
class Appraisal:
    """A cluster. `propose_interval_s` and `users` (the caps of each, as text) are told to administrators
    only: None and empty for others."""

    fsid: UUID
    monitors: tuple[Monitor, ...]
    health: str
    versions: tuple[str, ...]
    pools: dict[PoolSpec, PoolAppraisal] = field(default_factory=dict)
    propose_interval_s: float | None = None
    users: dict[str, dict[str, str]] = field(default_factory=dict)


def appraise(spec: ClusterSpec, pools: Iterable[PoolSpec], users: Iterable[str] = ()) -> Appraisal:
    """Ask a cluster as one of its users, and change nothing. `users` are others, whose caps only an
    administrator is told. Blocks: some calls, each up to the spec's time-out.

    Raises:
        KeyRejected, CephUnavailable, CephFailed
    """
    cluster = Cluster(spec)
    try:
        with cluster.using():
            monitors = cluster.monitors()
            return Appraisal(
                cluster.fsid,
                monitors,
                str(cluster.answer(prefix="health", format="json")["status"]),
                _versions(cluster),
                {pool: _pool(cluster, pool) for pool in pools},
                _propose_interval_s(cluster, monitors),
                {user: caps for user in users if (caps := _caps_of(cluster, user)) is not None},
            )
    finally:
        cluster.close()


def _versions(cluster: Cluster) -> tuple[str, ...]:
    # `ceph version 16.2.15 (618f…) pacific (stable)`, of every daemon.
    overall = cluster.answer(prefix="versions", format="json").get("overall", {})
    return tuple(sorted(text.split()[2] for text in overall))


def _pool(cluster: Cluster, pool: PoolSpec) -> PoolAppraisal:
    try:
        caps = cluster.check(pool)
        latency_s = probe(cluster, pool)
    except VirtcephError as error:
        return PoolAppraisal(failure=error)
    try:
        stats = cluster.pool_stats(pool)
        share = stats.used_bytes / stats.capacity_bytes if stats.capacity_bytes else None
    except VirtcephError:
        share = None
    return PoolAppraisal(caps, latency_s, share)


def _propose_interval_s(cluster: Cluster, monitors: tuple[Monitor, ...]) -> float | None:
    """The option as the first monitor runs with it: the monitors' own database does not have what stands in
    a monitor's ceph.conf."""
    name = "paxos_propose_interval"
    for monitor in monitors[:1]:
        out = cluster.tell(monitor.name, prefix="config get", var=name)
        return None if out is None else float(json.loads(out)[name])
    return None


def _caps_of(cluster: Cluster, user: str) -> dict[str, str] | None:
    try:
        entity = cluster.answer(prefix="auth get", entity=f"client.{user}", format="json")[0]
    except CephFailed:
        return None
    return dict(entity["caps"])
