"""Volume.*: RBD images, made, looked at, renamed and limited."""

from __future__ import annotations

from uuid import UUID

from virtceph.ceph.qos import Qos
from virtceph.host.extending import ExtendedVolume
from virtceph.host.host import Host
from virtceph.host.volumeinfo import VolumeInfo, VolumeSummary
from virtceph.host.volumes import NewVolume, VolumeQos
from virtceph.verbs.registry import verb


@verb("Volume.create")
def create(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    size_bytes: int,
    object_size_bytes: int,
    features: list[str],
    data_pool: str | None,
    qos: Qos | None,
) -> None:
    """Create an image. Blocks. Source: rbd_create4.

    Raises:
        NoSuchStorageDomain, NoSuchPool, VolumeExists, CephPermissionDenied, InvalidParameter
    """
    wanted = NewVolume(
        volume_name, size_bytes, object_size_bytes, features, data_pool, qos or Qos()
    )
    host.volumes.create(storage_domain_id, wanted)


@verb("Volume.clone")
def clone(
    host: Host,
    storage_domain_id: UUID,
    volume_name: str,
    snapshot_name: str,
    new_name: str,
    new_storage_domain_id: UUID | None,
) -> None:
    """Make an image that begins as a snapshot. Blocks. Source: rbd_clone3, format 2, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, VolumeExists, CephPermissionDenied
        OperationNotSupported: the other storage domain lies in another cluster.
    """
    host.clones.clone(
        storage_domain_id, volume_name, snapshot_name, new_name, new_storage_domain_id
    )


@verb("Volume.rename")
def rename(host: Host, storage_domain_id: UUID, volume_name: str, new_name: str) -> None:
    """Rename an image that nobody has open. Blocks. Source: rbd_rename, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, VolumeExists, VolumeInUse, VolumeNotPrimary, CephPermissionDenied
        LockOwnerStalled: a client that does not answer holds its lock.
    """
    host.volumes.rename(storage_domain_id, volume_name, new_name)


@verb("Volume.getInfo")
def get_info(host: Host, storage_domain_id: UUID, volume_name: str) -> VolumeInfo:
    """Size, layout, relations, users and metadata. Blocks. Source: rbd_stat, rbd_watchers_list.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied
    """
    return host.volume_infos.info(storage_domain_id, volume_name)


@verb("Volume.list")
def list_volumes(
    host: Host, storage_domain_id: UUID, limit: int, after: str
) -> list[VolumeSummary]:
    """Images and their sizes in the order of names. Blocks. Source: rbd_list2, cls_rbd get_size.

    Raises:
        NoSuchStorageDomain, CephPermissionDenied
    """
    return host.volume_infos.page(storage_domain_id, limit, after)


@verb("Volume.setQos")
def set_qos(host: Host, storage_domain_id: UUID, volume_name: str, qos: Qos) -> None:
    """Limit an image's clients, at once. Blocks. Source: rbd_metadata_set, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, VolumeNotPrimary, CephPermissionDenied
        LockOwnerStalled: given up before Ceph would cut the image's user off.
    """
    host.volumes.set_qos(storage_domain_id, volume_name, qos)


@verb("Volume.getQos")
def get_qos(host: Host, storage_domain_id: UUID, volume_name: str) -> VolumeQos:
    """The limits of an image. Blocks. Source: rbd_metadata_list, rbd_config_image_list.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, CephPermissionDenied
    """
    return host.volumes.qos(storage_domain_id, volume_name)


@verb("Volume.extendSize")
def extend_size(
    host: Host, storage_domain_id: UUID, volume_name: str, new_size_bytes: int
) -> ExtendedVolume:
    """Make an image larger. Blocks. Source: virDomainBlockResize; rbd_resize2, in a worker process.

    Raises:
        NoSuchStorageDomain, NoSuchVolume, WouldShrink, MigrationInProgress, DisksBusy, ResizeFailed,
        LibvirtUnavailable, CephPermissionDenied: it is as large as it was.
        DiskChangeStalled, LockOwnerStalled: it may still become larger.
    """
    return host.extending.extend_volume(storage_domain_id, volume_name, new_size_bytes)
