"""What only the monitors know: which pools are full, their quotas, and who is on the blocklist."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from virtceph.ceph.cluster import Cluster


@dataclass(frozen=True)
class PoolLimits:
    """How much data a pool may hold (None: no quota), and whether it takes no more: by its quota, or because
    its OSDs are full."""

    quota_bytes: int | None
    full: bool


def pool_limits(cluster: Cluster) -> dict[str, PoolLimits]:
    """The limits of every pool by its name. Blocks. Source: the monitors' `osd pool ls detail`.

    Raises:
        CephUnavailable, CephFailed
    """
    pools = cluster.answer(prefix="osd pool ls", detail="detail", format="json")
    return {
        pool["pool_name"]: PoolLimits(
            int(pool["quota_max_bytes"]) or None, "full" in pool["flags_names"].split(",")
        )
        for pool in pools
    }


def blocklisted_until_s(cluster: Cluster, address: str) -> float | None:
    """Until when a client may do nothing, in seconds since 1970; None: it may. Blocks. Source: the monitors'
    `osd blocklist ls`.

    Raises:
        CephUnavailable, CephFailed
    """
    for entry in cluster.answer(prefix="osd blocklist ls", format="json"):
        if entry["addr"] == address:
            return datetime.datetime.fromisoformat(entry["until"]).timestamp()
    return None
