"""Files of data: whole or not there, and never through a link."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

import pytest

from virtceph import errors
from virtceph.host.exchangefiles import DataFiles
from virtceph.host.paths import Exchange

JOB = UUID(int=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "exchange"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def files(folder: Path) -> DataFiles:
    return DataFiles(Exchange([str(folder)]), ["/dev/null", "/dev/nosuch"])


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_only_when_it_is_whole(files: DataFiles, folder: Path) -> None:
    with files.new(f"{folder}/disk.raw", JOB) as file:
        os.write(file.fd, b"data")
        assert listing(folder) == [f".virtceph-{JOB}.raw"]
        file.keep()
        assert listing(folder) == ["disk.raw"]
    assert (folder / "disk.raw").read_bytes() == b"data"


def test_a_file_that_is_not_kept_is_gone(files: DataFiles, folder: Path) -> None:
    with files.new(f"{folder}/disk.raw", JOB) as file:
        os.write(file.fd, b"data")
    assert listing(folder) == []


def test_a_file_that_came_meanwhile_is_not_replaced(files: DataFiles, folder: Path) -> None:
    with files.new(f"{folder}/disk.raw", JOB) as file:
        (folder / "disk.raw").write_text("mine")
        with pytest.raises(errors.PathExists):
            file.keep()
    assert (folder / "disk.raw").read_text() == "mine"
    assert listing(folder) == ["disk.raw"]


def test_two_files_of_one_job_do_not_meet(files: DataFiles, folder: Path) -> None:
    paths = (f"{folder}/a.diff", f"{folder}/a.diff.manifest")
    with files.new(paths[0], JOB) as first, files.new(paths[1], JOB) as second:
        first.keep()
        second.keep()
    assert listing(folder) == ["a.diff", "a.diff.manifest"]
    assert len(set(files.part_paths(JOB, *paths))) == 2


def test_the_part_of_a_job_is_removed_and_nothing_else(files: DataFiles, folder: Path) -> None:
    (part,) = files.part_paths(JOB, f"{folder}/disk.raw")
    Path(part).write_text("half")
    files.remove_part(part)
    files.remove_part(part)
    (folder / "mine").write_text("mine")
    with pytest.raises(errors.PathNotAllowed):
        files.remove_part(f"{folder}/mine")
    with pytest.raises(errors.PathNotAllowed):
        files.remove_part(f"/tmp/.virtceph-{JOB}")
    assert listing(folder) == ["mine"]


def test_only_regular_files_of_ours_are_read(files: DataFiles, folder: Path) -> None:
    (folder / "disk").write_bytes(b"data")
    (folder / "link").symlink_to(folder / "disk")
    (folder / "open").write_bytes(b"data")
    (folder / "open").chmod(0o666)
    os.mkfifo(folder / "pipe", 0o600)
    with files.existing(f"{folder}/disk") as fd:
        assert os.read(fd, 10) == b"data"
    for name in ("link", "open", "pipe"):
        with pytest.raises(errors.PathNotAllowed):
            files.check_existing(f"{folder}/{name}")
    with pytest.raises(errors.NoSuchFile):
        files.check_existing(f"{folder}/nosuch")
    assert files.exists(f"{folder}/disk")
    assert not files.exists(f"{folder}/nosuch")


def test_a_device_is_taken_only_if_it_is_allowed_and_a_block_device(files: DataFiles) -> None:
    for path, reason in (
        ("/dev/zero", "expected a path under"),
        ("/dev/null", "no block device"),
        ("/dev/nosuch", "No such file"),
    ):
        with pytest.raises(errors.PathNotAllowed, match=reason):
            files.check_new(path)
        with pytest.raises(errors.PathNotAllowed, match=reason):
            files.check_existing(path)


def test_a_file_where_none_can_be_made_is_told(files: DataFiles, folder: Path) -> None:
    (folder / f".virtceph-{JOB}.raw").write_text("another's")
    with pytest.raises(errors.PathExists), files.new(f"{folder}/disk.raw", JOB):
        pass
    assert (folder / f".virtceph-{JOB}.raw").read_text() == "another's"
