"""StorageDomain.*: pools of Ceph clusters."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.host import Host
from virtceph.host.storageinfo import (
    Settings,
    StorageDomainConnected,
    StorageDomainInfo,
    StorageDomainStats,
)
from virtceph.verbs.registry import verb


@verb("StorageDomain.connect")
def connect(
    host: Host,
    storage_domain_id: UUID,
    name: str,
    monitors: list[str],
    user: str,
    secret_uuid: UUID,
    pool: str,
    namespace: str,
) -> StorageDomainConnected:
    """Connect to a pool with a registered key. Blocks. Source: rados_connect, rados_ioctx_create.

    Raises:
        StorageDomainExists, NoSuchSecret, KeyRejected, NoSuchPool, NoSuchNamespace: as they say.
        CephPermissionDenied: which capability is missing.
    """
    settings = Settings(
        storage_domain_id, name, tuple(monitors), user, secret_uuid, pool, namespace
    )
    return host.storage.connect(settings)


@verb("StorageDomain.disconnect")
def disconnect(host: Host, storage_domain_id: UUID) -> None:
    """Close the connection to a storage domain. Never waits."""
    host.storage.disconnect(storage_domain_id)


@verb("StorageDomain.list")
def list_domains(host: Host) -> list[StorageDomainInfo]:
    """The connected storage domains. Never waits."""
    return host.storage.connected()


@verb("StorageDomain.getStats")
def get_stats(host: Host, storage_domain_id: UUID) -> StorageDomainStats:
    """Reach, latency, room and health. Blocks. Source: the monitors' `df` and `health`.

    Raises:
        NoSuchStorageDomain: it is not connected.
    """
    return host.storage.stats(storage_domain_id)
