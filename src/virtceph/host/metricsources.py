"""Metrics that are looked up when somebody asks: what is there at this moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from virtceph.events import all_events
from virtceph.host.events import Events
from virtceph.host.lastsnapshots import LastSnapshots
from virtceph.host.metricspecs import BY_NAME, METRICS
from virtceph.host.storage import StorageDomain
from virtceph.host.storagewatch import Health

# These are counted when they happen, by `metrics`.
_COUNTED = frozenset(
    (
        *("verb_duration_seconds", "verb_errors", "frozen_seconds", "leases_expired"),
        *("agent_timeouts", "snapshots", "secrets_restored", "secrets_not_restored"),
        *("libvirt_losses", "jobs_ended", "job_moved_bytes"),
    )
)
LOOKED_UP = frozenset(BY_NAME) - _COUNTED

Rows = Iterable[tuple[tuple[str, ...], float]]


@dataclass(frozen=True)
class Sources:
    """Where the figures of this moment come from. Nothing here may block."""

    version: str
    events: Events
    lanes: Callable[[], Mapping[str, Mapping[str, int]]]
    connections: Callable[[], Mapping[str, int]]
    streams: Callable[[], int]
    frozen: Callable[[], Mapping[str, int]]
    secrets: Callable[[], int]
    libvirt_up: Callable[[], bool]
    storage: Callable[[], list[tuple[StorageDomain, Health]]]
    jobs: Callable[[], Mapping[str, int]]
    audit_failures: Callable[[], int]


class Live(Collector):
    """What is looked up when somebody asks."""

    def __init__(self, sources: Sources, snapshots: LastSnapshots) -> None:
        self._sources, self._snapshots = sources, snapshots

    def describe(self) -> Iterable[Metric]:
        """Nothing is looked up to find the names."""
        return [_family(spec.short, ()) for spec in METRICS if spec.short in LOOKED_UP]

    def collect(self) -> Iterator[Metric]:
        """Everything of this moment."""
        ask = self._sources
        yield _family("build_info", [((ask.version,), 1)])
        lanes = ask.lanes()
        for what in ("slots", "running", "waiting", "overdue", "refused"):
            rows = [((lane,), facts[what]) for lane, facts in lanes.items()]
            yield _family(f"lane_{what}", rows)
        yield _family("connections", _by(ask.connections()))
        yield _family("audit_failures", [((), ask.audit_failures())])
        yield _family("guests_frozen", _by(ask.frozen()))
        yield _family("last_snapshot_timestamp_seconds", self._snapshots.rows())
        yield _family("secrets", [((), ask.secrets())])
        yield _family("libvirt_up", [((), float(ask.libvirt_up()))])
        yield from _storage(ask.storage())
        yield _family("jobs", _by(ask.jobs()))
        counts = ask.events.counts.copy()
        yield _family("events", [((name,), counts[name]) for name in all_events()])
        yield _family("events_broken", [((), ask.events.broken)])
        yield _family("events_lost", _by(ask.events.losses.copy()))
        yield _family("event_streams", [((), ask.streams())])


def _storage(found: list[tuple[StorageDomain, Health]]) -> Iterator[Metric]:
    rows: dict[str, list[tuple[tuple[str, ...], float]]] = {name: [] for name in _STORAGE}
    for domain, health in found:
        ours = domain.settings
        labels = str(ours.storage_domain_id), ours.name, ours.pool
        rows["storage_domain_up"].append((labels, float(health.reachable)))
        rows["storage_domain_probe_failures"].append((labels, health.failures))
        if health.latency_s is not None:
            rows["storage_domain_probe_seconds"].append((labels, health.latency_s))
        if health.room is not None:
            room = health.room
            left = max(0, room.capacity_bytes - room.used_bytes)
            rows["pool_used_bytes"].append((labels, room.used_bytes))
            rows["pool_available_bytes"].append((labels, left))
            rows["pool_full"].append((labels, float(room.level == "full")))
    for name in _STORAGE:
        yield _family(name, rows[name])


_STORAGE = (
    *("storage_domain_up", "storage_domain_probe_seconds", "storage_domain_probe_failures"),
    *("pool_used_bytes", "pool_available_bytes", "pool_full"),
)


def _by(counts: Mapping[str, int]) -> Rows:
    return [((name,), count) for name, count in counts.items()]


def _family(short: str, rows: Rows) -> Metric:
    spec = BY_NAME[short]
    made: GaugeMetricFamily | CounterMetricFamily
    if spec.kind == "counter":
        made = CounterMetricFamily(spec.name, spec.about, labels=spec.labels)
    else:
        made = GaugeMetricFamily(spec.name, spec.about, labels=spec.labels)
    for labels, value in rows:
        made.add_metric(labels, value)
    return made
