"""Whether storage domains answer, and how much room their pools have: asked now and then, told when changed.

Each domain has a thread of its own, so that a cluster that is away delays nobody; every question is bounded
by the connection of the domain. Nothing waits for what is found here.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace

from virtceph import errors
from virtceph.ceph.probing import probe
from virtceph.events import (
    PoolFull,
    PoolHasRoom,
    PoolNearlyFull,
    StorageDomainReachable,
    StorageDomainUnreachable,
)
from virtceph.host.events import Tell
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts

log = logging.getLogger(__name__)

# Room changes slowly, and costs the monitors more than a sign of life.
_ROOM_EVERY = 6
# Of a pool's room: so much less than what made it nearly full, and it is not any more.
_HYSTERESIS = 0.02
_ROOM, _NEARLY, _FULL = "room", "nearly", "full"
_TOLD = {_ROOM: PoolHasRoom, _NEARLY: PoolNearlyFull, _FULL: PoolFull}


@dataclass(frozen=True)
class Room:
    """How much of a pool is used, of how much: of its quota, where that is less than what there is."""

    used_bytes: int
    capacity_bytes: int
    level: str = _ROOM


@dataclass(frozen=True)
class Health:
    """What the last look at a storage domain found. `latency_s` is that of the last answer; `failures` counts
    the looks that got none."""

    reachable: bool = True
    reason: str | None = None
    latency_s: float | None = None
    room: Room | None = None
    failures: int = 0
    since_s: float = 0.0


class StorageWatch:
    """Watches storage domains from `watch` on, as long as they are connected."""

    def __init__(
        self, storage: StorageDomains, interval_s: float, nearly_full: float, tell: Tell
    ) -> None:
        self._storage, self._interval_s = storage, interval_s
        self._nearly_full, self._tell = nearly_full, tell
        self._health: dict[StorageDomain, Health] = {}
        self._closed = threading.Event()

    def watch(self, domain: StorageDomain) -> None:
        """Look at a domain from now on. Does not wait."""
        self._health[domain] = Health(since_s=time.monotonic())
        name = f"watch-{domain.settings.storage_domain_id}"
        threading.Thread(target=self._watch, args=(domain,), name=name, daemon=True).start()

    def found(self) -> list[tuple[StorageDomain, Health]]:
        """What is known of each connected domain. Does not block."""
        domains = self._storage.domains()
        return [(d, self._health[d]) for d in domains if d in self._health]

    def close(self) -> None:
        """Look no more. Does not wait."""
        self._closed.set()

    def _watch(self, domain: StorageDomain) -> None:
        looks = 0
        while domain in self._storage.domains():
            try:
                self.look(domain, with_room=looks % _ROOM_EVERY == 0)
            except Exception:
                log.exception("look broke %s", facts(domain=domain.settings.storage_domain_id))
            looks += 1
            if self._closed.wait(self._interval_s):
                break
        self._health.pop(domain, None)

    def look(self, domain: StorageDomain, *, with_room: bool) -> None:
        """Look at a domain once. Blocks for its connection's time-outs at the most."""
        health = self._health[domain]
        try:
            latency_s = probe(domain.cluster, domain.pool)
        except errors.VirtcephError as error:
            self._unreachable(domain, health, error.message)
            return
        now = replace(health, reachable=True, reason=None, latency_s=latency_s)
        if not health.reachable:
            now = replace(now, since_s=time.monotonic())
            down_s = time.monotonic() - health.since_s
            ident = domain.settings.storage_domain_id
            log.info("storage domain answers again %s", facts(domain=ident, after_s=down_s))
            self._tell(StorageDomainReachable(ident, down_s))
        self._health[domain] = now
        if with_room or not health.reachable or health.room is None:
            self._look_for_room(domain)

    def _unreachable(self, domain: StorageDomain, health: Health, reason: str) -> None:
        known = self._storage.domains()
        if domain not in known:  # disconnected under the question
            return
        since_s = time.monotonic() if health.reachable else health.since_s
        failures = health.failures + 1
        told = replace(health, reachable=False, reason=reason, failures=failures, since_s=since_s)
        self._health[domain] = told
        if health.reachable:
            ident = domain.settings.storage_domain_id
            log.warning("storage domain does not answer %s", facts(domain=ident, reason=reason))
            self._tell(StorageDomainUnreachable(ident, reason))

    def _look_for_room(self, domain: StorageDomain) -> None:
        health, pool = self._health[domain], domain.pool.pool
        try:
            stats = domain.cluster.pool_stats(domain.pool)
            limits = domain.limits()[pool]
            if not stats.capacity_bytes:
                return  # the cluster's manager has not counted yet
        except (errors.VirtcephError, KeyError) as error:
            # That it does not answer is told by the next look; a new pool has no figures yet.
            log.debug("room not known %s", facts(pool=pool, reason=error))
            return
        capacity = min(stats.capacity_bytes, limits.quota_bytes or stats.capacity_bytes)
        room = Room(stats.used_bytes, capacity)
        before = health.room.level if health.room is not None else _ROOM
        level = self._level(room, before, full=limits.full)
        self._health[domain] = replace(health, room=replace(room, level=level))
        if level != before:
            what = domain.settings.storage_domain_id, pool, room.used_bytes, capacity
            log.warning("pool %s", facts(pool=pool, is_=level, used=what[2], of=capacity))
            self._tell(_TOLD[level](*what))

    def _level(self, room: Room, before: str, *, full: bool) -> str:
        if full:
            return _FULL
        limit = self._nearly_full - (_HYSTERESIS if before != _ROOM else 0.0)
        is_nearly = room.capacity_bytes > 0 and room.used_bytes >= limit * room.capacity_bytes
        return _NEARLY if is_nearly else _ROOM
