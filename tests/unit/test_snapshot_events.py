"""What is told of snapshots, sets and jobs by events: of each snapshot one thing, when it is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.fakes.fake_domains import VM
from tests.fakes.fake_events import Heard
from tests.fakes.snapshot_host import SnapshotHost
from tests.fakes.waiting import until
from virtceph import errors
from virtceph.events import (
    JobProgress,
    JobStatus,
    SnapshotDone,
    SnapshotFailed,
    SnapshotInconsistent,
    SnapshotSetDeleted,
    SnapshotSetRestored,
)
from virtceph.host.drives import SnapDrive
from virtceph.host.job import Job
from virtceph.host.jobs import Jobs
from virtceph.host.jobtold import JobTold
from virtceph.host.restoring import RestoreRequest
from virtceph.host.retention import Keep
from virtceph.host.sets import DeleteRequest, SetRequest
from virtceph.host.snapshots import SnapshotRequest

JOB = UUID(int=9)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[SnapshotHost]:
    with SnapshotHost.of_alice(tmp_path) as made:
        yield made


def make_set(host: SnapshotHost, freeze: str = "required", name: str = "nightly") -> None:
    asked = SetRequest(VM, name, ("vda", "vdb"), freeze, 5.0, None, None)
    host.run(lambda ident: host.sets.create(asked, ident), JOB if name == "nightly" else None)


def snapshot(host: SnapshotHost, *, frozen: bool, memory: str | None = None) -> None:
    drive = SnapDrive("vda", "s", None, None, None, None, None)
    asked = SnapshotRequest(VM, (drive,), memory, frozen, 60.0, 60.0)
    host.run(lambda ident: host.snapshots.start(asked, ident), JOB)


def of_snapshots(host: SnapshotHost) -> list[str]:
    return [name for name in host.heard.names() if name.startswith("snapshot_")]


def test_a_set_that_is_consistent_is_told_as_done(host: SnapshotHost) -> None:
    make_set(host)
    (done,) = host.heard.of(SnapshotDone)
    assert (done.vm_id, done.job_id, done.snapshot_name) == (VM, JOB, "nightly")
    assert (done.consistency, done.disks) == ("filesystem", ["vda", "vdb"])
    assert done.frozen_for_s is not None
    assert of_snapshots(host) == ["snapshot_done"]


def test_a_set_that_nobody_wanted_frozen_is_done_as_it_was_asked_for(host: SnapshotHost) -> None:
    make_set(host, "no")
    (done,) = host.heard.of(SnapshotDone)
    assert (done.consistency, done.frozen_for_s) == ("crash", None)


def test_a_set_that_was_to_be_frozen_and_is_not_is_told_as_inconsistent(
    host: SnapshotHost,
) -> None:
    host.agent.mood = "absent"
    make_set(host, "preferred")
    (told,) = host.heard.of(SnapshotInconsistent)
    assert told.consistency == "crash"
    assert "not frozen" in told.reason
    assert of_snapshots(host) == ["snapshot_inconsistent"]


def test_a_set_that_is_not_made_is_told_with_the_reason(host: SnapshotHost) -> None:
    host.worker.outcomes["web-data"] = errors.CephUnavailable("no answer")
    make_set(host)
    (failed,) = host.heard.of(SnapshotFailed)
    assert (failed.job_id, failed.snapshot_name) == (JOB, "nightly")
    assert "no answer" in failed.reason
    assert of_snapshots(host) == ["snapshot_failed"]


def test_a_snapshot_under_the_daemons_own_freeze_is_told(host: SnapshotHost) -> None:
    snapshot(host, frozen=False)
    (done,) = host.heard.of(SnapshotDone)
    assert (done.consistency, done.snapshot_name, done.disks) == ("filesystem", None, ["vda"])


def test_a_snapshot_under_the_callers_freeze_is_told_at_the_thaw(host: SnapshotHost) -> None:
    host.leases.freeze(VM, 60)
    snapshot(host, frozen=True)
    assert of_snapshots(host) == []
    host.leases.thaw(VM, force=False)
    until(lambda: bool(host.heard.of(SnapshotDone)))
    assert of_snapshots(host) == ["snapshot_done"]


def test_a_snapshot_that_its_caller_says_is_frozen_and_is_not_is_inconsistent(
    host: SnapshotHost,
) -> None:
    snapshot(host, frozen=True)
    assert of_snapshots(host) == ["snapshot_inconsistent"]


def test_a_snapshot_with_memory_was_not_to_be_frozen(host: SnapshotHost) -> None:
    snapshot(host, frozen=False, memory=str(host.folder / "memory"))
    assert of_snapshots(host) == ["snapshot_done"]


def test_sets_that_are_deleted_pruned_and_restored_are_told(host: SnapshotHost) -> None:
    for name in ("a", "b", "c"):
        make_set(host, name=name)
    host.sets.prune(VM, Keep(2, None, None, None), dry_run=False)
    host.run(lambda ident: host.sets.delete(DeleteRequest(VM, "b"), ident))
    gone = [(event.snapshot_name, event.pruned) for event in host.heard.of(SnapshotSetDeleted)]
    assert gone == [("a", True), ("b", False)]
    host.domains.state = "Down"
    asked = RestoreRequest(VM, "c", "rollback", None, None)
    host.run(lambda ident: host.sets.restore(asked, ident))
    (restored,) = host.heard.of(SnapshotSetRestored)
    assert (restored.snapshot_name, restored.into) == ("c", "rollback")
    assert sorted(restored.volumes) == ["web-data", "web-root"]


def test_a_dry_run_tells_nothing(host: SnapshotHost) -> None:
    for name in ("a", "b"):
        make_set(host, name=name)
    host.sets.prune(VM, Keep(1, None, None, None), dry_run=True)
    assert not host.heard.of(SnapshotSetDeleted)


def test_whole_sets_that_are_found_are_noticed(host: SnapshotHost) -> None:
    make_set(host)
    host.seen.clear()
    host.sets.listed(VM)
    assert [(vm, consistency) for vm, consistency, _ in host.seen] == [(VM, "filesystem")]


# --- jobs ---


def test_each_state_of_a_job_is_told_with_its_error() -> None:
    heard = Heard()
    told = JobTold(heard)
    jobs = Jobs(lambda r: r, lambda _error: {"step": "x"}, on_change=told.changed)

    def fails(_job: Job) -> None:
        raise errors.CephUnavailable("no answer")

    job = jobs.start(Job(uuid4(), None, "copy_volume", "storage"), fails)
    until(lambda: not jobs.running())
    states = heard.of(JobStatus)
    assert [(event.id, event.status) for event in states] == [
        (job.uuid, "running"),
        (job.uuid, "failed"),
    ]
    assert (states[1].error.code, states[0].error) == (5101, None)
    jobs.close(1)


def test_progress_is_told_at_most_once_a_second_for_each_job() -> None:
    heard, now_s = Heard(), [100.0]
    told = JobTold(heard, lambda: now_s[0])
    one, other = (Job(uuid4(), None, "copy_volume", "storage") for _ in range(2))
    for job in (one, other):
        job.status = "running"
        job.progress.on_told = lambda job=job: told.moved(job)  # type: ignore[misc]
    for done in range(0, 100, 10):
        one.progress.tell(done, 100)
        now_s[0] += 0.25
    other.progress.tell(5, 10)
    assert [event.done_bytes for event in heard.of(JobProgress)] == [0, 40, 80, 5]
    assert [event.progress for event in heard.of(JobProgress)] == [0, 40, 80, 50]
    one.status = "done"
    told.changed(one)
    assert told._told_s.keys() == {other}
    # What a mover says late of a job that has ended is not told.
    now_s[0] += 5
    one.progress.tell(100, 100)
    assert len(heard.of(JobProgress)) == 4
