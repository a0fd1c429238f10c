"""The RBD snapshots of one job, made at one instant by a group of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from virtceph import errors
from virtceph.ceph.snapshotlist import group_name
from virtceph.ceph.spec import PoolSpec
from virtceph.ceph.workers import Call, NoReply, Outcome
from virtceph.host.drives import RbdDrive
from virtceph.host.names import SnapshotNames, Then, nothing
from virtceph.host.rbdsnapshots import AFTERWARDS_S, Outcomes, RbdSnapshots
from virtceph.host.setnotes import FoundSet
from virtceph.host.storage import StorageDomain


def group_call(
    operation: str, pool: PoolSpec, group: str, snapshot: str, members: Sequence[tuple[str, str]]
) -> Call:
    """What a worker is to do with a group in `pool`, and its members (pool, image)."""
    arguments = {"group": group, "snapshot": snapshot, "members": list(members)}
    return Call(operation, pool, arguments)


def give_up_group(
    home: StorageDomain,
    names: SnapshotNames,
    removal: Call,
    timeout_s: float,
    then: Then = nothing,
) -> None:
    """Have a group removed by `removal` as soon as that can be done; `then` is called. Does not wait."""
    group, snapshot = removal.arguments["group"], removal.arguments["snapshot"]
    names.give_up(
        home.snapshot_name(group, snapshot),
        lambda: home.images.has_group(group),
        lambda: home.workers.run([removal], timeout_s)[0],
        then,
    )


def run_on_group(found: FoundSet, group: str, operation: str, timeout_s: float) -> Outcome:
    """Have a worker do something with the group of a set. Blocks up to `timeout_s`."""
    if found.home is None:
        gone = next(disk.pool for disk in found.note.disks if disk.pool is not None)
        return errors.CephUnavailable(f"no storage domain of the group's pool {gone} is connected")
    members = [(member.domain.pool.pool, member.image) for member in found.members]
    snapshot = found.members[0].snapshot.name
    call = group_call(operation, found.home.pool, group, snapshot, members)
    try:
        return found.home.workers.run([call], timeout_s)[0]
    except errors.VirtcephError as error:
        return error


class GroupSnapshots(RbdSnapshots):
    """As RbdSnapshots, by one worker: that of the first image's storage domain, in whose pool the group
    lies. What becomes of the group becomes of each drive."""

    _in_group = False

    def _prepare_images(self, is_set: bool) -> None:
        group = group_name(self._id)
        # First: a group is something to be removed, and its members can be in no other.
        self._put_intent(is_set=is_set, group=group)
        self._in_group = True
        outcome = self._run(self._call("join_group"), self._timeout_s)
        if isinstance(outcome, NoReply):
            raise errors.CephUnavailable("the images could not be grouped in time")
        if isinstance(outcome, errors.VirtcephError):
            raise outcome

    def _create_all(self, timeout_s: float) -> Outcomes:
        return self._on_group(self._call("make_group_snapshot"), timeout_s)

    def _remove_all(self) -> Outcomes:
        if not self._in_group:
            return []
        return self._on_group(self._call("remove_group"), self._timeout_s)

    def _note_all(self, consistency: str, set_note: dict[str, Any] | None) -> Outcomes:
        call = self._call("annotate_group", consistency=consistency, set_note=set_note)
        return self._on_group(call, AFTERWARDS_S)

    def _give_up(self, late: list[RbdDrive]) -> None:
        if late:
            home = self._drives[0].domain
            removal = self._call("remove_group")
            give_up_group(home, self._names, removal, self._timeout_s, self.settle)

    def _call(self, operation: str, **more: Any) -> Call:
        home, snapshot = self._drives[0].domain.pool, self._drives[0].snapshot
        members = [(drive.domain.pool.pool, drive.image) for drive in self._drives]
        call = group_call(operation, home, group_name(self._id), snapshot, members)
        return Call(call.operation, call.pool, {**call.arguments, **more})

    def _on_group(self, call: Call, timeout_s: float) -> Outcomes:
        outcome = self._run(call, timeout_s)
        return [(drive, outcome) for drive in self._drives]

    def _run(self, call: Call, timeout_s: float) -> Outcome:
        with self._busy:
            home = self._drives[0].domain
            worker = self._workers.get(home)
            try:
                if worker is not None and worker.alive():
                    return worker.run([call], time.monotonic() + timeout_s)[0]
                return home.workers.run([call], timeout_s)[0]
            except errors.VirtcephError as error:
                return error
