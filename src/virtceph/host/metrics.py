"""The daemon's metrics, as Prometheus reads them: counted as things happen, or looked up when asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from virtceph import events
from virtceph.host.job import ENDED, Job
from virtceph.host.lastsnapshots import LastSnapshots
from virtceph.host.metricsources import LOOKED_UP, Live, Sources
from virtceph.host.metricspecs import METRICS

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Else each counter and histogram had one more series, that nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]
_OUTCOMES: dict[type[events.Event], str] = {
    events.SnapshotDone: "done",
    events.SnapshotInconsistent: "inconsistent",
    events.SnapshotFailed: "failed",
}


class Metrics:
    """One daemon's metrics, in a registry of its own. `codes` are those of the errors by their names."""

    def __init__(self, sources: Sources, codes: Mapping[str, int]) -> None:
        self._codes = {name: str(code) for name, code in codes.items()}
        self.registry = CollectorRegistry()
        self._made = {
            spec.short: _KINDS[spec.kind](
                spec.name,
                spec.about,
                spec.labels,
                registry=self.registry,
                **({"buckets": spec.buckets} if spec.buckets else {}),
            )
            for spec in METRICS
            if spec.short not in LOOKED_UP
        }
        # Looking a child up by its labels costs more than observing.
        self._durations: dict[str, Any] = {}
        self.snapshots = LastSnapshots()
        self.registry.register(Live(sources, self.snapshots))
        ProcessCollector(registry=self.registry)
        self._begin_at_nothing()

    def _begin_at_nothing(self) -> None:
        # Else they were absent until something happens, and nobody could tell that from a lost scrape.
        for outcome in _OUTCOMES.values():
            self._made["snapshots"].labels(outcome)
        for intact in ("true", "false"):
            self._made["frozen_seconds"].labels(intact)

    def text(self) -> bytes:
        """All of them, as Prometheus reads them. Blocks for moments."""
        return generate_latest(self.registry)

    def asked(self, verb: str, outcome: str, elapsed_s: float) -> None:
        """A verb was served; `outcome` is `ok` or the name of an error."""
        duration = self._durations.get(verb)
        if duration is None:
            duration = self._durations[verb] = self._made["verb_duration_seconds"].labels(verb)
        duration.observe(elapsed_s)
        if outcome != "ok":
            code = self._codes.get(outcome, "?")
            self._made["verb_errors"].labels(verb, outcome, code).inc()

    def agent_silent(self) -> None:
        """A guest agent did not answer in time."""
        self._made["agent_timeouts"].inc()

    def job_changed(self, job: Job) -> None:
        """A job came into another state."""
        status = job.status
        if status not in ENDED:
            return
        self._made["jobs_ended"].labels(job.description, status).inc()
        moved = getattr(job.result, "transferred_bytes", 0)
        if status == "done" and moved:
            self._made["job_moved_bytes"].labels(job.description).inc(moved)

    def heard(self, event: events.Event) -> None:
        """Count what is told."""
        match event:
            case events.VMThawed():
                held = "true" if event.intact else "false"
                self._made["frozen_seconds"].labels(held).observe(event.frozen_for_s)
            case events.LeaseExpired():
                self._made["leases_expired"].inc()
            case events.SecretsRestored():
                self._made["secrets_restored"].inc(len(event.uuids))
                self._made["secrets_not_restored"].inc(len(event.failed))
            case events.LibvirtLost():
                self._made["libvirt_losses"].inc()
            case events.SnapshotDone() | events.SnapshotFailed():
                self._made["snapshots"].labels(_OUTCOMES[type(event)]).inc()
                if isinstance(event, events.SnapshotDone):
                    self.snapshots.made(event.vm_id, event.consistency, time.time())


_KINDS: dict[str, Callable[..., Any]] = {"counter": Counter, "histogram": Histogram}
