"""Storage domains, images with snapshots and workers, in memory."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from tests.fakes.fake_events import heard
from virtceph import errors
from virtceph.ceph.groups import Members
from virtceph.ceph.monitors import PoolLimits
from virtceph.ceph.snapshotlist import Snapshot
from virtceph.ceph.spec import PoolSpec
from virtceph.ceph.workers import Call, Outcome
from virtceph.events import VolumeChanged
from virtceph.host.names import Then, nothing
from virtceph.virt.xml import RbdSource

STORAGE_DOMAIN = UUID("8e0d2c5a-7b1f-4c39-a3a5-6f2b90c1d402")
FSID = UUID("11f0a3c2-54b7-4d8e-9a61-0c7d52e3b903")


@dataclass
class FakeGroup:
    """An RBD group: its images while they are its members, what was made of them, and what is noted."""

    images: list[str]
    members: set[str] = field(default_factory=set)
    snapshot: str | None = None
    noted: dict[str, str] = field(default_factory=dict)


class FakeImages:
    """Images by name, each with its snapshots and how consistent they are noted to be."""

    def __init__(self, *names: str) -> None:
        self.by_name: dict[str, dict[str, str | None]] = {name: {} for name in names}
        # By image and snapshot: the note of its set, its number, and when it was made.
        self.set_notes: dict[tuple[str, str], dict[str, Any]] = {}
        self.ids: dict[tuple[str, str], int] = {}
        self.created_at_s: dict[tuple[str, str], float] = {}
        # Images whose users do not answer, and who has an image open.
        self.silent: set[str] = set()
        # Snapshots, by image and name, that may not be removed.
        self.protected: set[tuple[str, str]] = set()
        self.watchers: dict[str, list[str]] = {}
        # RBD groups by name, and the name of the snapshot that each holds.
        self.groups: dict[str, FakeGroup] = {}
        self._numbers = itertools.count(1)

    def is_protected(self, name: str, snapshot: str) -> bool:
        return (name, snapshot) in self.protected

    def exists(self, name: str) -> bool:
        return name in self.by_name

    def has_group(self, group: str) -> bool:
        return group in self.groups

    def snapshots(self, name: str, *, of_groups: bool = False) -> list[Snapshot]:
        known = self._known(name)
        of_none = [self._snapshot(name, snapshot, known[snapshot]) for snapshot in known]
        if not of_groups:
            return of_none
        parts = [
            self._snapshot(name, group.snapshot, group.noted.get(name), ident)
            for ident, group in self.groups.items()
            if group.snapshot is not None and name in group.images
        ]
        return of_none + parts

    def _snapshot(
        self, name: str, snapshot: str, consistency: str | None, group: str | None = None
    ) -> Snapshot:
        key = name, snapshot if group is None else group
        return Snapshot(
            snapshot,
            self.number(*key),
            1 << 30,
            self.created_at_s.get(key, time.time()),
            consistency,
            self.set_notes.get(key),
            group,
        )

    def number(self, name: str, snapshot: str) -> int:
        if (name, snapshot) not in self.ids:
            self.ids[name, snapshot] = next(self._numbers)
        return self.ids[name, snapshot]

    def has_snapshot(self, name: str, snapshot: str) -> bool:
        return snapshot in self._known(name)

    def watcher_addresses(self, name: str) -> list[str]:
        return self.watchers.get(name, [])

    def forget(self, name: str, snapshot: str) -> None:
        del self.by_name[name][snapshot]
        for known in (self.ids, self.set_notes, self.created_at_s):
            known.pop((name, snapshot), None)

    def _known(self, name: str) -> dict[str, str | None]:
        if name not in self.by_name:
            raise errors.NoSuchVolume(name)
        return self.by_name[name]


class FakeWorker:
    """As `ceph.workers.WorkerProcess`. `outcomes` replaces what making an image's snapshot comes to,
    `failing` what another operation on an image does."""

    def __init__(self, images: FakeImages) -> None:
        self._images = images
        self.outcomes: dict[str, Outcome] = {}
        self.failing: dict[tuple[str, str], Outcome] = {}
        self.calls: list[Call] = []
        self.open: set[str] = set()
        self.rolled_back: list[tuple[str, str]] = []
        self._users = 0
        self._one = threading.Lock()

    def alive(self) -> bool:
        return True

    def run(self, calls: list[Call], _deadline_s: float) -> list[Outcome]:
        assert self._one.acquire(blocking=False), "a worker is one thread's at a time"
        try:
            return [self._run(call) for call in calls]
        finally:
            self._one.release()

    def made(self, operation: str) -> list[str]:
        """The images that an operation was asked of."""
        return [call.arguments["name"] for call in self.calls if call.operation == operation]

    def _run(self, call: Call) -> Outcome:
        self.calls.append(call)
        # Of a group there is one at a time here.
        name = call.arguments.get("name", "group")
        replaced = self.outcomes if call.operation == "create_snapshot" else {}
        if name in replaced or (call.operation, name) in self.failing:
            return replaced.get(name) or self.failing[call.operation, name]
        try:
            return getattr(self, f"_{call.operation}")(**call.arguments)
        except errors.VirtcephError as error:
            return error

    def _open_image(self, name: str, snapshot: str) -> None:
        if self._images.has_snapshot(name, snapshot):
            raise errors.SnapshotExists(name, snapshot)
        self.open.add(name)
        if name in self._images.silent:
            raise errors.LockOwnerStalled(name, 2.0)

    def _close_image(self, name: str) -> None:
        self.open.discard(name)

    def _create_snapshot(self, name: str, snapshot: str) -> None:
        if self._images.has_snapshot(name, snapshot):
            raise errors.SnapshotExists(name, snapshot)
        self._images.by_name[name][snapshot] = None

    def _remove_snapshot(self, name: str, snapshot: str, snap_id: int | None = None) -> None:
        self._require(name, snapshot, snap_id)
        self._images.forget(name, snapshot)

    def _annotate_snapshot(
        self, name: str, snapshot: str, consistency: str, set_note: dict[str, Any] | None
    ) -> None:
        self._require(name, snapshot, None)
        self._images.by_name[name][snapshot] = consistency
        if set_note is not None:
            self._images.set_notes[name, snapshot] = set_note

    def _roll_back(self, name: str, snapshot: str, snap_id: int) -> None:
        self._require(name, snapshot, snap_id)
        self.rolled_back.append((name, snapshot))

    def _clone(self, name: str, snapshot: str, snap_id: int, new_name: str) -> None:
        self._require(name, snapshot, snap_id)
        if new_name in self._images.by_name:
            raise errors.VolumeExists(new_name)
        self._images.by_name[new_name] = {}

    def _remove(self, name: str) -> None:
        if self._images.by_name.pop(name, None) is None:
            raise errors.NoSuchVolume(name)

    def _join_group(self, group: str, snapshot: str, members: Members) -> None:
        names = [name for _pool, name in members]
        for name in names:
            if name in self._images.silent:
                raise errors.LockOwnerStalled(name, 2.0)
            if any(s.name == snapshot for s in self._images.snapshots(name, of_groups=True)):
                raise errors.SnapshotExists(name, snapshot)
        made = self._images.groups[group] = FakeGroup(names)
        for name in names:
            if any(name in other.members for other in self._images.groups.values()):
                raise errors.OperationNotSupported(f"to group {name}", "method=parallel")
            made.members.add(name)

    def _make_group_snapshot(self, group: str, snapshot: str, members: Members) -> None:
        made = self._images.groups[group]
        assert made.members == {name for _pool, name in members}
        made.snapshot = snapshot

    def _annotate_group(
        self,
        group: str,
        snapshot: str,
        members: Members,
        consistency: str,
        set_note: dict[str, Any] | None,
    ) -> None:
        made = self._images.groups[group]
        assert made.snapshot == snapshot
        made.members.clear()
        for _pool, name in members:
            made.noted[name] = consistency
            if set_note is not None:
                self._images.set_notes[name, group] = set_note

    def _remove_group(self, group: str, snapshot: str, members: Members) -> None:
        self._images.groups.pop(group, None)
        for _pool, name in members:
            self._images.set_notes.pop((name, group), None)

    def _roll_back_group(self, group: str, snapshot: str, members: Members) -> None:
        assert self._images.groups[group].snapshot == snapshot
        self.rolled_back += [(name, snapshot) for _pool, name in members]

    def _copy_snapshot(
        self, name: str, snapshot: str, snap_id: int, group: str, part: str, new_name: str
    ) -> None:
        assert snap_id == self._images.number(name, group)
        if new_name in self._images.by_name:
            raise errors.VolumeExists(new_name)
        self._images.by_name[new_name] = {}

    def _require(self, name: str, snapshot: str, snap_id: int | None) -> None:
        there = self._images.has_snapshot(name, snapshot)
        if not there or snap_id not in (None, self._images.number(name, snapshot)):
            raise errors.NoSuchSnapshot(name, snapshot)


class FakeWorkers:
    """As `ceph.workers.WorkerPool`, with one worker to lend and another for `run`."""

    def __init__(self, worker: FakeWorker) -> None:
        self.one = worker
        self.lent = 0

    @contextlib.contextmanager
    def worker(self) -> Iterator[FakeWorker]:
        self.lent += 1
        yield self.one
        self.lent -= 1
        assert not self.one.open, "a worker was given back with images open"

    def run(self, calls: list[Call], timeout_s: float) -> list[Outcome]:
        return [self.one._run(call) for call in calls]


@dataclass(eq=False)
class FakeStorageDomain:
    """As `host.storage.StorageDomain`, for the pool `vms`."""

    images: FakeImages = field(default_factory=lambda: FakeImages("web-root", "web-data"))
    pool: PoolSpec = field(default_factory=lambda: PoolSpec("vms"))
    cluster: Any = field(default_factory=lambda: SimpleNamespace(fsid=FSID))
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(
            storage_domain_id=STORAGE_DOMAIN, pool="vms", user="virtceph"
        )
    )
    monitors_answer: bool = True
    quotas: dict[str, PoolLimits] = field(default_factory=dict)

    def limits(self) -> dict[str, PoolLimits]:
        return self.quotas

    def require_monitors(self) -> None:
        if not self.monitors_answer:
            raise errors.CephUnavailable("the monitors did not answer in time")

    def images_in(self, pool: str) -> FakeImages:
        assert pool == self.pool.pool
        return self.images

    def owns(self, source: RbdSource) -> bool:
        return (source.pool, source.namespace) == (self.pool.pool, self.pool.namespace)

    def snapshot_name(self, image: str, snapshot: str) -> tuple[str, str, str]:
        return str(self.pool), image, snapshot

    def give_up(
        self, _names: object, image: str, snapshot: str, _timeout_s: float, then: Then = nothing
    ) -> None:
        self.given_up.append((image, snapshot))
        self.afterwards.append(then)

    def changed(self, action: str, volume: str, **more: Any) -> None:
        event = VolumeChanged(STORAGE_DOMAIN, volume, action, **more)
        self.told.append(event)
        heard(event)

    def __post_init__(self) -> None:
        self.told: list[VolumeChanged] = []
        # What is to be undone later, and what is to be called then.
        self.given_up: list[tuple[str, str]] = []
        self.afterwards: list[Then] = []
        self.worker = FakeWorker(self.images)
        self.workers = FakeWorkers(self.worker)


class FakeStorageDomains:
    """As `host.storage.StorageDomains`, with one storage domain."""

    def __init__(self) -> None:
        self.one = FakeStorageDomain()
        self.connected = True

    def of(self, source: RbdSource) -> FakeStorageDomain | None:
        return self.one if self.connected and source.pool == self.one.pool.pool else None

    def find(self, fsid: str, pool: str, namespace: str) -> FakeStorageDomain | None:
        wanted = (str(self.one.cluster.fsid), self.one.pool)
        same = (fsid, PoolSpec(pool, namespace)) == wanted
        return self.one if self.connected and same else None

    def get(self, storage_domain_id: UUID) -> FakeStorageDomain:
        if storage_domain_id != STORAGE_DOMAIN:
            raise errors.NoSuchStorageDomain(storage_domain_id)
        return self.one
