"""Whether the daemon is well, and what it depends on.

A guest that hangs, or a cluster that is away, is told and is not the daemon's illness: starting it again
would mend neither.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from virtceph.host.storage import StorageDomain
from virtceph.host.storageinfo import Settings
from virtceph.host.storagewatch import Health

# libvirtd that is restarted is away for less.
_LIBVIRT_AWAY_S = 5.0
# Nothing that hangs outside the daemon fills these.
_OURS = ("libvirt", "rescue")

WELL, DEGRADED, FAILING = "well", "degraded", "failing"


@dataclass(frozen=True)
class Parts:
    """What is looked at. `libvirt_away_s`: for how long libvirt has been away, None when it is there. Nothing
    here may block."""

    stopping: Callable[[], bool]
    libvirt_away_s: Callable[[], float | None]
    storage: Callable[[], list[tuple[StorageDomain, Health]]]
    lanes: Callable[[], Mapping[str, Mapping[str, int]]]
    frozen: Callable[[], Mapping[str, int]]
    # Of the configuration: those that could not be connected yet, each with the reason.
    unconnected: Callable[[], list[tuple[Settings, str]]] = list


def report(parts: Parts) -> dict[str, Any]:
    """How the daemon does, as JSON has it. `status` is `well`; `degraded` where something that it depends on
    is not; `failing` where it cannot do its work. Does not block."""
    away_s, stopping = parts.libvirt_away_s(), parts.stopping()
    storage = [_domain(*one) for one in parts.storage()]
    storage += [_unconnected(*one) for one in parts.unconnected()]
    lanes = {name: _lane(facts) for name, facts in parts.lanes().items()}
    failing = stopping or (away_s is not None and away_s > _LIBVIRT_AWAY_S)
    failing = failing or any(not lanes[name]["free"] for name in _OURS if name in lanes)
    well = away_s is None and all(one["reachable"] for one in storage)
    well = well and all(lane["free"] for lane in lanes.values())
    told: dict[str, Any] = {
        "status": FAILING if failing else WELL if well else DEGRADED,
        "stopping": stopping,
        "libvirt": {"up": away_s is None},
        "storageDomains": storage,
        "lanes": lanes,
        "frozen": dict(parts.frozen()),
    }
    if away_s is not None:
        told["libvirt"]["awayFor"] = round(away_s, 3)
    return told


def _domain(domain: StorageDomain, health: Health) -> dict[str, Any]:
    told = _named(domain.settings, health.reachable)
    if health.reason is not None:
        told["reason"] = health.reason
        told["awayFor"] = round(time.monotonic() - health.since_s, 3)
    return told


def _unconnected(settings: Settings, reason: str) -> dict[str, Any]:
    return {**_named(settings, False), "reason": reason}


def _named(settings: Settings, reachable: bool) -> dict[str, Any]:
    return {
        "storageDomainID": str(settings.storage_domain_id),
        "name": settings.name,
        "pool": settings.pool,
        "reachable": reachable,
    }


def _lane(facts: Mapping[str, int]) -> dict[str, Any]:
    """A lane is stuck when nothing but what is overdue holds its slots."""
    return {**facts, "free": facts["overdue"] < facts["slots"]}
