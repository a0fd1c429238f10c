"""Whether the clients that have an image open answer, asked before anything is asked of them.

A snapshot is made by the image's lock owner. When that VM is stalled, librbd waits, breaks its lock once
its watch has lapsed (30 s), and puts it on the blocklist: the VM loses its disk. And every client that
died with the image open holds up each change for as long as its watch lasts. So all watchers are sent an
empty notification first, as librbd itself does to say "read the header again"; it changes nothing.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Set
from typing import Any

import rados
import rbd

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import locks_of, reopened, watchers_of
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import CephUnavailable, LockOwnerStalled, NoSuchVolume

# A healthy client answers in milliseconds; the OSDs count this in whole seconds.
PROBE_S = 2.0
_WATCH_S = 30
# Each takes some milliseconds, in which one that lives is seldom found gone.
_LOOKS = 6


def require_answers(
    cluster: Cluster, pool: PoolSpec, image: rbd.Image, name: str, dead: Set[int]
) -> None:
    """Return if every client that has the image open answers. Blocks up to about `PROBE_S`.

    `dead` are clients known to have ended: a lock that one of them left is nobody's. Of any other owner whose
    watch has lapsed nobody here can tell whether it is dead or stalled.

    Raises:
        LockOwnerStalled: the lock owner does not answer, or its watch has lapsed.
        CephUnavailable: another client does not, or may be the one; it is forgotten 30 s after its end.
        NoSuchVolume: it was removed meanwhile.
    """
    gone = NoSuchVolume(name)
    with ceph_faults("ask who has the image open", cluster.spec.user, not_found=gone):
        stalled = silent_owners(cluster, pool, image, name, dead)
    if stalled:
        raise LockOwnerStalled(name, PROBE_S)


def silent_owners(
    cluster: Cluster, pool: PoolSpec, image: rbd.Image, name: str, dead: Set[int] = frozenset()
) -> set[int]:
    """Those that hold the image's lock and do not answer, without the `dead`. Blocks up to about `PROBE_S`.

    Who has the lock and who answers are two questions, between which people come and go. Who leaves gives
    the lock back first, and is listed no more. A process that serves one request after the other may have it
    again by then, under the same number: it is asked again. Only an owner that is found without a watch each
    time is one whose watch has lapsed.

    Raises:
        CephUnavailable: somebody does not answer, and it may be another.
        rados.Error, rbd.Error
    """
    ioctx = cluster.ioctx(pool)
    owners = _clients(image) - dead
    for _ in range(_LOOKS):
        answered = ask_all(ioctx, image.id())
        owners -= answered or set()
        if owners or answered is None:
            with reopened(ioctx, image) as now:
                owners &= _clients(now)
                if answered is None and _is_silent(now, name, owners, cluster.client_id):
                    break
        if not owners:
            break
    return owners


def _is_silent(image: rbd.Image, name: str, owners: Set[int], ours: int) -> bool:
    """Whether it is the lock's owner that did not answer; False when all who were asked have left. Whoever
    acts on it may cut the owner off: raises CephUnavailable where it may be another."""
    watches = [watch for watch in watchers_of(image) if watch.client != ours]
    suspects = {watch.client for watch in watches}
    if not suspects or suspects == owners:
        return bool(suspects)
    addresses = ", ".join(sorted(watch.address for watch in watches))
    raise CephUnavailable(
        f"{name} is open at {addresses}, and not all of them answer; one that is dead is forgotten "
        f"within {_WATCH_S} s"
    )


def _clients(image: rbd.Image) -> set[int]:
    return {lock.client for lock in locks_of(image)}


def ask_all(ioctx: rados.Ioctx, image_id: str) -> set[int] | None:
    """Ask everybody who has the image open: the numbers of the clients that answered. None when somebody did
    not: librados knows who, and its binding for Python does not tell (seen with 16.2 and 18.2). Blocks up to
    about `PROBE_S`. Source: rados_aio_notify on the image's header object.

    Raises:
        CephUnavailable, rados.Error
    """
    done = threading.Event()
    told: dict[str, Any] = {}

    def complete(_completion: Any, result: int, acks: Any, _timeouts: Any) -> None:
        told["result"], told["acks"] = result, acks or []
        done.set()

    ioctx.aio_notify(f"rbd_header.{image_id}", complete, "", int(PROBE_S * 1000))
    if not done.wait(PROBE_S * 3):
        raise CephUnavailable("the OSDs did not answer in time")
    if told["result"] == -errno.ETIMEDOUT:
        return None
    if told["result"] < 0:
        raise rados.OSError("the image's users could not be asked", errno=-told["result"])
    return {ack[0] for ack in told["acks"]}
