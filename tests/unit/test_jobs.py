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
