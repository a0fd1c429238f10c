"""Files that a caller names: under an exchange directory, and through no link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from virtceph.errors import PathExists, PathNotAllowed
from virtceph.host.paths import Exchange


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "exchange"
    (made / "a" / "b").mkdir(parents=True)
    for path in (made, made / "a", made / "a" / "b"):
        path.chmod(0o700)
    return made


def allowed(folder: Path, path: Path | str) -> str:
    before = len(os.listdir("/proc/self/fd"))
    try:
        return Exchange([str(folder)]).new_file(str(path))
    finally:
        assert len(os.listdir("/proc/self/fd")) == before, "a descriptor is left"


def refused(folder: Path, path: Path | str) -> str:
    with pytest.raises(PathNotAllowed) as caught:
        allowed(folder, path)
    assert caught.value.path == str(path)
    return caught.value.reason


@pytest.mark.parametrize("name", ["file", "a/file", "a/b/file", "a//b/./file"])
def test_a_new_file_under_the_folder_is_allowed(folder: Path, name: str) -> None:
    assert allowed(folder, f"{folder}/{name}") == str(folder / name)


def test_any_of_several_folders_will_do(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    exchange = Exchange([str(other), str(folder)])
    assert exchange.new_file(f"{folder}/x") == f"{folder}/x"


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "relative", "{}", "{}x/file", "{}/../file", "{}/a/../file", "/", "{}/.."],
)
def test_a_path_outside_is_refused(folder: Path, path: str) -> None:
    assert "expected" in refused(folder, path.format(folder))


@pytest.mark.parametrize("name", ["a\0b", "a\x01", "a\n", "a/\x7f/b", "\x85", "\ufffe", "\ud800"])
def test_a_control_character_is_refused_before_libvirt_sees_it(folder: Path, name: str) -> None:
    assert refused(folder, f"{folder}/{name}") == "expected no control characters"


@pytest.mark.parametrize("name", ["x" * 300, "x" * 300 + "/file", "a/" + "ö" * 128])
def test_a_name_that_is_too_long_is_refused(folder: Path, name: str) -> None:
    assert "File name too long" in refused(folder, f"{folder}/{name}")


def test_a_path_that_is_too_long_is_refused_though_its_names_are_short(folder: Path) -> None:
    assert "at most 4095 bytes" in refused(folder, f"{folder}/{'./' * 2048}file")


def test_the_exchange_directory_itself_is_told_as_such(folder: Path) -> None:
    assert "is the exchange directory itself" in refused(folder, f"{folder}/")


@pytest.mark.parametrize("link", ["a", "a/b"])
def test_a_link_anywhere_on_the_way_is_refused(folder: Path, link: str, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "b").mkdir(parents=True, mode=0o700)
    target.chmod(0o700)
    moved = tmp_path / "moved"
    (folder / link).rename(moved)
    (folder / link).symlink_to(target)
    assert "link" in refused(folder, folder / "a" / "b" / "file")


def test_a_link_as_the_folder_itself_is_refused(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(folder)
    refused(link, link / "file")


def test_a_link_as_the_file_is_refused_even_if_it_leads_nowhere(folder: Path) -> None:
    (folder / "file").symlink_to("/nowhere/at/all")
    with pytest.raises(PathExists):
        allowed(folder, folder / "file")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_exists_is_not_overwritten(folder: Path, kind: str) -> None:
    path = folder / "x"
    path.touch() if kind == "file" else path.mkdir()
    with pytest.raises(PathExists):
        allowed(folder, path)


@pytest.mark.parametrize("mode", [0o702, 0o720, 0o777, 0o1777])
@pytest.mark.parametrize("where", ["", "a", "a/b"])
def test_a_folder_that_others_may_write_to_is_refused(folder: Path, where: str, mode: int) -> None:
    (folder / where).chmod(mode)
    assert "can be written to by others" in refused(folder, folder / "a" / "b" / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("where", ["", "a", "a/b"])
def test_a_folder_of_somebody_else_is_refused(folder: Path, where: str) -> None:
    os.chown(folder / where, 54321, -1)
    assert "can be written to by others" in refused(folder, folder / "a" / "b" / "file")


@pytest.mark.parametrize("name", ["missing/file", "plain/file"])
def test_a_way_that_is_no_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "plain").touch()
    assert "is no folder" in refused(folder, folder / name)


def test_a_missing_exchange_directory_is_told(folder: Path) -> None:
    assert "No such file" in refused(folder / "missing", folder / "missing" / "file")


# --- files that are there ---


def test_a_file_that_is_there_is_found_and_one_that_is_not_is_told(folder: Path) -> None:
    exchange = Exchange([str(folder)])
    path = folder / "a" / "saved"
    assert exchange.existing_file(str(path)) is None
    path.touch(mode=0o600)
    assert exchange.existing_file(f"{folder}/a//saved") == str(path)


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "writable", "outside"])
def test_what_others_may_have_put_there_is_no_file_to_use(folder: Path, kind: str) -> None:
    path = folder / "saved"
    if kind == "link":
        (folder / "real").touch(mode=0o600)
        path.symlink_to(folder / "real")
    elif kind == "folder":
        path.mkdir(mode=0o700)
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    elif kind == "writable":
        path.touch()
        path.chmod(0o620)
    else:
        path = folder.parent / "saved"
        path.touch(mode=0o600)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(PathNotAllowed) as caught:
        Exchange([str(folder)]).existing_file(str(path))
    assert caught.value.path == str(path)
    assert len(os.listdir("/proc/self/fd")) == before
