"""Storage domains: a pool of a cluster, reached with a registered key. They live in memory only."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import fields
from uuid import UUID

from virtceph import errors
from virtceph.ceph.cluster import Caps, Cluster
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.ceph.workers import WorkerPool
from virtceph.events import StorageDomainConnected as Connected
from virtceph.events import StorageDomainDisconnected as Disconnected
from virtceph.host.events import Tell, untold
from virtceph.host.storagedomain import StorageDomain, bare
from virtceph.host.storageinfo import (
    Settings,
    StorageDomainConnected,
    StorageDomainInfo,
    StorageDomainStats,
)
from virtceph.log import facts
from virtceph.sensitive import Sensitive
from virtceph.virt.xml import RbdSource

__all__ = ["StorageDomain", "StorageDomains"]

log = logging.getLogger(__name__)


class StorageDomains:
    """The connected storage domains. `key_of` gives a registered secret's value; `on_connected` is called
    with each new one, before its caller is answered."""

    def __init__(
        self,
        key_of: Callable[[UUID], Sensitive],
        *,
        op_timeout_s: float,
        workers: int,
        on_connected: Callable[[StorageDomain], None] = lambda _domain: None,
        tell: Tell = untold,
    ) -> None:
        self._key_of, self._op_timeout_s, self._workers = key_of, op_timeout_s, workers
        self._on_connected, self._tell = on_connected, tell
        self._domains: dict[UUID, StorageDomain] = {}
        self._lock = threading.Lock()

    def connect(self, settings: Settings) -> StorageDomainConnected:
        """Connect, or find it connected with the same settings. Blocks.

        Raises:
            StorageDomainExists, NoSuchSecret, KeyRejected, NoSuchPool, NoSuchNamespace,
            CephPermissionDenied, CephUnavailable
        """
        known = self._find(settings)
        key = self._key_of(settings.secret_uuid)
        if known is not None and known.cluster.spec.key == key:
            return _report(known.cluster, known.cluster.check(known.pool))
        # New, or the key was replaced: the old session would go on with the old one.
        cluster = Cluster(ClusterSpec(settings.monitors, settings.user, key, self._op_timeout_s))
        try:
            pool = PoolSpec(settings.pool, settings.namespace)
            report = _report(cluster, _require_caps(cluster.check(pool), settings.user))
            cluster.monitors()
            domain = self._put(settings, cluster)
        except BaseException:
            cluster.close()
            raise
        if domain is None:
            cluster.close()
        else:
            self._tell_connected(domain)
            self._on_connected(domain)
        log.info(
            "connected storage domain %s",
            facts(domain=settings.storage_domain_id, pool=pool, fsid=report.fsid),
        )
        return report

    def _tell_connected(self, domain: StorageDomain) -> None:
        ours = domain.settings
        where = ours.name, ours.pool, ours.namespace, domain.cluster.fsid
        self._tell(Connected(ours.storage_domain_id, *where))

    def _put(self, settings: Settings, cluster: Cluster) -> StorageDomain | None:
        """Take the connection into use; None when another request has put as good a one meanwhile."""
        with self._lock:
            other = self._domains.get(settings.storage_domain_id)
            if other is not None:
                _require_same(other.settings, settings)
                if other.cluster.spec.key == cluster.spec.key:
                    return None
            workers = WorkerPool(cluster.spec, self._workers)
            domain = StorageDomain(settings, cluster, workers, self._tell)
            self._domains[settings.storage_domain_id] = domain
        if other is not None:
            self._tell(Disconnected(settings.storage_domain_id, "replaced"))
            _close_in_background(other)
        try:
            # Unregistered meanwhile, it was not yet among those that `drop_secrets` closes.
            self._key_of(settings.secret_uuid)
        except errors.NoSuchSecret:
            with self._lock:
                if self._domains.get(settings.storage_domain_id) is domain:
                    del self._domains[settings.storage_domain_id]
            domain.workers.close()
            raise
        return domain

    def _find(self, settings: Settings) -> StorageDomain | None:
        with self._lock:
            known = self._domains.get(settings.storage_domain_id)
        if known is not None:
            _require_same(known.settings, settings)
        return known

    def disconnect(self, storage_domain_id: UUID, cause: str = "asked") -> None:
        """Close a storage domain; an unknown one is closed already. Does not wait."""
        with self._lock:
            domain = self._domains.pop(storage_domain_id, None)
        if domain is not None:
            log.info("disconnected storage domain %s", facts(domain=storage_domain_id))
            self._tell(Disconnected(storage_domain_id, cause))
            _close_in_background(domain)

    def drop_secrets(self, secret_uuids: set[UUID]) -> None:
        """Close every storage domain whose key is no longer registered. Does not wait."""
        with self._lock:
            using = [i for i, d in self._domains.items() if d.settings.secret_uuid in secret_uuids]
        for storage_domain_id in using:
            self.disconnect(storage_domain_id, "secret")

    def get(self, storage_domain_id: UUID) -> StorageDomain:
        """A connected storage domain. Raises NoSuchStorageDomain."""
        with self._lock:
            domain = self._domains.get(storage_domain_id)
        if domain is None:
            raise errors.NoSuchStorageDomain(storage_domain_id)
        return domain

    def of(self, source: RbdSource) -> StorageDomain | None:
        """The connected storage domain that a disk's image lies in. A disk that names no monitors could
        lie in any cluster: it is nobody's where two of them have its pool."""
        owners = self.owners(source)
        return owners[0] if owners else None

    def owners(self, source: RbdSource) -> list[StorageDomain]:
        """All that a disk's image lies in: several users may be connected to one pool."""
        with self._lock:
            owners = [d for d in self._domains.values() if d.owns(source)]
        if not source.monitors and len({d.cluster.fsid for d in owners}) > 1:
            return []
        return owners

    def find(self, fsid: str, pool: str, namespace: str) -> StorageDomain | None:
        """A connected storage domain of a cluster's pool and namespace, by their names."""
        wanted = (fsid, PoolSpec(pool, namespace))
        domains = self.domains()
        return next((d for d in domains if (str(d.cluster.fsid), d.pool) == wanted), None)

    def domains(self) -> list[StorageDomain]:
        """Those that are connected. Asks no cluster."""
        with self._lock:
            return list(self._domains.values())

    def connected(self) -> list[StorageDomainInfo]:
        """The same, as callers are told of them."""
        return [
            StorageDomainInfo(**vars(domain.settings), fsid=domain.cluster.fsid)
            for domain in self.domains()
        ]

    def stats(self, storage_domain_id: UUID) -> StorageDomainStats:
        """How a storage domain does; a silent cluster is an answer, not an error. Blocks.

        Raises:
            NoSuchStorageDomain
        """
        domain = self.get(storage_domain_id)
        try:
            stats = domain.cluster.pool_stats(domain.pool)
        except errors.CephUnavailable as error:
            return StorageDomainStats(reachable=False, reason=error.reason)
        except errors.NoSuchPool as error:  # deleted since
            return StorageDomainStats(reachable=False, reason=error.message)
        return StorageDomainStats(
            True, stats.latency_s, stats.capacity_bytes, stats.used_bytes, stats.health
        )

    def cluster_key(self, storage_domain_id: str) -> str:
        """What tells clusters apart when slots are shared out; what is no known domain's id, itself."""
        try:
            ident = UUID(storage_domain_id)
        except ValueError:
            return storage_domain_id
        with self._lock:
            domain = self._domains.get(ident)
        if domain is None:
            return storage_domain_id
        return ",".join(sorted(bare(monitor) for monitor in domain.settings.monitors))

    def close(self) -> None:
        """Close them all. Blocks."""
        with self._lock:
            domains = list(self._domains.values())
            self._domains.clear()
        for domain in domains:
            domain.close()


def _require_same(ours: Settings, asked: Settings) -> None:
    for field in fields(Settings):
        if getattr(ours, field.name) != getattr(asked, field.name):
            raise errors.StorageDomainExists(asked.storage_domain_id, field.name)


def _close_in_background(domain: StorageDomain) -> None:
    # librados may take its time to wind up on a dead cluster; nobody waits for that.
    threading.Thread(target=domain.close, name="close-domain", daemon=True).start()


def _require_caps(caps: Caps, user: str) -> Caps:
    if not caps.write:
        raise errors.CephPermissionDenied(user, "write to the pool", "osd 'profile rbd'")
    if caps.blocklist is False:
        raise errors.CephPermissionDenied(user, "blocklist dead clients", "mon 'profile rbd'")
    return caps


def _report(cluster: Cluster, caps: Caps) -> StorageDomainConnected:
    return StorageDomainConnected(cluster.fsid, True, caps)
