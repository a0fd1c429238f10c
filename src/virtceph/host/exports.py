"""Volumes out to files and in from them: raw by our own mover, qcow2 by qemu-img."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from virtceph import errors
from virtceph.ceph import qemuimg
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
    made_before,
    name_part,
    part_left,
    part_name,
)
from virtceph.host.exchangefiles import DataFiles, NewFile
from virtceph.host.held import Holder
from virtceph.host.job import Aborted, Job
from virtceph.host.layout import (
    SECTOR_BYTES,
    require_layout,
    require_within_quota,
    whole_sectors,
)
from virtceph.host.storage import StorageDomain, StorageDomains


@dataclass(frozen=True)
class ExportRequest:
    """The arguments of Volume.export; equal ones under one job id are one job."""

    storage_domain_id: UUID
    volume_name: str
    path: str
    format: str
    snapshot_name: str | None
    checksum: bool


@dataclass(frozen=True)
class ImportRequest:
    """The arguments of Volume.import."""

    storage_domain_id: UUID
    volume_name: str
    path: str
    format: str
    checksum: bool
    object_size_bytes: int
    features: tuple[str, ...]
    data_pool: str | None


class Exports:
    """Starts the jobs of Volume.export and Volume.import. Every method blocks on the cluster and the disk for
    what can be checked at once, and raises NoSuchStorageDomain, JobExists, PathNotAllowed,
    OperationNotSupported, CephPermissionDenied, CephUnavailable or CephFailed beside what it names."""

    def __init__(
        self, storage: StorageDomains, data: DataJobs, holder: Holder, files: DataFiles
    ) -> None:
        self._storage, self._data, self._holder, self._files = storage, data, holder, files

    def export(self, asked: ExportRequest, job_uuid: UUID | None) -> UUID:
        """Start an export. Raises NoSuchVolume, NoSuchSnapshot, PathExists."""

        def prepare(_job_id: UUID) -> Work:
            _require_checkable(asked.format, asked.checksum)
            domain = self._storage.get(asked.storage_domain_id)
            self._files.check_new(asked.path)
            layout = layout_of(domain.images, asked.volume_name)
            if asked.snapshot_name is not None and asked.snapshot_name not in layout.snapshots:
                raise errors.NoSuchSnapshot(asked.volume_name, asked.snapshot_name)
            _require_sectors(asked, layout)
            return lambda job: self._export(job, asked, domain, layout)

        return self._data.start(job_uuid, asked, "export_volume", prepare)

    def import_(self, asked: ImportRequest, job_uuid: UUID | None) -> UUID:
        """Start an import. Raises VolumeExists, NoSuchFile, BadImageFile."""

        def prepare(job_id: UUID) -> Work:
            _require_checkable(asked.format, asked.checksum)
            domain = self._storage.get(asked.storage_domain_id)
            if is_made(domain, asked.volume_name, job_id):
                return lambda _job: made_before(domain, asked.volume_name)
            with self._files.existing(asked.path) as fd:
                size_bytes = _size(fd, asked)
            require_layout(size_bytes, asked.object_size_bytes, list(asked.features))
            require_within_quota(size_bytes, asked.data_pool or domain.pool.pool, domain.limits())
            return lambda job: self._import(job, asked, domain)

        return self._data.start(job_uuid, asked, "import_volume", prepare)

    # --- inside ---

    def _export(
        self, job: Job, asked: ExportRequest, domain: StorageDomain, layout: Layout
    ) -> TransferResult:
        watch = Watch()
        with (
            self._data.recorded(
                job, files=self._files.part_paths(job.uuid, asked.path)
            ) as recorded,
            self._files.new(asked.path, job.uuid) as file,
        ):
            # qemu-img opens a head as if to write to it, so that nobody could tell whether it stood still.
            still = layout.still and asked.format == "raw"
            volume, snapshot = asked.volume_name, asked.snapshot_name
            export = self._export_raw if asked.format == "raw" else self._export_qcow2
            done = self._holder.read(
                job,
                recorded,
                domain,
                volume,
                still,
                snapshot,
                lambda at: export(job, asked, domain, layout, at, file),
                lambda: None,  # a file is written over, from its beginning
            )
            job.require_going()
            job.step = "finishing"
            file.keep()
        return TransferResult(
            size_bytes=done["size_bytes"],
            transferred_bytes=done["transferred_bytes"],
            elapsed_s=watch.elapsed_s(),
            path=asked.path,
            sha256=done["sha256"],
        )

    def _export_raw(
        self,
        job: Job,
        asked: ExportRequest,
        domain: StorageDomain,
        _layout: Layout,
        snapshot: str | None,
        file: NewFile,
    ) -> dict[str, Any]:
        place = Place(0, domain.pool.pool, domain.pool.namespace, asked.volume_name)
        arguments = {
            "source": asdict(place),
            "snapshot": snapshot,
            "path": asked.path,
            "checksum": asked.checksum,
        }
        task = Task("export_raw", arguments, [self._data.spec(domain)], [file.fd])
        return self._data.move(job, task, "exporting")

    def _export_qcow2(
        self,
        job: Job,
        asked: ExportRequest,
        domain: StorageDomain,
        layout: Layout,
        snapshot: str | None,
        file: NewFile,
    ) -> dict[str, Any]:
        size_bytes = layout.size_at(snapshot)
        image = self._image(domain, asked.volume_name, snapshot)
        self._convert(job, qemuimg.export_qcow2, image, file.fd, asked.path, size_bytes)
        written = os.fstat(file.fd).st_size
        return {"size_bytes": size_bytes, "transferred_bytes": written, "sha256": None}

    def _import(self, job: Job, asked: ImportRequest, domain: StorageDomain) -> TransferResult:
        watch = Watch()
        part = PartSpec(
            Place(0, domain.pool.pool, domain.pool.namespace, part_name(job)),
            asked.object_size_bytes,
            asked.features,
            asked.data_pool,
        )
        with (
            self._data.recorded(job, (part_left(job, domain, asked.volume_name),)),
            self._files.existing(asked.path) as fd,
        ):
            if asked.format == "raw":
                done = self._import_raw(job, asked, domain, part, fd)
            else:
                done = self._import_qcow2(job, asked, domain, part, fd)
            job.require_going()
            name_part(job, domain, asked.volume_name)
        domain.changed("imported", asked.volume_name, size_bytes=done["size_bytes"])
        return TransferResult(
            size_bytes=done["size_bytes"],
            transferred_bytes=done["transferred_bytes"],
            elapsed_s=watch.elapsed_s(),
            storage_domain_id=asked.storage_domain_id,
            volume_name=asked.volume_name,
            sha256=done["sha256"],
        )

    def _import_raw(
        self, job: Job, asked: ImportRequest, domain: StorageDomain, part: PartSpec, fd: int
    ) -> dict[str, Any]:
        arguments = {
            "target": asdict(part),
            "size_bytes": _size(fd, asked),
            "path": asked.path,
            "checksum": asked.checksum,
            "note": {"job": str(job.uuid)},
        }
        task = Task("import_raw", arguments, [self._data.spec(domain)], [fd])
        return self._data.move(job, task, "importing", domain)

    def _import_qcow2(
        self, job: Job, asked: ImportRequest, domain: StorageDomain, part: PartSpec, fd: int
    ) -> dict[str, Any]:
        size_bytes = _size(fd, asked)
        name = part_name(job)
        job.step = "importing"
        domain.images.create(
            name, size_bytes, part.object_size_bytes, list(part.features), part.data_pool
        )
        image = self._image(domain, name, None)
        self._convert(job, qemuimg.import_qcow2, image, fd, asked.path, size_bytes)
        in_worker(domain, "note_made", SHORT_S, name=name, job=str(job.uuid))
        read = os.fstat(fd).st_size
        return {"size_bytes": size_bytes, "transferred_bytes": read, "sha256": None}

    def _convert(
        self, job: Job, convert: Any, image: qemuimg.Image, fd: int, path: str, size_bytes: int
    ) -> None:
        job.step = "converting"

        def told(percent: float) -> None:
            job.progress.tell(int(size_bytes * percent / 100), size_bytes)

        try:
            convert(image, fd, path, told, job.stop)
        except qemuimg.ConversionStopped:
            raise Aborted from None

    def _image(self, domain: StorageDomain, name: str, snapshot: str | None) -> qemuimg.Image:
        place = Place(0, domain.pool.pool, domain.pool.namespace, name)
        return qemuimg.Image(self._data.spec(domain), place, snapshot)


def _require_checkable(format_: str, checksum: bool) -> None:
    if checksum and format_ != "raw":
        expected = "format=raw: of a qcow2 file the checksum would tell nothing of the disk in it"
        raise errors.InvalidParameter("checksum", expected)


def _require_sectors(asked: ExportRequest, layout: Layout) -> None:
    size_bytes = layout.size_at(asked.snapshot_name)
    if asked.format == "qcow2" and size_bytes % SECTOR_BYTES:
        # qemu-img 7.2 aborts (an assertion in block/rbd.c).
        what = f"to export {asked.volume_name} of {size_bytes} bytes as qcow2"
        raise errors.OperationNotSupported(what, f"a size that is a multiple of {SECTOR_BYTES}")


def _size(fd: int, asked: ImportRequest) -> int:
    """The size of the volume for what is in a file. Raises BadImageFile."""
    if asked.format == "qcow2":
        return whole_sectors(qemuimg.qcow2_size(fd, asked.path))
    size_bytes = os.lseek(fd, 0, os.SEEK_END)
    if size_bytes == 0:
        raise errors.BadImageFile(asked.path, "it is empty")
    return whole_sectors(size_bytes)
