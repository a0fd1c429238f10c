"""Whether the clients that have an image open answer, asked before anything is asked of them.

A snapshot is made by the image's lock owner. When that VM is stalled, librbd waits, breaks its lock once
its watch has lapsed (30 s), and puts it on the blocklist: the VM loses its disk. And every client that
died with the image open holds up each change for as long as its watch lasts. So all watchers are sent an
empty notification first, as librbd itself does to say "read the header again"; it changes nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Set
from typing import Any

import rados
import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import locks_of, reopened
from virtceph.errors import CephUnavailable, LockOwnerStalled, NoSuchVolume

# A healthy client answers in milliseconds; the OSDs count this in whole seconds.
PROBE_S = 2.0
_WATCH_S = 30
# Each takes some milliseconds, in which one that lives is seldom found gone.
_LOOKS = 6


def require_answers(
    ioctx: rados.Ioctx, image: rbd.Image, name: str, user: str, dead: Set[int]
) -> None:
    """Return if every client that has the image open answers. Blocks up to about `PROBE_S`.

    `dead` are clients known to have ended: a lock that one of them left is nobody's. Of any other owner
    whose watch has lapsed nobody here can tell whether it is dead or stalled.

    Source: rados_aio_notify on the image's header object.

    Raises:
        LockOwnerStalled: the lock owner does not answer, or its watch has lapsed.
        CephUnavailable: another client does not; it is forgotten 30 s after its end.
        NoSuchVolume: it was removed meanwhile.
    """
    with ceph_faults("ask who has the image open", user, not_found=NoSuchVolume(name)):
        stalled, silent = silent_clients(ioctx, image, dead)
    if stalled:
        raise LockOwnerStalled(name, PROBE_S)
    if silent:
        raise CephUnavailable(
            f"{name} is watched by a client that does not answer; if it is dead it is forgotten "
            f"within {_WATCH_S} s"
        )


def silent_clients(
    ioctx: rados.Ioctx, image: rbd.Image, dead: Set[int] = frozenset()
) -> tuple[set[int], set[int]]:
    """Those that hold the image's lock and do not answer, without the `dead`; and all that have it open and
    do not. Blocks up to about `PROBE_S`. Raises CephUnavailable, rados.Error, rbd.Error.

    Who has the lock and who answers are two questions, between which people come and go. Who leaves gives
    the lock back first, and is listed no more. A process that serves one request after the other may have it
    again by then, under the same number: it is asked again. Only an owner that is found without a watch each
    time is one whose watch has lapsed.
    """
    owners = _clients(image)
    for _ in range(_LOOKS):
        answered, silent = ask_all(ioctx, image.id())
        stalled = owners - answered - dead
        if not stalled:
            break
        with reopened(ioctx, image) as now:
            owners = stalled = stalled & _clients(now)
        if not stalled or silent:
            break
    return stalled, silent


def _clients(image: rbd.Image) -> set[int]:
    return {lock.client for lock in locks_of(image)}


def ask_all(ioctx: rados.Ioctx, image_id: str) -> tuple[set[int], set[int]]:
    """Ask everybody who has the image open: the numbers of the clients that answered, and of those that did
    not. Blocks up to about `PROBE_S`. Raises CephUnavailable, rados.Error."""
    done = threading.Event()
    told: dict[str, Any] = {}

    def complete(_completion: Any, _result: int, acks: Any, timeouts: Any) -> None:
        told["acks"], told["timeouts"] = acks or [], timeouts or []
        done.set()

    ioctx.aio_notify(f"rbd_header.{image_id}", complete, "", int(PROBE_S * 1000))
    if not done.wait(PROBE_S * 3):
        raise CephUnavailable("the OSDs did not answer in time")
    return {ack[0] for ack in told["acks"]}, {late[0] for late in told["timeouts"]}
