"""A storage domain whose images are known in full, in memory, for the rules on whole volumes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from tests.fakes.fake_events import heard
from tests.fakes.fake_storage import FSID, STORAGE_DOMAIN
from virtceph import errors
from virtceph.ceph.clones import Ancestry, Clone
from virtceph.ceph.imageinfo import ImageInfo, Lock, Watch
from virtceph.ceph.images import ImageDetails
from virtceph.ceph.monitors import PoolLimits
from virtceph.ceph.qos import Qos, qos_of
from virtceph.ceph.snapshotlist import Snapshot, SnapshotState
from virtceph.ceph.spec import PoolSpec
from virtceph.ceph.trashlist import TrashEntry
from virtceph.ceph.workers import Call, NoReply, Outcome
from virtceph.events import VolumeChanged
from virtceph.units import GiB, MiB
from virtceph.virt.xml import RbdSource

LAYERS = ["layering", "exclusive-lock", "object-map"]
OTHER_DOMAIN = UUID("0c9b1d7e-64a2-4f0b-8a5e-2f1e3d4c5b01")
OURS, OUR_ADDRESS = 4200, "10.0.1.2:0/77"


def image(name: str, **other: Any) -> ImageInfo:
    """An image of 1 GiB that nobody has open."""
    what: dict[str, Any] = {
        "id": f"id-{name}",
        "size_bytes": GiB,
        "object_size_bytes": 4 * MiB,
        "features": LAYERS,
        "data_pool": None,
        "created_at_s": 1.0,
        "parent": None,
        "snapshots": [],
        "watchers": [],
        "lock": None,
    }
    return ImageInfo(name=name, **{**what, **other})


def watched(client: int = 4119, host: str = "10.0.1.9") -> dict[str, Any]:
    """As a VM has an image open: watched and locked."""
    address = f"{host}:0/{client}"
    return {"watchers": [Watch(address, client)], "lock": Lock(address, client, "auto 1")}


def snapshot(number: int, name: str, kind: str = "user", **other: Any) -> SnapshotState:
    """A snapshot that is not protected."""
    return SnapshotState(name, number, kind, **{"protected": False, **other})


def clone(snap_id: int, name: str | None, pool: str = "vms", **other: Any) -> Clone:
    """A clone of a snapshot."""
    return Clone(snap_id, pool, **{"namespace": "", "image": name, "image_id": f"id-{name}",
                                   "in_trash": False, **other})  # fmt: skip


def entry(name: str, **other: Any) -> TrashEntry:
    """An entry of the trash that is due."""
    now_s = time.time()
    what = {"id": f"id{name}", "source": "user", "size_bytes": GiB, "deleted_at_s": now_s - 60}
    return TrashEntry(name=name, **{**what, "kept_until_s": now_s - 60, **other})


class FullImages:
    """As `ceph.images.Images`."""

    def __init__(self, *images: ImageInfo) -> None:
        self.by_name = {one.name: one for one in images}
        self.clones_of: dict[str, list[Clone]] = {}
        self.in_trash: list[TrashEntry] = []
        self.of_pool = Qos()
        self.ancestry: Ancestry | None = None
        self.used_bytes: int | None = 64 * MiB

    def info(self, name: str) -> ImageInfo:
        if name not in self.by_name:
            raise errors.NoSuchVolume(name)
        return self.by_name[name]

    def details(self, name: str, *, brief: bool = False) -> ImageDetails:
        info = self.info(name)
        used = None if brief else self.used_bytes
        return ImageDetails(info, self.clones(name), self.ancestry, used)

    def clones(self, name: str) -> list[Clone]:
        return self.clones_of.get(name, [])

    def exists(self, name: str) -> bool:
        return name in self.by_name

    def name_of(self, image_id: str) -> str | None:
        return next((n for n, one in self.by_name.items() if one.id == image_id), None)

    def snapshot_id(self, name: str, snapshot: str) -> int:
        for state in self.info(name).snapshots:
            if (state.kind, state.name) == ("user", snapshot):
                return state.id
        raise errors.NoSuchSnapshot(name, snapshot)

    def snapshots(self, name: str) -> list[Snapshot]:
        own = [s for s in self.info(name).snapshots if s.kind == "user"]
        return [Snapshot(s.name, s.id, GiB, 1.0, None, protected=s.protected) for s in own]

    def has_snapshot(self, name: str, snapshot: str) -> bool:
        return any(s.name == snapshot for s in self.snapshots(name))

    def qos(self, name: str) -> tuple[Qos, Qos]:
        return qos_of(self.info(name).metadata), self.of_pool

    def trash(self) -> list[TrashEntry]:
        return self.in_trash

    def create(
        self, name: str, size: int, object_size: int, features: list[str], pool: Any
    ) -> None:
        if name in self.by_name:
            raise errors.VolumeExists(name)
        how = {"size_bytes": size, "object_size_bytes": object_size, "features": features}
        self.by_name[name] = image(name, **how, data_pool=pool)


class FullWorkers:
    """As `ceph.workers.WorkerPool`: notes what is asked for. `answers` are what operations come to, by their
    names: an outcome, or a function that makes one."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: dict[str, Any] = {}
        self.timeouts_s: list[float] = []
        self.dead: set[int] = set()

    def clients(self) -> set[int]:
        return {OURS + 1}

    def run(self, calls: list[Call], timeout_s: float) -> list[Outcome]:
        self.calls += calls
        self.timeouts_s.append(timeout_s)
        outcomes = (self.answers.get(call.operation) for call in calls)
        return [one() if callable(one) else one for one in outcomes]

    @property
    def asked(self) -> list[str]:
        return [call.operation for call in self.calls]


