"""What is measured: each metric's name, kind, labels and meaning. `docs/metrics.md` is made of this."""

from __future__ import annotations

from dataclasses import dataclass

_PREFIX = "virtceph_"
# From what never waits to the longest deadline of a verb.
_VERB_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)
# From an idle guest's freeze to the longest lease.
_FROZEN_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_DOMAIN = ("storage_domain", "name", "pool")


@dataclass(frozen=True)
class MetricSpec:
    """One metric. A `counter`'s name has no `_total`, as the library adds it."""

    short: str
    kind: str
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The name that the library is given."""
        return _PREFIX + self.short

    @property
    def shown(self) -> str:
        """The name that a reader meets."""
        return self.name + ("_total" if self.kind == "counter" else "")


def _counter(short: str, about: str, *labels: str) -> MetricSpec:
    return MetricSpec(short, "counter", about, labels)


def _gauge(short: str, about: str, *labels: str) -> MetricSpec:
    return MetricSpec(short, "gauge", about, labels)


METRICS = (
    # Requests.
    MetricSpec(
        "verb_duration_seconds",
        "histogram",
        "How long verbs took, those that failed too; its count is how often each was called.",
        ("verb",),
        _VERB_S,
    ),
    _counter("verb_errors", "Errors that verbs answered.", "verb", "error", "code"),
    _gauge("lane_slots", "How many calls a lane serves at once.", "lane"),
    _gauge("lane_running", "Calls that a lane serves now.", "lane"),
    _gauge("lane_waiting", "Calls that wait for a slot.", "lane"),
    _gauge("lane_overdue", "Calls past their deadline that still hold a slot.", "lane"),
    _counter("lane_refused", "Calls that a lane refused, because it was full.", "lane"),
    _gauge("connections", "Open connections: `unix`, `https`, `stomp`, `metrics`.", "transport"),
    _counter("audit_failures", "Lines of the audit trail that could not be written to its file."),
    # Guests.
    _gauge(
        "guests_frozen",
        "Guests with an open freeze. `thawing`, `uncertain`: the daemon itself thaws them, again and again.",
        "state",
    ),
    MetricSpec(
        "frozen_seconds",
        "histogram",
        "How long guests were frozen, once they are thawed, and whether the freeze held throughout.",
        ("intact",),
        _FROZEN_S,
    ),
    _counter("leases_expired", "Freezes whose lease ran out, so that the daemon thawed the guest."),
    _counter("agent_timeouts", "Calls that a guest agent did not answer in time."),
    # Snapshots of VMs.
    _counter("snapshots", "Snapshots of VMs: `done`, `inconsistent`, `failed`.", "outcome"),
    _gauge(
        "last_snapshot_timestamp_seconds",
        "When a VM's last snapshot was made, as far as this daemon made it or was asked about it.",
        "vm",
        "consistency",
    ),
    # Keys and libvirt.
    _gauge("secrets", "Registered keys."),
    _counter("secrets_restored", "Keys put back into a libvirt that had forgotten them."),
    _counter("secrets_not_restored", "Keys that libvirt refused when they were put back."),
    _gauge("libvirt_up", "Whether libvirt is there."),
    _counter("libvirt_losses", "How often libvirt was lost."),
    # Storage.
    _gauge("storage_domain_up", "Whether the cluster answered the last question.", *_DOMAIN),
    _gauge(
        "storage_domain_probe_seconds",
        "How long the monitors, or an OSD, took to answer; the slower of both.",
        *_DOMAIN,
    ),
    _counter("storage_domain_probe_failures", "Questions without an answer.", *_DOMAIN),
    _gauge("pool_used_bytes", "What is stored in the pool.", *_DOMAIN),
    _gauge("pool_available_bytes", "What may still be stored in it.", *_DOMAIN),
    _gauge("pool_full", "Whether the pool takes no more.", *_DOMAIN),
    # Jobs.
    _gauge("jobs", "Jobs that are known, by where they stand.", "state"),
    _counter("jobs_ended", "Jobs that ended.", "kind", "outcome"),
    _counter("job_moved_bytes", "What jobs that are done have moved; holes do not count.", "kind"),
    # Events.
    _counter("events", "Events that were told.", "event"),
    _counter("events_broken", "Events that could not be told, by a bug."),
    _counter("events_lost", "How often a reader was told that events are lost to him.", "cause"),
    _gauge("event_streams", "Open streams of events over HTTP."),
    # The daemon itself.
    _gauge("build_info", "Always 1; what runs is in the labels.", "version"),
)
BY_NAME = {spec.short: spec for spec in METRICS}
