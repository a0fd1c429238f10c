"""Jobs: one id, one piece of work; told for an hour."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from virtceph import errors, request
from virtceph.host import jobs as module
from virtceph.host.jobs import Job, JobInfo, Jobs
from virtceph.units import HOUR_S

ID, OTHER = UUID(int=1), UUID(int=2)


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(clock: Clock) -> Iterator[Jobs]:
    made = Jobs(lambda r: {"told": r}, lambda e: {"request": request.current().id}, clock)
    yield made
    made.close(2)


def job(uuid: UUID = ID, arguments: object = "a", kind: str = "virt") -> Job:
    return Job(uuid, arguments, "snapshot_vm", kind)


def ended(jobs: Jobs, uuid: UUID = ID) -> JobInfo:
    end_s = time.monotonic() + 2
    while jobs.running():
        assert time.monotonic() < end_s
        time.sleep(0.001)
    return jobs.describe(None, [uuid])[str(uuid)]


def test_what_the_work_returns_is_the_jobs_result(jobs: Jobs) -> None:
    jobs.start(job(), lambda _job: 7)
    told = ended(jobs)
    assert (told.status, told.result, told.error, told.progress) == ("done", {"told": 7}, None, 100)


def test_the_same_id_and_arguments_are_the_same_job(jobs: Jobs) -> None:
    runs: list[Job] = []
    first = jobs.start(job(), runs.append)
    assert jobs.start(job(), runs.append) is first
    ended(jobs)
    assert jobs.start(job(), runs.append) is first
    assert jobs.is_same(ID, "a")
    assert len(runs) == 1


def test_the_same_id_with_other_arguments_is_refused(jobs: Jobs) -> None:
    jobs.start(job(), lambda _job: None)
    with pytest.raises(errors.JobExists):
        jobs.start(job(arguments="b"), lambda _job: None)
    with pytest.raises(errors.JobExists):
        jobs.is_same(ID, "b")
    assert not jobs.is_same(OTHER, "b")


def test_a_finished_job_is_forgotten_after_an_hour_and_not_before(jobs: Jobs, clock: Clock) -> None:
    jobs.start(job(), lambda _job: 7)
    ended(jobs)
    clock.now_s += HOUR_S
    assert jobs.describe(None, []) != {}
    clock.now_s += 1
    assert jobs.describe(None, []) == {}
    assert not jobs.is_same(ID, "other")


def test_a_running_job_is_never_forgotten(jobs: Jobs, clock: Clock) -> None:
    go_on = threading.Event()
    jobs.start(job(), lambda _job: go_on.wait(2))
    clock.now_s += 10 * HOUR_S
    assert str(ID) in jobs.describe(None, [])
    go_on.set()
    ended(jobs)


def test_a_failure_is_told_with_its_facts_and_the_jobs_own_request_id(jobs: Jobs) -> None:
    jobs.start(job(), raising(errors.SnapshotFailed(ID, "freeze", "no")))
    told = ended(jobs)
    assert told.status == "failed"
    assert told.error is not None
    assert (told.error.code, told.error.data) == (48, {"request": f"job:{ID}"})
    assert "freeze: no" in told.error.message


def raising(error: Exception) -> Callable[[Job], Any]:
    def work(_job: Job) -> None:
        raise error

    return work


def test_a_bug_is_told_without_its_text(jobs: Jobs) -> None:
    jobs.start(job(), raising(RuntimeError("the key is x")))
    told = ended(jobs)
    assert told.error is not None
    assert (told.error.code, told.status) == (-32603, "failed")
    assert "the key" not in repr(told)


def test_an_error_whose_facts_are_wrong_still_ends_the_job(clock: Clock) -> None:
    def wrong(_error: errors.VirtcephError) -> None:
        raise TypeError

    made = Jobs(lambda r: r, wrong, clock)
    made.start(job(), raising(errors.ShuttingDown()))
    told = ended(made)
    assert told.status == "failed"
    made.close(1)


class RefinedWhenRead(Job):
    """Its result is refined by another thread just after it was read for the second time."""

    told: Any = None
    reads = 0

    @property
    def result(self) -> Any:
        found = self.told
        self.reads += found == "pending"
        if self.reads == 2:
            self.told = "final"
        return found

    @result.setter
    def result(self, value: Any) -> None:
        self.told = value


def test_a_result_that_is_refined_at_the_very_end_is_never_lost(jobs: Jobs) -> None:
    def work(one: Job) -> str:
        one.result = "pending"
        return "pending"

    jobs.start(RefinedWhenRead(ID, "a", "snapshot_vm", "virt"), work)
    assert ended(jobs).result == {"told": "final"}


def test_jobs_are_told_by_type_and_id(jobs: Jobs) -> None:
    jobs.start(job(), lambda _job: None)
    jobs.start(job(OTHER, kind="storage"), lambda _job: None)
    assert set(jobs.describe("virt", [])) == {str(ID)}
    assert set(jobs.describe(None, [OTHER])) == {str(OTHER)}
    assert jobs.describe("virt", [OTHER]) == {}


def test_close_waits_for_what_runs_and_ends_what_waits(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_THREADS", 1)
    made = Jobs(lambda r: r, lambda _e: None, clock)
    made.start(job(), lambda _job: time.sleep(0.05))
    made.start(job(OTHER), lambda _job: None)
    began_s = time.monotonic()
    made.close(5)
    assert time.monotonic() - began_s < 2
    states = {uuid: told.status for uuid, told in made.describe(None, []).items()}
    assert states == {str(ID): "done", str(OTHER): "aborted"}
    with pytest.raises(errors.ShuttingDown):
        made.start(job(UUID(int=3)), lambda _job: None)
    assert not made.running()


def test_more_jobs_than_can_wait_are_refused_and_none_is_lost(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_UNDER_WAY", 3)
    go = threading.Event()
    for number in range(3):
        jobs.start(job(UUID(int=number)), lambda _job: go.wait(2))
    refused = threading.Event()
    with pytest.raises(errors.LaneBusy, match="jobs"):
        jobs.start(job(UUID(int=9)), lambda _job: refused.set())
    go.set()
    ended(jobs, UUID(int=2))
    assert not refused.wait(0.1)
    assert jobs.start(job(UUID(int=9)), lambda _job: None)
    assert ended(jobs, UUID(int=9)).status == "done"


# --- aborting, forgetting, and how far it is ---


def abortable(uuid: UUID = ID) -> Job:
    return Job(uuid, "a", "copy_volume", "storage", abortable=True)


def until_stopped(one: Job) -> None:
    assert one.stop.wait(5)
    one.require_going()


def test_an_abort_is_told_to_the_work_and_the_job_ends_as_aborted(jobs: Jobs) -> None:
    jobs.start(abortable(), until_stopped)
    jobs.abort(ID)
    assert ended(jobs).status == "aborted"
    with pytest.raises(errors.JobNotActive):
        jobs.abort(ID)


def test_work_that_was_about_to_end_ends_as_it_would_have(jobs: Jobs) -> None:
    go_on, began = threading.Event(), threading.Event()

    def work(_job: Job) -> bool:
        began.set()
        return go_on.wait(2)

    jobs.start(abortable(), work)
    assert began.wait(2)
    jobs.abort(ID)
    assert jobs.describe(None, [ID])[str(ID)].status == "aborting"
    go_on.set()
    assert ended(jobs).status == "done"


def test_a_job_that_waits_for_a_thread_is_aborted_before_it_begins(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_THREADS", 1)
    made = Jobs(lambda r: r, lambda _e: None, clock)
    go_on, began = threading.Event(), threading.Event()
    made.start(job(OTHER), lambda _job: go_on.wait(2))
    made.start(abortable(), lambda _job: began.set())
    made.abort(ID)
    go_on.set()
    assert ended(made).status == "aborted"
    assert not began.is_set()
    made.close(1)


def test_work_that_cannot_stop_is_not_told_to(jobs: Jobs) -> None:
    go_on = threading.Event()
    jobs.start(job(), lambda _job: go_on.wait(2))
    with pytest.raises(errors.JobNotAbortable):
        jobs.abort(ID)
    go_on.set()
    assert ended(jobs).status == "done"


def test_only_an_ended_job_is_forgotten_by_hand(jobs: Jobs) -> None:
    go_on = threading.Event()
    jobs.start(job(), lambda _job: go_on.wait(2))
    with pytest.raises(errors.JobNotDone):
        jobs.delete(ID)
    go_on.set()
    ended(jobs)
    jobs.delete(ID)
    for act in (jobs.delete, jobs.abort):
        with pytest.raises(errors.NoSuchJob):
            act(ID)


def test_a_close_stops_what_can_be_stopped(clock: Clock) -> None:
    made = Jobs(lambda r: r, lambda _e: None, clock)
    made.start(abortable(), until_stopped)
    began_s = time.monotonic()
    made.close(5)
    assert time.monotonic() - began_s < 4
    assert made.describe(None, [ID])[str(ID)].status == "aborted"


def test_progress_is_never_whole_before_the_end_and_tells_the_rate(jobs: Jobs) -> None:
    told: list[JobInfo] = []

    def work(one: Job) -> None:
        one.step = "copying"
        for done in (0, 50, 100):
            one.progress.tell(done, 100)
            time.sleep(0.02)
            told.append(jobs.info(one))

    jobs.start(job(), work)
    last = ended(jobs)
    assert [info.progress for info in told] == [0, 50, 99]
    assert (told[1].done_bytes, told[1].total_bytes, told[1].step) == (50, 100, "copying")
    assert told[1].rate_bytes is not None
    assert told[1].rate_bytes > 0
    assert told[1].left_s is not None
    assert (last.progress, last.step, last.rate_bytes, last.left_s) == (100, None, None, None)
    assert last.ended_at_s is not None
    assert last.started_at_s is not None
    assert last.started_at_s <= last.ended_at_s


def test_each_change_of_a_job_is_told(clock: Clock) -> None:
    told: list[str] = []
    made = Jobs(lambda r: r, lambda _e: None, clock, lambda job: told.append(job.status))
    made.start(abortable(), until_stopped)
    made.abort(ID)
    ended(made)
    assert told in (["running", "aborting", "aborted"], ["aborting", "aborted"])
    made.close(1)


def test_a_job_that_another_daemon_began_is_told_as_failed(jobs: Jobs) -> None:
    jobs.adopt(abortable(), errors.JobInterrupted("copy_volume"))
    told = jobs.describe(None, [ID])[str(ID)]
    assert told.status == "failed"
    assert told.error is not None
    assert (told.error.code, told.error.data) == (5060, {"request": f"job:{ID}"})
    # The thread that took it over is not taken for the job.
    assert request.current().id != f"job:{ID}"
