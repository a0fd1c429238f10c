"""What is measured: all that is said to be, under those names, cheaply, and without an end to its memory."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prometheus_client.parser import text_string_to_metric_families

from virtceph import events
from virtceph.host import lastsnapshots
from virtceph.host.events import Events
from virtceph.host.job import Job
from virtceph.host.metrics import Metrics
from virtceph.host.metricsources import Sources
from virtceph.host.metricspecs import METRICS
from virtceph.host.storagewatch import Health, Room
from virtceph.rpc.lanes import Lane
from virtceph.schema import load_contract

VM, OTHER, WINDOW = UUID(int=1), UUID(int=2), UUID(int=3)
DOMAIN: Any = SimpleNamespace(
    settings=SimpleNamespace(storage_domain_id=UUID(int=5), name="fast", pool="vms")
)


class Site:
    """Metrics over sources that a test can change."""

    def __init__(self) -> None:
        self.events = Events(load_contract(), kept=16)
        self.storage = [(DOMAIN, Health(latency_s=0.01, room=Room(60, 100)))]
        self.libvirt_up = True
        lane = Lane("agent", 12, 64)
        sources = Sources(
            version="1.2.3",
            events=self.events,
            lanes=lambda: {"agent": lane.facts()},
            connections=lambda: {"unix": 2, "stomp": 1},
            streams=lambda: 4,
            frozen=lambda: {"frozen": 2, "thawing": 1},
            secrets=lambda: 7,
            libvirt_up=lambda: self.libvirt_up,
            storage=lambda: self.storage,
            jobs=lambda: {"running": 1, "done": 3},
            audit_failures=lambda: 5,
        )
        self.metrics = Metrics(sources, {"NoSuchVM": 1, "InternalError": -32603})
        self.events.listen(self.metrics.heard)

    def samples(self) -> dict[str, float]:
        """Every sample by its name and labels, as in `virtceph_jobs{state=running}`."""
        found = {}
        for family in text_string_to_metric_families(self.metrics.text().decode()):
            for sample in family.samples:
                labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found


@pytest.fixture
def site() -> Site:
    return Site()


def everything(site: Site) -> None:
    """Let each thing happen once that is counted."""
    site.metrics.asked("VM.freeze", "NoSuchVM", 0.003)
    site.metrics.agent_silent()
    thawed: dict[str, Any] = {
        "vm_id": VM, "window_id": WINDOW, "owner": "a", "cause": "lease", "caller": None,
        "filesystems": 2, "frozen_for_s": 0.2, "intact": False, "reason": "",
    }  # fmt: skip
    done: dict[str, Any] = {
        "vm_id": VM, "job_id": WINDOW, "snapshot_name": "n", "consistency": "filesystem",
        "reason": "", "frozen_for_s": 0.2, "disks": ["vda"],
    }  # fmt: skip
    for event in (
        events.VMThawed(**thawed),
        events.LeaseExpired(VM, WINDOW, "a"),
        events.SnapshotDone(**done),
        events.SnapshotInconsistent(**{**done, "consistency": "crash"}),
        events.SnapshotFailed(VM, WINDOW, None, ""),
        events.SecretsRestored([VM], [OTHER]),
        events.LibvirtLost(""),
    ):
        site.events.tell(event)
    assert site.events.broken == 0
    job = Job(uuid4(), None, "copy_volume", "storage")
    job.status, job.result = "done", SimpleNamespace(transferred_bytes=4096)
    site.metrics.job_changed(job)
    site.events.lost(site.events.place("1-1")[1], 0)  # type: ignore[arg-type]


def test_every_metric_that_is_promised_is_there_and_no_other(site: Site) -> None:
    everything(site)
    families = {f.name: f for f in text_string_to_metric_families(site.metrics.text().decode())}
    ours = {name for name in families if name.startswith("virtceph_")}
    # The parser takes the end off a counter's name, as the library does.
    assert ours == {spec.name for spec in METRICS}
    for spec in METRICS:
        family = families[spec.name]
        assert (family.type, family.documentation) == (spec.kind, spec.about), spec.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert labels == set(spec.labels), spec.name
    assert "process_resident_memory_bytes" in families


def test_what_happens_is_counted_under_its_labels(site: Site) -> None:
    everything(site)
    expected = {
        "virtceph_verb_errors_total{code=1,error=NoSuchVM,verb=VM.freeze}": 1,
        "virtceph_verb_duration_seconds_count{verb=VM.freeze}": 1,
        "virtceph_verb_duration_seconds_bucket{le=0.005,verb=VM.freeze}": 1,
        "virtceph_verb_duration_seconds_bucket{le=0.0025,verb=VM.freeze}": 0,
        "virtceph_frozen_seconds_count{intact=false}": 1,
        "virtceph_frozen_seconds_count{intact=true}": 0,
        "virtceph_leases_expired_total": 1,
        "virtceph_agent_timeouts_total": 1,
        "virtceph_snapshots_total{outcome=done}": 1,
        "virtceph_snapshots_total{outcome=inconsistent}": 1,
        "virtceph_snapshots_total{outcome=failed}": 1,
        "virtceph_secrets_restored_total": 1,
        "virtceph_secrets_not_restored_total": 1,
        "virtceph_libvirt_losses_total": 1,
        "virtceph_jobs_ended_total{kind=copy_volume,outcome=done}": 1,
        "virtceph_job_moved_bytes_total{kind=copy_volume}": 4096,
        "virtceph_events_total{event=lease_expired}": 1,
        "virtceph_events_lost_total{cause=restart}": 1,
    }
    samples = site.samples()
    assert {name: samples[name] for name in expected} == expected


def test_what_is_there_now_is_looked_up(site: Site) -> None:
    domain = "{name=fast,pool=vms,storage_domain=00000000-0000-0000-0000-000000000005}"
    expected = {
        "virtceph_build_info{version=1.2.3}": 1,
        "virtceph_connections{transport=unix}": 2,
        "virtceph_event_streams": 4,
        "virtceph_guests_frozen{state=thawing}": 1,
        "virtceph_secrets": 7,
        "virtceph_libvirt_up": 1,
        "virtceph_jobs{state=running}": 1,
        "virtceph_audit_failures_total": 5,
        "virtceph_lane_slots{lane=agent}": 12,
        f"virtceph_storage_domain_up{domain}": 1,
        f"virtceph_storage_domain_probe_seconds{domain}": 0.01,
        f"virtceph_pool_used_bytes{domain}": 60,
        f"virtceph_pool_available_bytes{domain}": 40,
        f"virtceph_pool_full{domain}": 0,
    }
    samples = site.samples()
    assert {name: samples[name] for name in expected} == expected
    site.libvirt_up, site.storage = False, []
    samples = site.samples()
    assert samples["virtceph_libvirt_up"] == 0
    assert not [name for name in samples if "fast" in name]


def test_counters_of_what_never_happened_are_there_at_nothing(site: Site) -> None:
    """Else nobody could tell from a first one how many there were before."""
    samples = site.samples()
    for name in (
        "virtceph_leases_expired_total",
        "virtceph_agent_timeouts_total",
        "virtceph_snapshots_total{outcome=inconsistent}",
        "virtceph_frozen_seconds_count{intact=false}",
        "virtceph_secrets_not_restored_total",
        "virtceph_libvirt_losses_total",
        "virtceph_events_total{event=events_lost}",
        "virtceph_events_broken_total",
    ):
        assert samples[name] == 0, name


def test_two_daemons_in_one_process_share_nothing() -> None:
    one, other = Site(), Site()
    everything(one)
    assert one.samples()["virtceph_leases_expired_total"] == 1
    assert other.samples()["virtceph_leases_expired_total"] == 0


def test_the_last_snapshot_of_each_vm_is_known_until_the_vm_is_gone(site: Site) -> None:
    everything(site)
    name = f"virtceph_last_snapshot_timestamp_seconds{{consistency=filesystem,vm={VM}}}"
    assert abs(site.samples()[name] - time.time()) < 60
    snapshots = site.metrics.snapshots
    # One that was made before and is found later is not the last one.
    snapshots.made(VM, "filesystem", 5.0)
    snapshots.made(OTHER, "filesystem", 5.0)
    assert site.samples()[name] > 5
    assert site.samples()[name.replace(str(VM), str(OTHER))] == 5
    snapshots.forget(VM)
    assert not snapshots.knows(VM)
    assert not [sample for sample in site.samples() if str(VM) in sample]


def test_series_of_vms_have_a_bound(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lastsnapshots, "_MOST_VMS", 10)
    for number in range(100):
        site.metrics.snapshots.made(UUID(int=number), "crash", 1.0)
    rows = [name for name in site.samples() if "last_snapshot" in name]
    assert len(rows) == 10


def test_an_unknown_error_is_counted_all_the_same(site: Site) -> None:
    site.metrics.asked("VM.freeze", "Unheard", 0.1)
    assert site.samples()["virtceph_verb_errors_total{code=?,error=Unheard,verb=VM.freeze}"] == 1
