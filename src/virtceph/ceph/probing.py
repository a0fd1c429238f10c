"""Whether a cluster answers at all: one question to its monitors, one to an OSD, each bounded."""

from __future__ import annotations

import contextlib
import time

import rados

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.spec import PoolSpec

# librbd's list of a pool's images. Whether it is there does not matter.
_OBJECT = "rbd_directory"


def probe(cluster: Cluster, pool: PoolSpec) -> float:
    """How long the slower of the two answers took, in seconds. Blocks up to twice the connection's time-out.
    Source: rados_stat; the monitors' `version`.

    Raises:
        NoSuchPool, CephUnavailable, CephPermissionDenied, CephFailed
    """
    with cluster.using():
        began_s = time.monotonic()
        with (
            ceph_faults("ask an OSD", cluster.spec.user),
            contextlib.suppress(rados.ObjectNotFound),
        ):
            cluster.ioctx(pool).stat(_OBJECT)
        osd_s = time.monotonic() - began_s
        cluster.answer(prefix="version", format="json")
        return max(osd_s, time.monotonic() - began_s - osd_s)
