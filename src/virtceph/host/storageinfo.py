"""What is said of storage domains, by callers and to them."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from virtceph.ceph.cluster import Caps
from virtceph.schema import wire


@dataclass(frozen=True)
class Settings:
    """What a caller says of a storage domain."""

    storage_domain_id: UUID
    name: str
    monitors: tuple[str, ...]
    user: str
    secret_uuid: UUID
    pool: str
    namespace: str


@wire("StorageDomainInfo")
@dataclass(frozen=True)
class StorageDomainInfo(Settings):
    """The settings of a connected storage domain, and its cluster."""

    fsid: UUID


wire("CapsReport")(Caps)


@wire("StorageDomainConnected")
@dataclass(frozen=True)
class StorageDomainConnected:
    fsid: UUID
    reachable: bool
    caps: Caps


@wire("StorageDomainStats")
@dataclass(frozen=True)
class StorageDomainStats:
    reachable: bool
    latency_s: float | None = None
    capacity_bytes: int | None = None
    used_bytes: int | None = None
    health: str | None = None
    reason: str | None = None
