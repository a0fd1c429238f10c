"""Records of jobs: what a daemon finds of one that died."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from virtceph.ceph.spec import PoolSpec
from virtceph.host.job import Job
from virtceph.host.jobrecords import (
    IMAGE,
    SNAPSHOT,
    TRASHED,
    JobRecords,
    Leftover,
    record_of,
)

FSID, OTHER = UUID(int=10), UUID(int=11)
JOB = UUID(int=1)
IMAGE_LEFT = Leftover(IMAGE, FSID, "vms", "", ".virtceph-1")
SNAPSHOT_LEFT = Leftover(SNAPSHOT, FSID, "vms", "tenant", "web", snapshot=".virtceph-1")
TRASH_LEFT = Leftover(TRASHED, FSID, "vms", "", "abc", name="web", heir=("f", "p", "", "web"))


def job() -> Job:
    return Job(JOB, ("copy", "web"), "copy_volume", "storage", abortable=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def left_by_another(folder: Path, *leftovers: Leftover, files: tuple[str, ...] = ()) -> JobRecords:
    JobRecords(folder).put(record_of(job(), leftovers, files))
    return JobRecords(folder)


def test_a_record_is_read_as_it_was_written(folder: Path) -> None:
    records = left_by_another(folder, IMAGE_LEFT, TRASH_LEFT, files=("/x/.virtceph-1",))
    (record,) = records.unfinished()
    assert (record.id, record.leftovers) == (JOB, (IMAGE_LEFT, TRASH_LEFT))
    assert record.files == ("/x/.virtceph-1",)
    # The same request is known again by its arguments, and another is not.
    assert record.job().arguments == job().arguments
    assert record.job().arguments != Job(JOB, ("copy", "db"), "copy_volume", "storage").arguments


def test_what_is_left_is_found_by_its_pool_and_namespace(folder: Path) -> None:
    records = left_by_another(folder, IMAGE_LEFT, SNAPSHOT_LEFT)
    assert records.left_in(FSID, PoolSpec("vms")) == [(JOB, IMAGE_LEFT)]
    assert records.left_in(FSID, PoolSpec("vms", "tenant")) == [(JOB, SNAPSHOT_LEFT)]
    assert records.left_in(OTHER, PoolSpec("vms")) == []
    assert records.left_in(FSID, PoolSpec("other")) == []


def test_a_record_stays_until_the_last_leftover_is_settled(folder: Path) -> None:
    records = left_by_another(folder, IMAGE_LEFT, SNAPSHOT_LEFT)
    records.told(records.unfinished()[0])
    records.settled(JOB, IMAGE_LEFT)
    assert JobRecords(folder).left_in(FSID, PoolSpec("vms")) == []
    assert JobRecords(folder).left_in(FSID, PoolSpec("vms", "tenant")) != []
    records.settled(JOB, SNAPSHOT_LEFT)
    assert JobRecords(folder).unfinished() == []
    records.settled(JOB, SNAPSHOT_LEFT)


def test_a_job_is_told_as_interrupted_by_one_daemon_only(folder: Path) -> None:
    records = left_by_another(folder, IMAGE_LEFT, files=("/x/.virtceph-1",))
    (record,) = records.unfinished()
    assert not record.is_over
    records.told(record)
    (again,) = JobRecords(folder).unfinished()
    assert (again.is_over, again.files, again.leftovers) == (True, (), (IMAGE_LEFT,))


def test_a_job_that_stops_with_its_daemon_is_told_by_the_next_whatever_is_left(
    folder: Path,
) -> None:
    records = left_by_another(folder, IMAGE_LEFT, files=("/x/.virtceph-1",))
    records.interrupted(records.unfinished()[0])
    records.settled(JOB, IMAGE_LEFT)
    (again,) = JobRecords(folder).unfinished()
    assert (again.is_over, again.files, again.leftovers) == (False, (), ())


def test_a_record_without_leftovers_is_gone_once_it_was_told(folder: Path) -> None:
    records = left_by_another(folder)
    records.told(records.unfinished()[0])
    assert JobRecords(folder).unfinished() == []


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"id": "no uuid"}', "\x00"])
def test_what_is_no_record_is_passed_over(folder: Path, text: str) -> None:
    left_by_another(folder, IMAGE_LEFT)
    (folder / "broken.json").write_text(text)
    assert [record.id for record in JobRecords(folder).unfinished()] == [JOB]


def test_a_record_that_cannot_be_written_is_an_error(folder: Path) -> None:
    folder.parent.joinpath("jobs").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="jobs"):
        JobRecords(folder).put(record_of(job(), ()))