@dataclass(eq=False)
class FullDomain:
    """As `host.storage.StorageDomain`."""

    images: FullImages = field(default_factory=lambda: FullImages(image("web-root")))
    pool: PoolSpec = field(default_factory=lambda: PoolSpec("vms"))
    fsid: UUID = FSID
    ident: UUID = STORAGE_DOMAIN

    def __post_init__(self) -> None:
        self.workers = FullWorkers()
        self.cluster = SimpleNamespace(fsid=self.fsid, client_id=OURS, address=OUR_ADDRESS)
        self.settings = SimpleNamespace(storage_domain_id=self.ident)
        self.pools: dict[str, PoolLimits] | errors.VirtcephError = {}
        self.given_up: list[str] = []
        self.told: list[VolumeChanged] = []

    def changed(self, action: str, volume: str, **more: Any) -> None:
        event = VolumeChanged(self.ident, volume, action, **more)
        self.told.append(event)
        heard(event)

    def limits(self) -> dict[str, PoolLimits]:
        if isinstance(self.pools, errors.VirtcephError):
            raise self.pools
        return self.pools

    def owns(self, source: RbdSource) -> bool:
        return self.may_own(source) and source.monitors == ("10.0.1.1:6789",)

    def may_own(self, source: RbdSource) -> bool:
        return (source.pool, source.namespace) == (self.pool.pool, self.pool.namespace)

    def snapshot_name(self, image: str, snapshot: str) -> tuple[str, str, str]:
        return str(self.pool), image, snapshot

    def give_up(self, _names: object, image: str, snapshot: str, _timeout_s: float) -> None:
        self.given_up.append(f"{image}@{snapshot}")

    def change(self, name: str, **what: Any) -> None:
        """Let an image be otherwise."""
        self.images.by_name[name] = replace(self.images.by_name[name], **what)


class FullDomains:
    """As `host.storage.StorageDomains`, with a domain, and another in the same cluster."""

    def __init__(self) -> None:
        self.one = FullDomain()
        self.other = FullDomain(FullImages(), PoolSpec("fast"), ident=OTHER_DOMAIN)

    def get(self, storage_domain_id: UUID) -> FullDomain:
        for domain in (self.one, self.other):
            if domain.ident == storage_domain_id:
                return domain
        raise errors.NoSuchStorageDomain(storage_domain_id)

    def find(self, fsid: str, pool: str, namespace: str) -> FullDomain | None:
        wanted = fsid, PoolSpec(pool, namespace)
        both = (self.one, self.other)
        return next((d for d in both if (str(d.fsid), d.pool) == wanted), None)


def no_reply(*, begun: bool = True) -> NoReply:
    """What a worker comes to that was killed for being late."""
    return NoReply(begun)
