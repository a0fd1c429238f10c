"""Copies and moves of volumes: to another name, pool, namespace or cluster."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.layout import Layout, layout_of
from virtceph.ceph.movers import Task
from virtceph.ceph.parts import PartSpec
from virtceph.ceph.sources import Place
from virtceph.host.datajobs import (
    NO_END_S,
    SHORT_S,
    DataJobs,
    TransferResult,
    Watch,
    Work,
    in_worker,
    is_made,
    leftover_in,
    made_before,
    name_part,
    part_left,
    part_name,
)
from virtceph.host.deletion import Deletions
from virtceph.host.held import Holder
from virtceph.host.job import Job
from virtceph.host.jobrecords import PURGED, TRASHED
from virtceph.host.obstacles import obstacles
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.host.volumes import Volumes, is_renamed

# What an image is part of and its copy would not be, and librbd ends without a word.
_TIES = {"group", "group-snapshot", "mirroring", "migration"}


@dataclass(frozen=True)
class CopyRequest:
    """The arguments of Volume.copy; equal ones under one job id are one job."""

    storage_domain_id: UUID
    volume_name: str
    snapshot_name: str | None
    new_name: str
    new_storage_domain_id: UUID
    with_snapshots: bool


@dataclass(frozen=True)
class MoveRequest:
    """The arguments of Volume.move."""

    storage_domain_id: UUID
    volume_name: str
    new_name: str
    new_storage_domain_id: UUID


class Copies:
    """Starts the jobs of Volume.copy and Volume.move. Every method blocks on the cluster for what can be
    checked at once, and raises NoSuchStorageDomain, NoSuchVolume, VolumeExists, JobExists,
    CephPermissionDenied, CephUnavailable or CephFailed beside what it names."""

    def __init__(
        self,
        storage: StorageDomains,
        data: DataJobs,
        holder: Holder,
        volumes: Volumes,
        deletions: Deletions,
    ) -> None:
        self._storage, self._data, self._holder = storage, data, holder
        self._volumes, self._deletions = volumes, deletions

    def copy(self, asked: CopyRequest, job_uuid: UUID | None) -> UUID:
        """Start a copy. Raises NoSuchSnapshot, InvalidParameter (the new name is the old one)."""

        def prepare(job_id: UUID) -> Work:
            source, target = self._domains(asked)
            layout = layout_of(source.images, asked.volume_name)
            if asked.snapshot_name is not None and asked.snapshot_name not in layout.snapshots:
                raise errors.NoSuchSnapshot(asked.volume_name, asked.snapshot_name)
            if is_made(target, asked.new_name, job_id):
                return lambda _job: made_before(target, asked.new_name)
            return lambda job: self._copy(job, asked, layout, source, target)

        return self._data.start(job_uuid, asked, "copy_volume", prepare)

    def move(self, asked: MoveRequest, job_uuid: UUID | None) -> UUID:
        """Start a move of a volume that nobody has open, with its snapshots. Raises VolumeInUse,
        OperationNotSupported (it has clones, no exclusive lock, or part in something that its copy would have
        none in), InvalidParameter."""

        def prepare(job_id: UUID) -> Work:
            source, target = self._domains(asked)
            if _same_place(source, target):
                return self._renaming(asked, source, target)
            if is_made(target, asked.new_name, job_id):
                return lambda _job: made_before(target, asked.new_name)
            layout = layout_of(source.images, asked.volume_name)
            _require_movable(asked.volume_name, layout)
            self._require_untied(asked.volume_name, source)
            return lambda job: self._move(job, asked, layout, source, target)

        return self._data.start(job_uuid, asked, "move_volume", prepare)

    # --- inside ---

    def _domains(self, asked: CopyRequest | MoveRequest) -> tuple[StorageDomain, StorageDomain]:
        source = self._storage.get(asked.storage_domain_id)
        target = self._storage.get(asked.new_storage_domain_id)
        if _same_place(source, target) and asked.new_name == asked.volume_name:
            raise errors.InvalidParameter("newName", "another name, or another storage domain")
        return source, target

    def _require_untied(self, volume: str, source: StorageDomain) -> None:
        """That it takes no part in anything else. Raises OperationNotSupported."""
        found = obstacles(self._deletions.look_at(source, volume))
        ties = [one for one in found if one.obstacle in _TIES]
        if ties:
            what = f"to move {volume}: " + "; ".join(one.what for one in ties)
            expected = "first: " + "; ".join(one.command for one in ties)
            raise errors.OperationNotSupported(what, f"{expected}; or copy it")

    def _copy(
        self,
        job: Job,
        asked: CopyRequest,
        layout: Layout,
        source: StorageDomain,
        target: StorageDomain,
    ) -> TransferResult:
        watch = Watch()
        with self._data.recorded(job, (part_left(job, target, asked.new_name),)) as recorded:
            done = self._holder.read(
                job,
                recorded,
                source,
                asked.volume_name,
                layout.still,
                asked.snapshot_name,
                lambda at: self._transfer(
                    job, source, asked.volume_name, at, target, layout, asked.with_snapshots
                ),
                lambda: in_worker(target, "discard_part", NO_END_S, name=part_name(job)),
            )
            job.require_going()
            name_part(job, target, asked.new_name)
        _tell("copied", asked, target, asked.snapshot_name)
        return _result(asked, target, done, watch)

    def _move(
        self,
        job: Job,
        asked: MoveRequest,
        layout: Layout,
        source: StorageDomain,
        target: StorageDomain,
    ) -> TransferResult:
        watch = Watch()
        heir = (str(target.cluster.fsid), target.pool.pool, target.pool.namespace, asked.new_name)
        trashed = leftover_in(TRASHED, source, layout.id, name=asked.volume_name, heir=heir)
        purged = leftover_in(PURGED, source, layout.id)
        with self._data.recorded(job, (part_left(job, target, asked.new_name),)) as recorded:
            done = self._transfer(job, source, asked.volume_name, None, target, layout, True)
            job.require_going()
            job.step = "switching"
            recorded.add(trashed)
            still = {"image_id": layout.id, "version": done["version"]}
            in_worker(source, "trash_moved", SHORT_S, name=asked.volume_name, **still)
            name_part(job, target, asked.new_name)
            # From here on the copy is the volume, and what it was made of is what has to go.
            recorded.always = (purged,)
        _tell("moved", asked, target)
        return _result(asked, target, done, watch)

    def _renaming(self, asked: MoveRequest, source: StorageDomain, target: StorageDomain) -> Work:
        """A move that moves nothing."""
        try:
            layout = layout_of(source.images, asked.volume_name)
        except errors.NoSuchVolume:
            if not is_renamed(source, asked.volume_name, asked.new_name):
                raise
            return lambda _job: made_before(target, asked.new_name)
        _require_unused(asked.volume_name, layout)
        _require_free(target, asked.new_name, layout)
        return lambda job: self._rename(job, asked, layout, target)

    def _rename(
        self, job: Job, asked: MoveRequest, layout: Layout, target: StorageDomain
    ) -> TransferResult:
        watch = Watch()
        with self._data.recorded(job):
            self._volumes.rename(asked.storage_domain_id, asked.volume_name, asked.new_name)
        done = {"size_bytes": layout.size_bytes, "transferred_bytes": 0, "snapshots": None}
        return _result(asked, target, done, watch)

    def _transfer(
        self,
        job: Job,
        source: StorageDomain,
        volume: str,
        snapshot: str | None,
        target: StorageDomain,
        layout: Layout,
        with_snapshots: bool,
    ) -> dict[str, Any]:
        """Have the part made; what the mover tells of it."""
        clusters = [self._data.spec(source)]
        if target.cluster.fsid != source.cluster.fsid:
            clusters.append(self._data.spec(target))
        part = PartSpec(
            Place(len(clusters) - 1, target.pool.pool, target.pool.namespace, part_name(job)),
            layout.object_size_bytes,
            layout.features,
            # Who names another pool means the data as well.
            layout.data_pool if _same_pool(source, target) else None,
            layout.stripe_unit,
            layout.stripe_count,
        )
        arguments = {
            "source": asdict(Place(0, source.pool.pool, source.pool.namespace, volume)),
            "snapshot": snapshot,
            "target": asdict(part),
            "with_snapshots": with_snapshots,
            "note": {"job": str(job.uuid)},
        }
        return self._data.move(job, Task("copy", arguments, clusters), "copying", target)


def _tell(
    action: str,
    asked: CopyRequest | MoveRequest,
    target: StorageDomain,
    snapshot: str | None = None,
) -> None:
    made_of = {
        "from_volume": asked.volume_name,
        "from_storage_domain_id": asked.storage_domain_id,
    }
    target.changed(action, asked.new_name, snapshot_name=snapshot, **made_of)


def _require_unused(volume: str, layout: Layout) -> None:
    if layout.watchers:
        raise errors.VolumeInUse(volume, list(layout.watchers))


def _require_free(domain: StorageDomain, name: str, layout: Layout) -> None:
    """That no other image has the name. The image itself may: by a renaming that was cut short."""
    try:
        other = layout_of(domain.images, name)
    except errors.NoSuchVolume:
        return
    if other.id != layout.id:
        raise errors.VolumeExists(name)


def _require_movable(volume: str, layout: Layout) -> None:
    _require_unused(volume, layout)
    if layout.clones:
        what = f"to move {volume}, which has clones"
        raise errors.OperationNotSupported(what, "no clones: flatten them first, or copy it")
    if not layout.still:
        what = f"to move {volume}"
        raise errors.OperationNotSupported(what, "the feature exclusive-lock, held by nobody")


def _same_pool(one: StorageDomain, other: StorageDomain) -> bool:
    return (one.cluster.fsid, one.pool.pool) == (other.cluster.fsid, other.pool.pool)


def _same_place(one: StorageDomain, other: StorageDomain) -> bool:
    return (one.cluster.fsid, one.pool) == (other.cluster.fsid, other.pool)


def _result(
    asked: CopyRequest | MoveRequest,
    target: StorageDomain,
    done: dict[str, Any],
    watch: Watch,
) -> TransferResult:
    return TransferResult(
        size_bytes=done["size_bytes"],
        transferred_bytes=done["transferred_bytes"],
        elapsed_s=watch.elapsed_s(),
        storage_domain_id=asked.new_storage_domain_id,
        volume_name=asked.new_name,
        snapshots=done["snapshots"],
    )
