"""New images beside the originals, from the snapshots of a set: all of them, or none.

What a group holds is copied (librbd 16 cannot clone it). A copy has a name of its own until it is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.ceph.workers import Call, Outcome
from virtceph.host.intents import Intents, Planned, new_intent
from virtceph.host.names import SnapshotNames, Then, after_all
from virtceph.host.setnotes import FoundSet, Member
from virtceph.host.sidebyside import failure_of, in_workers, may_be_made, on_all
from virtceph.host.storage import StorageDomain
from virtceph.log import facts

log = logging.getLogger(__name__)

# A clone is made in some rounds to the OSDs; its removal, empty as it is, as well. A copy takes as long as
# its image is large.
_CLONE_S = 60.0
_COPY_S = float("inf")
_MAX_NAME = 95

Outcomes = list[tuple[Member, Outcome]]


class Cloner:
    """Makes clones, one request for a name at a time."""

    def __init__(self, intents: Intents) -> None:
        self._intents = intents
        self._names = SnapshotNames()

    def clone(self, vm_id: UUID, found: FoundSet, prefix: str) -> None:
        """Make an image called `prefix` and its original's name of each member. Blocks, for copies as long as
        that takes.

        Raises:
            InvalidParameter: a name would be too long.
            VolumeExists: an image has such a name, or is about to get it.
            OperationNotSupported: what is to be copied cannot be recorded.
            NoSuchVolume, NoSuchSnapshot, CephUnavailable, CephPermissionDenied, CephFailed
        """
        for member in found.members:
            if len(prefix + member.image) > _MAX_NAME:
                expected = f"a prefix that leaves names of at most {_MAX_NAME} characters"
                raise errors.InvalidParameter("clonePrefix", expected)
        with self._reserved(found, prefix):
            if found.group is None:
                self._clone(found, prefix)
            else:
                self._copy(vm_id, found, found.group, prefix)

    def _clone(self, found: FoundSet, prefix: str) -> None:
        def arguments(member: Member) -> dict[str, Any]:
            return {**_snapshot(member), "new_name": prefix + member.image}

        outcomes = on_all(found.members, "clone", arguments, in_workers(_CLONE_S))
        _all_or_none(outcomes, prefix, _CLONE_S)

    def _copy(self, vm_id: UUID, found: FoundSet, group: str, prefix: str) -> None:
        ident = uuid4()

        def part(member: Member) -> str:
            return f".virtceph-{ident}-{found.members.index(member)}"

        def arguments(member: Member) -> dict[str, Any]:
            names = {"part": part(member), "new_name": prefix + member.image}
            return {**_snapshot(member), "group": group, **names}

        self._record(ident, vm_id, [(member.domain, part(member)) for member in found.members])
        outcomes = on_all(found.members, "copy_snapshot", arguments, in_workers(_COPY_S))
        # A worker removes its own part when it fails; one that ended could not.
        left = [(m.domain, part(m)) for m, outcome in outcomes if failure_of(outcome, "", 0)]
        remove_images(left, self._names, lambda: self._intents.remove(ident))
        _all_or_none(outcomes, prefix, _COPY_S)

    def _record(self, ident: UUID, vm_id: UUID, parts: list[tuple[StorageDomain, str]]) -> None:
        planned = tuple(
            Planned(home.cluster.fsid, home.pool.pool, home.pool.namespace, part, "")
            for home, part in parts
        )
        try:
            self._intents.put(new_intent(ident, vm_id, planned, is_set=False))
        except OSError as error:
            what = f"to copy what cannot be recorded ({error.strerror})"
            raise errors.OperationNotSupported(what, "room in the state directory") from error

    @contextmanager
    def _reserved(self, found: FoundSet, prefix: str) -> Iterator[None]:
        wanted = [m.domain.snapshot_name(prefix + m.image, "") for m in found.members]
        reserving = self._names.reserve(wanted)
        try:
            reserving.__enter__()
        except errors.SnapshotExists as error:
            raise errors.VolumeExists(error.volume_name) from error
        try:
            yield
        finally:
            reserving.__exit__(None, None, None)


def remove_images(
    images: list[tuple[StorageDomain, str]], names: SnapshotNames, then: Then
) -> None:
    """Remove images that are not whole, now or as soon as that can be done; `then` is called when none is
    left. Blocks while what can be removed is."""
    later = [(domain, name) for domain, name in images if not _is_removed(domain, name)]
    if not later:
        then()
    ended = after_all(len(later), then)
    for domain, name in later:
        _give_up(domain, name, names, ended)


def _is_removed(domain: StorageDomain, name: str) -> bool:
    failure: errors.VirtcephError | None
    try:
        (outcome,) = domain.workers.run([_removal(domain, name)], _CLONE_S)
        failure = failure_of(outcome, name, _CLONE_S)
    except errors.VirtcephError as error:
        failure = error
    if failure is None or isinstance(failure, errors.NoSuchVolume):
        return True
    log.warning("not removed yet %s", facts(image=name, reason=failure))
    return False


def _give_up(domain: StorageDomain, name: str, names: SnapshotNames, then: Then) -> None:
    """Have an image removed as soon as nobody has it open any more: who died with it open counts for 30 s."""
    names.give_up(
        domain.snapshot_name(name, ""),
        lambda: domain.images.exists(name),
        lambda: domain.workers.run([_removal(domain, name)], _CLONE_S)[0],
        then,
    )


def _removal(domain: StorageDomain, name: str) -> Call:
    return Call("remove", domain.pool, {"name": name})


def _all_or_none(outcomes: Outcomes, prefix: str, timeout_s: float) -> None:
    """Return if all were made, else remove those that were, and raise the first error."""
    failures = (failure_of(outcome, m.image, timeout_s) for m, outcome in outcomes)
    failure = next((error for error in failures if error is not None), None)
    if failure is None:
        return
    made = [member for member, outcome in outcomes if may_be_made(outcome)]
    removal = on_all(made, "remove", lambda m: {"name": prefix + m.image}, in_workers(_CLONE_S))
    for member, outcome in removal:
        error = failure_of(outcome, member.image, _CLONE_S)
        if error is not None and not isinstance(error, errors.NoSuchVolume):
            log.error("clone not removed %s", facts(image=prefix + member.image, reason=error))
    raise failure


def _snapshot(member: Member) -> dict[str, Any]:
    snapshot = member.snapshot
    return {"name": member.image, "snapshot": snapshot.name, "snap_id": snapshot.id}
