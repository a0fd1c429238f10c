"""Volume.*: copies, moves, and data in and out. Each starts a job."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.copies import CopyRequest, MoveRequest
from virtceph.host.diffjobs import ExportDiffRequest, ImportDiffRequest, MergeRequest
from virtceph.host.exports import ExportRequest, ImportRequest
from virtceph.host.flattens import FlattenRequest
from virtceph.host.host import Host
from virtceph.verbs.registry import verb


@verb("Volume.copy")
def copy(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    snapshot_name: str | None,
    new_name: str | None,
    new_storage_domain_id: UUID | None,
    with_snapshots: bool,
    job_uuid: UUID | None,
) -> None:
    """Start a copy. Blocks on the cluster while the request is checked. Source: rbd_aio_read, rbd_aio_write,
    rbd_diff_iterate2, in a mover process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, VolumeExists, JobExists, InvalidParameter,
        CephPermissionDenied: nothing was started.
    """
    to = new_storage_domain_id or storage_domain_id
    name = new_name or volume_name
    asked = CopyRequest(storage_domain_id, volume_name, snapshot_name, name, to, with_snapshots)
    host.copies.copy(asked, job_uuid)


@verb("Volume.move")
def move(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    new_name: str | None,
    new_storage_domain_id: UUID | None,
    job_uuid: UUID | None,
) -> None:
    """Start a move. Blocks on the cluster while the request is checked. Source: as Volume.copy;
    rbd_trash_move, rbd_rename.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, VolumeExists, VolumeInUse, OperationNotSupported, JobExists,
        InvalidParameter, CephPermissionDenied: nothing was started.
    """
    to = new_storage_domain_id or storage_domain_id
    asked = MoveRequest(storage_domain_id, volume_name, new_name or volume_name, to)
    host.copies.move(asked, job_uuid)


@verb("Volume.flatten")
def flatten(host: Host, storage_domain_id: UUID, volume_name: str, job_uuid: UUID | None) -> None:
    """Start flattening a clone. Blocks on the cluster while the request is checked. Source:
    rbd_flatten_with_progress, in a mover process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, JobExists, CephPermissionDenied: nothing was started.
    """
    host.flattens.start(FlattenRequest(storage_domain_id, volume_name), job_uuid)


@verb("Volume.export")
def export(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    path: str,
    format: str,
    snapshot_name: str | None,
    checksum: bool,
    job_uuid: UUID | None,
) -> None:
    """Start an export. Blocks on the cluster and the disk while the request is checked. Source:
    rbd_aio_read, in a mover process; qemu-img(1).

    Raises:
        NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, PathNotAllowed, PathExists, JobExists,
        OperationNotSupported, InvalidParameter, CephPermissionDenied: nothing was started.
    """
    asked = ExportRequest(storage_domain_id, volume_name, path, format, snapshot_name, checksum)
    host.exports.export(asked, job_uuid)


@verb("Volume.import")
def import_(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    path: str,
    format: str,
    checksum: bool,
    object_size_bytes: int,
    features: list[str],
    data_pool: str | None,
    job_uuid: UUID | None,
) -> None:
    """Start an import. Blocks on the cluster and the disk while the request is checked. Source:
    rbd_aio_write, in a mover process; qemu-img(1).

    Raises:
        NoSuchStorageDomain, VolumeExists, PathNotAllowed, NoSuchFile, BadImageFile, JobExists,
        InvalidParameter, CephPermissionDenied: nothing was started.
    """
    asked = ImportRequest(
        storage_domain_id,
        volume_name,
        path,
        format,
        checksum,
        object_size_bytes,
        tuple(features),
        data_pool,
    )
    host.exports.import_(asked, job_uuid)


@verb("Volume.exportDiff")
def export_diff(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    from_snapshot: str | None,
    to_snapshot: str,
    path: str,
    manifest: bool,
    job_uuid: UUID | None,
) -> None:
    """Start an export of what changed between snapshots. Blocks on the cluster and the disk while the
    request is checked. Source: rbd_diff_iterate2, rbd_aio_read, in a mover process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, PathNotAllowed, PathExists, JobExists,
        InvalidParameter, CephPermissionDenied: nothing was started.
    """
    asked = ExportDiffRequest(
        storage_domain_id, volume_name, from_snapshot, to_snapshot, path, manifest
    )
    host.diffs.export(asked, job_uuid)


@verb("Volume.importDiff")
def import_diff(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    path: str,
    verify: bool | None,
    job_uuid: UUID | None,
) -> None:
    """Start the import of a diff. Blocks on the cluster and the disk while the request is checked. Source:
    rbd_aio_write, rbd_aio_write_zeroes, rbd_snap_create2, in a mover process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, VolumeExists, VolumeInUse, SnapshotExists, DiffMismatch, BadDiff,
        PathNotAllowed, NoSuchFile, JobExists, CephPermissionDenied: nothing was started.
    """
    host.diffs.import_(ImportDiffRequest(storage_domain_id, volume_name, path, verify), job_uuid)


@verb("Volume.mergeDiffs")
def merge_diffs(host: Host, paths: list[str], path: str, job_uuid: UUID | None) -> None:
    """Start making one diff of consecutive ones. Blocks on the disk while the request is checked.

    Raises:
        BadDiff, PathNotAllowed, PathExists, NoSuchFile, JobExists, InvalidParameter: nothing was started.
    """
    host.diffs.merge(MergeRequest(tuple(paths), path), job_uuid)
