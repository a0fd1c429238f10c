"""Storage domains, images with snapshots and workers, in memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.spec import PoolSpec
from virtceph.ceph.workers import Call, Outcome
from virtceph.virt.xml import RbdSource

STORAGE_DOMAIN = UUID("8e0d2c5a-7b1f-4c39-a3a5-6f2b90c1d402")


class FakeImages:
    """Images by name, each with its snapshots and what is noted of them."""

    def __init__(self, *names: str) -> None:
        self.by_name: dict[str, dict[str, str | None]] = {name: {} for name in names}
        # Images whose users do not answer.
        self.silent: set[str] = set()

    def require_answers(self, name: str) -> None:
        if name in self.silent:
            raise errors.LockOwnerStalled(name, 2.0)

    def has_snapshot(self, name: str, snapshot: str) -> bool:
        if name not in self.by_name:
            raise errors.NoSuchVolume(name)
        return snapshot in self.by_name[name]


class FakeWorker:
    """As `ceph.workers.WorkerProcess`. `outcomes` replaces what an image's calls come to."""

    def __init__(self, images: FakeImages) -> None:
        self._images = images
        self.outcomes: dict[str, Outcome] = {}
        self.calls: list[Call] = []

    def run(self, calls: list[Call], _deadline_s: float) -> list[Outcome]:
        return [self._run(call) for call in calls]

    def _run(self, call: Call) -> Outcome:
        self.calls.append(call)
        name = call.arguments["name"]
        if call.operation == "create_snapshot" and name in self.outcomes:
            return self.outcomes[name]
        snapshots = self._images.by_name[name]
        if call.operation == "remove_snapshot":
            del snapshots[call.arguments["snapshot"]]
        else:
            snapshots[call.arguments["snapshot"]] = call.arguments.get("consistency")
        return None


class FakeWorkers:
    """As `ceph.workers.WorkerPool`, with one worker."""

    def __init__(self, worker: FakeWorker) -> None:
        self.one = worker

    @contextlib.contextmanager
    def worker(self) -> Iterator[FakeWorker]:
        yield self.one

    def run(self, calls: list[Call], timeout_s: float) -> list[Outcome]:
        return self.one.run(calls, timeout_s)


@dataclass(eq=False)
class FakeStorageDomain:
    """As `host.storage.StorageDomain`, for the pool `vms`."""

    images: FakeImages = field(default_factory=lambda: FakeImages("web-root", "web-data"))
    pool: PoolSpec = field(default_factory=lambda: PoolSpec("vms"))
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(storage_domain_id=STORAGE_DOMAIN, pool="vms")
    )

    def snapshot_name(self, image: str, snapshot: str) -> tuple[str, str, str]:
        return str(self.pool), image, snapshot

    def give_up(self, _names: object, image: str, snapshot: str, _timeout_s: float) -> None:
        self.given_up.append((image, snapshot))

    def __post_init__(self) -> None:
        self.given_up: list[tuple[str, str]] = []
        self.worker = FakeWorker(self.images)
        self.workers = FakeWorkers(self.worker)


class FakeStorageDomains:
    """As `host.storage.StorageDomains`, with one storage domain."""

    def __init__(self) -> None:
        self.one = FakeStorageDomain()

    def of(self, source: RbdSource) -> FakeStorageDomain | None:
        return self.one if source.pool == self.one.pool.pool else None

    def get(self, storage_domain_id: UUID) -> FakeStorageDomain:
        if storage_domain_id != STORAGE_DOMAIN:
            raise errors.NoSuchStorageDomain(storage_domain_id)
        return self.one
