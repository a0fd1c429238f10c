"""Half-made snapshots of a daemon before this one, removed when their pool is connected again."""

from __future__ import annotations

import logging
import time

from virtceph import errors
from virtceph.ceph.snapshotlist import Snapshot
from virtceph.ceph.workers import Call, NoReply
from virtceph.host.cloning import remove_images
from virtceph.host.groupsnapshots import give_up_group, group_call
from virtceph.host.intents import Intent, Intents, Planned
from virtceph.host.names import SnapshotNames, nothing
from virtceph.host.storage import StorageDomain
from virtceph.log import facts

log = logging.getLogger(__name__)

# The caller of `StorageDomain.connect` waits for this.
_REMOVE_S = 10.0
# A worker that is given no time at all is killed with its requests on their way.
_LEAST_S = 1.0
# A snapshot of an intent is made after it: a freeze of at most 150 s and a snapshot of at most 20 s.
# The host's clock and the cluster's may differ by some seconds.
_BEFORE_S, _AFTER_S = 5.0, 180.0
# What an image's owner was asked for may still be made this long after the asker ended.
_MAY_APPEAR_S = 90.0


class Leftovers:
    """What is to be removed after a crash, by the intents that it left."""

    def __init__(self, intents: Intents, names: SnapshotNames, snapshot_timeout_s: float) -> None:
        self._intents, self._names, self._timeout_s = intents, names, snapshot_timeout_s

    def remove(self, domain: StorageDomain) -> None:
        """Remove what unfinished intents name in a storage domain's pool. Blocks, some 10 s (and one request
        to the cluster) at the most. What is late is removed when it appears; what cannot be asked for stays
        for the next time."""
        deadline_s = time.monotonic() + _REMOVE_S
        for intent in self._intents.left_in(domain.cluster.fsid, domain.pool):
            if time.monotonic() >= deadline_s:
                return
            wanted = [domain.snapshot_name(p.image, p.snapshot) for p in intent.snapshots]
            try:
                # Nobody makes one of these names meanwhile, so none is taken for what was left.
                with self._names.reserve(wanted):
                    self._remove(domain, intent, deadline_s)
            except errors.VirtcephError as error:
                log.warning("not cleared %s", facts(intent=intent.id, reason=error))
            else:
                self._intents.settled(intent)

    def _remove(self, domain: StorageDomain, intent: Intent, deadline_s: float) -> None:
        if not all(planned.snapshot for planned in intent.snapshots):
            images = [(domain, planned.image) for planned in intent.snapshots]
            remove_images(images, self._names, nothing)
            return
        if intent.group is not None:
            self._remove_group(domain, intent, intent.group, deadline_s)
            return
        found = {planned: _find(domain, planned) for planned in intent.snapshots}
        if all(snapshot and _is_finished(intent, snapshot) for snapshot in found.values()):
            return
        half = [planned for planned, s in found.items() if s is not None and _is_of(intent, s)]
        late = [p for p, s in found.items() if s is None and _may_appear(intent)]
        calls = [
            Call("remove_snapshot", domain.pool, {"name": p.image, "snapshot": p.snapshot})
            for p in half
        ]
        outcomes = domain.workers.run(calls, _left_s(deadline_s)) if calls else []
        for planned, outcome in zip(half, outcomes, strict=True):
            told = facts(image=planned.image, snapshot=planned.snapshot, intent=intent.id)
            if isinstance(outcome, NoReply | errors.VirtcephError):
                log.warning("half a set, not removed yet %s", told)
                late.append(planned)
            else:
                log.warning("removed of half a set %s", told)
        for planned in late:
            domain.give_up(self._names, planned.image, planned.snapshot, self._timeout_s)

    def _remove_group(
        self, domain: StorageDomain, intent: Intent, group: str, deadline_s: float
    ) -> None:
        members = [(planned.pool, planned.image) for planned in intent.snapshots]
        if _is_grouped(domain, intent, group) or not domain.images.has_group(group):
            return
        snapshot = intent.snapshots[0].snapshot
        removal = group_call("remove_group", domain.pool, group, snapshot, members)
        (outcome,) = domain.workers.run([removal], _left_s(deadline_s))
        told = facts(group=group, intent=intent.id)
        if isinstance(outcome, NoReply | errors.VirtcephError):
            # Its maker's locks are broken by who writes next, half a minute after its end.
            log.warning("group of half a set, not removed yet %s", told)
            give_up_group(domain, self._names, removal, self._timeout_s)
        else:
            log.warning("removed the group of half a set %s", told)


def _is_grouped(domain: StorageDomain, intent: Intent, group: str) -> bool:
    """Whether the note of the set is on each of its images, in whichever pool. Then nothing is left to do:
    the images leave the group before they are noted."""
    for planned in intent.snapshots:
        try:
            snapshots = domain.images_in(planned.pool).snapshots(planned.image, of_groups=True)
        except errors.NoSuchVolume:
            return False
        if not any(s.group == group and _is_finished(intent, s) for s in snapshots):
            return False
    return True


def _left_s(deadline_s: float) -> float:
    return max(_LEAST_S, deadline_s - time.monotonic())


def _find(domain: StorageDomain, planned: Planned) -> Snapshot | None:
    try:
        snapshots = domain.images.snapshots(planned.image)
    except errors.NoSuchVolume:
        return None
    return next((s for s in snapshots if s.name == planned.snapshot), None)


def _is_finished(intent: Intent, snapshot: Snapshot) -> bool:
    if intent.is_set:
        return snapshot.set_note is not None and snapshot.set_note.get("setID") == str(intent.id)
    return snapshot.consistency is not None


def _is_of(intent: Intent, snapshot: Snapshot) -> bool:
    """Whether the snapshot can be the one that was intended, and not a later one of that name."""
    if snapshot.set_note is not None and snapshot.set_note.get("setID") != str(intent.id):
        return False
    return -_BEFORE_S <= snapshot.created_at_s - intent.at_s <= _AFTER_S


def _may_appear(intent: Intent) -> bool:
    return 0 <= time.time() - intent.at_s < _MAY_APPEAR_S
