"""Incremental backups of volumes: diffs between snapshots, out, in, and several made one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph.diffimport import check_header
from virtceph.ceph.layout import Layout, layout_of
from virtceph.ceph.movers import Task
from virtceph.ceph.parts import PartSpec
from virtceph.ceph.sources import Place
from virtceph.host.datajobs import (
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
from virtceph.host.exchangefiles import DataFiles
from virtceph.host.job import Job
from virtceph.host.jobrecords import RENAMED, ROLLBACK
from virtceph.host.storage import StorageDomain, StorageDomains

MANIFEST = ".manifest"
_MOST_DIFFS = 64
_OBJECT_BYTES = 4 << 20
_FEATURES = ("layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten")


@dataclass(frozen=True)
class ExportDiffRequest:
    """The arguments of Volume.exportDiff; equal ones under one job id are one job."""

    storage_domain_id: UUID
    volume_name: str
    from_snapshot: str | None
    to_snapshot: str
    path: str
    manifest: bool


@dataclass(frozen=True)
class ImportDiffRequest:
    """The arguments of Volume.importDiff."""

    storage_domain_id: UUID
    volume_name: str
    path: str
    verify: bool | None


@dataclass(frozen=True)
class MergeRequest:
    """The arguments of Volume.mergeDiffs."""

    paths: tuple[str, ...]
    path: str


class DiffJobs:
    """Starts these jobs. Every method blocks on the cluster and the disk for what can be checked at once, and
    raises JobExists and PathNotAllowed beside what it names."""

    def __init__(self, storage: StorageDomains, data: DataJobs, files: DataFiles) -> None:
        self._storage, self._data, self._files = storage, data, files

    def export(self, asked: ExportDiffRequest, job_uuid: UUID | None) -> UUID:
        """Start an export of what changed. Raises NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot,
        InvalidParameter (the snapshots are in the wrong order), PathExists."""

        def prepare(_job_id: UUID) -> Work:
            domain = self._storage.get(asked.storage_domain_id)
            for path in _written(asked.path, asked.manifest):
                self._files.check_new(path)
            _require_snapshots(asked, layout_of(domain.images, asked.volume_name))
            return lambda job: self._export(job, asked, domain)

        return self._data.start(job_uuid, asked, "export_diff", prepare)

    def import_(self, asked: ImportDiffRequest, job_uuid: UUID | None) -> UUID:
        """Start the import of a diff: into a new volume, if it begins at nothing, else into the volume as
        it is at the snapshot that the diff begins at. Raises NoSuchStorageDomain, NoSuchFile, BadDiff,
        VolumeExists, NoSuchVolume, VolumeInUse, SnapshotExists, DiffMismatch."""

        def prepare(job_id: UUID) -> Work:
            domain = self._storage.get(asked.storage_domain_id)
            with self._files.existing(asked.path) as fd:
                header = check_header(fd, asked.path)
            verified = self._has_manifest(asked)
            since, to = header.from_snapshot, header.to_snapshot
            if since is None:
                if is_made(domain, asked.volume_name, job_id):
                    return lambda _job: made_before(domain, asked.volume_name)
                return lambda job: self._import_new(job, asked, domain, verified)
            layout = layout_of(domain.images, asked.volume_name)
            _require_base(asked, layout, since, to)
            return lambda job: self._import_onto(job, asked, domain, layout, (since, to), verified)

        return self._data.start(job_uuid, asked, "import_diff", prepare)

    def merge(self, asked: MergeRequest, job_uuid: UUID | None) -> UUID:
        """Start making one diff of consecutive ones. Raises InvalidParameter (too few or too many),
        NoSuchFile, BadDiff, PathExists."""

        def prepare(_job_id: UUID) -> Work:
            if not 2 <= len(asked.paths) <= _MOST_DIFFS:
                raise errors.InvalidParameter("paths", f"2 to {_MOST_DIFFS} files, oldest first")
            for path in asked.paths:
                with self._files.existing(path) as fd:
                    check_header(fd, path)
            with_manifest = all(self._files.exists(p + MANIFEST) for p in asked.paths)
            for path in _written(asked.path, with_manifest):
                self._files.check_new(path)
            return lambda job: self._merge(job, asked, with_manifest)

        return self._data.start(job_uuid, asked, "merge_diffs", prepare)

    # --- inside ---

    def _export(self, job: Job, asked: ExportDiffRequest, domain: StorageDomain) -> TransferResult:
        place = Place(0, domain.pool.pool, domain.pool.namespace, asked.volume_name)
        arguments = {
            "source": asdict(place),
            "since": asked.from_snapshot,
            "snapshot": asked.to_snapshot,
            "path": asked.path,
        }
        paths = _written(asked.path, asked.manifest)
        return self._make_files(job, "export_diff", arguments, domain, (), paths)

    def _merge(self, job: Job, asked: MergeRequest, with_manifest: bool) -> TransferResult:
        read = list(asked.paths)
        if with_manifest:
            read += [path + MANIFEST for path in asked.paths]
        arguments = {
            "paths": list(asked.paths),
            "path": asked.path,
            "with_manifest": with_manifest,
        }
        paths = _written(asked.path, with_manifest)
        return self._make_files(job, "merge_diffs", arguments, None, read, paths)

    def _make_files(
        self,
        job: Job,
        operation: str,
        arguments: dict[str, Any],
        domain: StorageDomain | None,
        read: Sequence[str],
        written: Sequence[str],
    ) -> TransferResult:
        watch = Watch()
        parts = self._files.part_paths(job.uuid, *written)
        with self._data.recorded(job, files=parts), ExitStack() as stack:
            fds = [stack.enter_context(self._files.existing(path)) for path in read]
            made = [stack.enter_context(self._files.new(path, job.uuid)) for path in written]
            clusters = [] if domain is None else [self._data.spec(domain)]
            task = Task(operation, arguments, clusters, [*fds, *(file.fd for file in made)])
            done = self._data.move(job, task, operation.replace("_", " "))
            job.require_going()
            job.step = "finishing"
            # The stream last: where it is, its manifest is.
            for file in reversed(made):
                file.keep()
        return _result(done, watch, path=written[0])

    def _import_new(
        self, job: Job, asked: ImportDiffRequest, domain: StorageDomain, verified: bool
    ) -> TransferResult:
        watch = Watch()
        with self._data.recorded(job, (part_left(job, domain, asked.volume_name),)):
            done = self._apply(job, asked, domain, verified)
            job.require_going()
            name_part(job, domain, asked.volume_name)
        domain.changed("imported", asked.volume_name, size_bytes=done["size_bytes"])
        return _result(done, watch, domain, asked.volume_name)

    def _import_onto(
        self,
        job: Job,
        asked: ImportDiffRequest,
        domain: StorageDomain,
        layout: Layout,
        between: tuple[str, str | None],
        verified: bool,
    ) -> TransferResult:
        watch = Watch()
        since, to = between
        part, volume = part_name(job), asked.volume_name
        renamed = leftover_in(RENAMED, domain, part, name=volume)
        undo = leftover_in(ROLLBACK, domain, part, snapshot=since, name=volume, made=to or "")
        with self._data.recorded(job, (renamed,)) as recorded:
            # Out of reach meanwhile: nobody can start a VM on what is neither the one nor the other.
            in_worker(domain, "rename_unused", SHORT_S, name=volume, new_name=part)
            self._check_base(job, asked, domain, since)
            # Only from here on: a volume that has changed is not brought back over what was written.
            recorded.replace((undo,))
            done = self._apply(job, asked, domain, verified)
            job.require_going()
            job.step = "finishing"
            in_worker(domain, "finish_part", SHORT_S, part=part, name=volume)
        domain.changed("patched", volume, snapshot_name=to)
        return _result(done, watch, domain, volume)

    def _check_base(
        self, job: Job, asked: ImportDiffRequest, domain: StorageDomain, since: str
    ) -> None:
        place = Place(0, domain.pool.pool, domain.pool.namespace, part_name(job))
        arguments = {
            "target": asdict(place),
            "volume": asked.volume_name,
            "path": asked.path,
            "since": since,
        }
        self._data.move(job, Task("check_base", arguments, [self._data.spec(domain)]), "checking")

    def _apply(
        self, job: Job, asked: ImportDiffRequest, domain: StorageDomain, verified: bool
    ) -> dict[str, Any]:
        place = Place(0, domain.pool.pool, domain.pool.namespace, part_name(job))
        arguments = {
            "target": asdict(PartSpec(place, _OBJECT_BYTES, _FEATURES)),
            "volume": asked.volume_name,
            "path": asked.path,
            "note": {"job": str(job.uuid)},
        }
        paths = _written(asked.path, verified)
        with ExitStack() as stack:
            fds = [stack.enter_context(self._files.existing(path)) for path in paths]
            task = Task("import_diff", arguments, [self._data.spec(domain)], fds)
            return self._data.move(job, task, "applying", domain)

    def _has_manifest(self, asked: ImportDiffRequest) -> bool:
        """Whether to verify: as asked, or where a manifest is beside the diff. Raises NoSuchFile when it was
        asked for and there is none."""
        if asked.verify is False:
            return False
        there = self._files.exists(asked.path + MANIFEST)
        if asked.verify and not there:
            raise errors.NoSuchFile(asked.path + MANIFEST)
        return there


def _written(path: str, with_manifest: bool) -> list[str]:
    return [path, path + MANIFEST] if with_manifest else [path]


def _require_snapshots(asked: ExportDiffRequest, layout: Layout) -> None:
    names = list(layout.snapshots)
    for name in (asked.from_snapshot, asked.to_snapshot):
        if name is not None and name not in names:
            raise errors.NoSuchSnapshot(asked.volume_name, name)
    since = asked.from_snapshot
    if since is not None and names.index(since) >= names.index(asked.to_snapshot):
        raise errors.InvalidParameter("fromSnapshot", "a snapshot older than toSnapshot")


def _require_base(asked: ImportDiffRequest, layout: Layout, since: str, to: str | None) -> None:
    if layout.watchers:
        raise errors.VolumeInUse(asked.volume_name, list(layout.watchers))
    if since not in layout.snapshots:
        reason = f"it begins at {since}, a snapshot that is not there"
        raise errors.DiffMismatch(asked.volume_name, asked.path, reason)
    if to is None:
        reason = "it ends at no snapshot, so that nothing could tell it was applied"
        raise errors.DiffMismatch(asked.volume_name, asked.path, reason)
    if to in layout.snapshots:
        raise errors.SnapshotExists(asked.volume_name, to)


def _result(
    done: dict[str, Any],
    watch: Watch,
    domain: StorageDomain | None = None,
    volume: str | None = None,
    path: str | None = None,
) -> TransferResult:
    return TransferResult(
        done["size_bytes"],
        done["transferred_bytes"],
        watch.elapsed_s(),
        storage_domain_id=None if domain is None else domain.settings.storage_domain_id,
        volume_name=volume,
        path=path,
    )
