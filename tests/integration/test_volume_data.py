"""Volumes copied, moved, flattened, exported and imported: the same bytes, whoever looks."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.conftest import Site, domain_settings
from tests.integration.datawork import (
    MiB,
    content,
    digest_of,
    ended,
    ended_well,
    names,
    parts,
    remove_if_there,
    result_of,
    start,
    trash,
    used,
    wait_until_moving,
    wait_until_some_is_moved,
)
from tests.integration.filled import SIZE
from tests.integration.recorder import error_of
from tests.lab.ceph import CephCluster
from tests.lab.guest import Guest
from tests.lab.stack import POOL, POOL2
from virtceph.client import ServerError

# --- copies ---


def test_a_copy_has_the_same_bytes_and_no_more_objects(
    site: Site, place: dict[str, Any], filled: str
) -> None:
    told = result_of(site, "copy", **place, volumeName=filled, newName=f"{filled}-copy")
    assert content(site.ceph, f"{filled}-copy") == content(site.ceph, filled)
    # Zeros that were written are no data of the copy.
    assert used(site.ceph, f"{filled}-copy") < used(site.ceph, filled)
    assert (told["size"], told["volumeName"]) == (SIZE, f"{filled}-copy")
    info = site.volume("getInfo", f"{filled}-copy")
    assert info["features"] == site.volume("getInfo", filled)["features"]
    assert "parent" not in info
    assert parts(site.ceph) == []


def test_a_copy_of_a_copy_is_nobodys_job_again(
    site: Site, place: dict[str, Any], filled: str
) -> None:
    """The note of the job is copied along by librbd, and is not taken for the copy's own."""
    job = start(site, "copy", **place, volumeName=filled, newName=f"{filled}-1")
    ended_well(site, job)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, f"{filled}-1") as image:
        image.copy(ioctx, f"{filled}-2")
    site.call("Job.delete", jobUUID=job)
    params = {**place, "volumeName": filled, "newName": f"{filled}-2", "jobUUID": job}
    assert error_of(site.call, "Volume.copy", **params).name == "VolumeExists"


def test_a_copy_repeated_after_its_job_was_forgotten_finds_what_it_made(
    site: Site, place: dict[str, Any], filled: str
) -> None:
    params = {**place, "volumeName": filled, "newName": f"{filled}-copy"}
    job = start(site, "copy", **params)
    ended_well(site, job)
    # As after a restart of the daemon, whose memory jobs are.
    site.call("Job.delete", jobUUID=job)
    assert site.call("Volume.copy", **params, jobUUID=job) is True
    assert ended(site, job)["result"]["volumeName"] == f"{filled}-copy"
    other = {**params, "jobUUID": str(uuid.uuid4())}
    assert error_of(site.call, "Volume.copy", **other).name == "VolumeExists"


def test_a_copy_with_snapshots_has_each_as_it_was(
    site: Site, place: dict[str, Any], filled: str, second: dict[str, Any]
) -> None:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
        image.create_snap("s1")
        image.write(b"x" * 10000, 20 * MiB + 7)
        image.discard(24 * MiB, 2 * MiB)
        image.resize(20 * MiB)
        image.create_snap("s2")
        image.protect_snap("s2")
        image.resize(60 * MiB)
        image.write(b"y" * 5000, 55 * MiB)
        image.create_snap("s3")
        image.write(bytes(5000), 55 * MiB)
    site.volume("createSnapshot", filled, snapshotName="s4")
    told = result_of(site, "copy", **place, **second, volumeName=filled, withSnapshots=True)
    assert told["snapshots"] == 4
    for snapshot in ("s1", "s2", "s3", "s4", None):
        ours = content(site.ceph, filled, snapshot)
        assert content(site.ceph, filled, snapshot, POOL2) == ours, snapshot
    there = {"storageDomainID": second["newStorageDomainID"], "volumeName": filled}
    listed = site.call("Volume.listSnapshots", **there)
    assert [s["snapshotName"] for s in listed] == ["s1", "s2", "s3", "s4"]
    error = error_of(site.call, "Volume.deleteSnapshot", **there, snapshotName="s2")
    assert error.name == "SnapshotProtected"
    assert error_of(site.call, "Volume.copy", **place, **second, volumeName=filled).name == (
        "VolumeExists"
    )


def test_a_copy_up_to_a_snapshot_has_nothing_of_later(
    site: Site, place: dict[str, Any], filled: str
) -> None:
    for snapshot in ("s1", "s2"):
        site.volume("createSnapshot", filled, snapshotName=snapshot)
        with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
            image.write(snapshot.encode() * 100, 0)
    params = {**place, "volumeName": filled, "newName": f"{filled}-1", "snapshotName": "s1"}
    result_of(site, "copy", **params)
    assert content(site.ceph, f"{filled}-1") == content(site.ceph, filled, "s1")
    params |= {"newName": f"{filled}-2", "snapshotName": "s2", "withSnapshots": True}
    assert result_of(site, "copy", **params)["snapshots"] == 2
    assert content(site.ceph, f"{filled}-2") == content(site.ceph, filled, "s2")
    params |= {"snapshotName": "nosuch", "newName": f"{filled}-3", "jobUUID": str(uuid.uuid4())}
    assert error_of(site.call, "Volume.copy", **params).name == "NoSuchSnapshot"


def test_a_copy_of_a_clone_needs_no_parent(site: Site, place: dict[str, Any], filled: str) -> None:
    with site.ceph.pool(POOL) as ioctx:
        with rbd.Image(ioctx, filled) as image:
            image.create_snap("base")
            image.protect_snap("base")
        clone = f"{filled}-clone"
        rbd.RBD().clone(ioctx, filled, "base", ioctx, clone)
        with rbd.Image(ioctx, clone) as image:
            image.write(b"mine" * 100, 21 * MiB)
        result_of(site, "copy", **place, volumeName=clone, newName=f"{filled}-whole")
        assert content(site.ceph, f"{filled}-whole") == content(site.ceph, clone)
        with rbd.Image(ioctx, f"{filled}-whole") as image, pytest.raises(rbd.ImageNotFound):
            image.get_parent_image_spec()
        remove_if_there(ioctx, clone)


def test_a_copy_goes_to_another_cluster(
    site: Site, place: dict[str, Any], filled: str, other_cluster: dict[str, Any]
) -> None:
    ceph = other_cluster.pop("ceph")
    site.volume("createSnapshot", filled, snapshotName="s1")
    result_of(site, "copy", **place, **other_cluster, volumeName=filled, withSnapshots=True)
    for snapshot in ("s1", None):
        assert content(ceph, filled, snapshot) == content(site.ceph, filled, snapshot)


@pytest.fixture(scope="module")
def other_cluster(lab_state: Path, site: Site) -> Iterator[dict[str, Any]]:
    from tests.integration.conftest import secret_info
    from tests.lab.stack import CEPH_USER
    from virtceph.sensitive import Sensitive

    ceph = CephCluster.start(lab_state / "ceph-other")
    ceph.create_pool(POOL)
    secret = secret_info(uuid.uuid4(), Sensitive(b""))
    secret["password"] = ceph.create_user(CEPH_USER)
    site.call("Host.registerSecrets", secrets=[secret])
    settings = domain_settings(
        site, storageDomainID=uuid.uuid4(), monitors=ceph.monitors, secretUUID=secret["uuid"]
    )
    site.call("StorageDomain.connect", **settings)
    yield {"newStorageDomainID": settings["storageDomainID"], "ceph": ceph}
    site.call("Host.unregisterSecrets", uuids=[secret["uuid"]])
    ceph.stop()


def test_a_running_vms_disk_is_copied_as_of_one_moment_and_left_as_it_was(
    site: Site, place: dict[str, Any], vm: Guest, name: str
) -> None:
    before = site.volume("listSnapshots", "shared-a")
    result_of(site, "copy", **place, volumeName="shared-a", newName=name)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name, read_only=True) as image:
        # The guest's file system is there, and its journal tells what a power cut would have left.
        assert image.read(0x438, 2) == b"\x53\xef"
    assert site.volume("listSnapshots", "shared-a") == before
    vm.wait_for_agent()


def test_a_volume_that_is_written_to_under_the_copy_is_copied_as_of_one_moment_all_the_same(
    site: Site, place: dict[str, Any], filled: str, slow: Callable[..., Any], folder: Path
) -> None:
    path = folder / "disk.raw"
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled, read_only=True) as image:
        whole = bytearray(image.read(0, image.size()))
    moments = [hashlib.sha256(whole).hexdigest()]
    with slow(filled, 5 * MiB):
        params = {**place, "volumeName": filled}
        jobs = [
            start(site, "copy", **params, newName=f"{filled}-copy"),
            start(site, "export", **params, path=str(path)),
        ]
        for job in jobs:
            wait_until_some_is_moved(site, job)
        with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
            for data, offset in ((b"first", 0), (b"then", 23 * MiB)):
                image.write(data, offset)
                whole[offset : offset + len(data)] = data
                moments.append(hashlib.sha256(whole).hexdigest())
        for job in jobs:
            ended_well(site, job)
    # What had been read before the first write was not mixed with what came by the second.
    told = [digest_of(path), content(site.ceph, f"{filled}-copy").split()[1]]
    assert set(told) <= set(moments)
    assert site.volume("listSnapshots", filled) == []
    assert parts(site.ceph) == []


@pytest.mark.parametrize("method", ["copy", "move"])
def test_the_same_place_and_name_is_refused(
    site: Site, place: dict[str, Any], filled: str, method: str
) -> None:
    error = error_of(site.volume, method, filled)
    assert (error.code, error.data["field"]) == (91, "newName")
    taken = f"{filled}-taken"
    site.volume("create", taken, size=MiB)
    assert error_of(site.volume, method, filled, newName=taken).name == "VolumeExists"
    site.volume("delete", taken)


# --- moves ---


def test_a_move_takes_the_snapshots_along_and_leaves_nothing(
    site: Site, place: dict[str, Any], filled: str, second: dict[str, Any]
) -> None:
    site.volume("createSnapshot", filled, snapshotName="s1")
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
        image.write(b"later", 0)
    before = [content(site.ceph, filled, snapshot) for snapshot in ("s1", None)]
    result_of(site, "move", **place, **second, volumeName=filled)
    after = [content(site.ceph, filled, snapshot, POOL2) for snapshot in ("s1", None)]
    assert after == before
    assert filled not in names(site.ceph)
    assert filled not in trash(site.ceph)


def test_a_move_within_a_pool_is_a_new_name(site: Site, place: dict[str, Any], filled: str) -> None:
    before, ident = content(site.ceph, filled), site.volume("getInfo", filled)["id"]
    params = {**place, "volumeName": filled, "newName": f"{filled}-new"}
    job = str(uuid.uuid4())
    assert site.call("Volume.move", **params, jobUUID=job) is True
    ended_well(site, job)
    assert site.volume("getInfo", f"{filled}-new")["id"] == ident
    assert content(site.ceph, f"{filled}-new") == before
    assert filled not in names(site.ceph)
    again = result_of(site, "move", **params)
    assert (again["volumeName"], again["transferred"]) == (f"{filled}-new", 0)


def test_a_volume_in_use_or_with_clones_is_not_moved(
    site: Site, place: dict[str, Any], filled: str, second: dict[str, Any], vm: Guest
) -> None:
    error = error_of(site.volume, "move", "shared-a", **second)
    assert error.name == "VolumeInUse"
    with site.ceph.pool(POOL) as ioctx:
        with rbd.Image(ioctx, filled) as image:
            image.create_snap("base")
            image.protect_snap("base")
        rbd.RBD().clone(ioctx, filled, "base", ioctx, f"{filled}-clone")
    assert error_of(site.volume, "move", filled, **second).name == "OperationNotSupported"
    assert filled in names(site.ceph)


def test_a_volume_in_a_group_or_with_a_part_of_its_snapshot_is_not_moved(
    site: Site, place: dict[str, Any], filled: str, second: dict[str, Any]
) -> None:
    """The copy would be in no group, and librbd's purge stops at the part."""
    group = f"{filled}-group"
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().group_create(ioctx, group)
        made = rbd.Group(ioctx, group)
        made.add_image(ioctx, filled)
        told = error_of(site.volume, "move", filled, **second)
        assert (told.name, group in told.message) == ("OperationNotSupported", True)
        made.create_snap("nightly")
        made.remove_image(ioctx, filled)
        told = error_of(site.volume, "move", filled, **second)
        assert (told.name, "nightly" in told.message) == ("OperationNotSupported", True)
        # Where it stays in its pool, nothing of that is lost.
        result_of(site, "move", **place, volumeName=filled, newName=f"{filled}-new")
        result_of(site, "move", **place, volumeName=f"{filled}-new", newName=filled)
        rbd.RBD().group_remove(ioctx, group)
    result_of(site, "move", **place, **second, volumeName=filled)


def test_a_copy_keeps_its_data_where_the_volumes_are_unless_it_goes_to_another_pool(
    site: Site, place: dict[str, Any], name: str, second: dict[str, Any]
) -> None:
    site.volume("create", name, size=4 * MiB, dataPool=POOL2)
    result_of(site, "copy", **place, volumeName=name, newName=f"{name}-copy")
    assert site.volume("getInfo", f"{name}-copy")["dataPool"] == POOL2
    result_of(site, "copy", **place, **second, volumeName=name)
    there = {"storageDomainID": second["newStorageDomainID"], "volumeName": name}
    assert "dataPool" not in site.call("Volume.getInfo", **there)


def test_a_volume_that_is_opened_under_its_move_stays_where_it_was(
    site: Site,
    place: dict[str, Any],
    filled: str,
    second: dict[str, Any],
    slow: Callable[..., Any],
) -> None:
    before = content(site.ceph, filled)
    with slow(filled):
        job = start(site, "move", **place, **second, volumeName=filled)
        wait_until_moving(site, job)
        with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled):
            told = ended(site, job)
    assert told["error"]["data"]["error"] == "VolumeInUse"
    assert content(site.ceph, filled) == before
    assert filled not in names(site.ceph, POOL2)
    assert parts(site.ceph, POOL2) == []


def test_a_volume_that_is_written_to_under_its_move_keeps_what_was_written(
    site: Site,
    place: dict[str, Any],
    filled: str,
    second: dict[str, Any],
    slow: Callable[..., Any],
) -> None:
    with slow(filled):
        job = start(site, "move", **place, **second, volumeName=filled)
        wait_until_moving(site, job)
        with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
            image.write(b"changed", 0)
        told = ended(site, job)
    assert told["error"]["data"]["error"] == "VolumeChanged"
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
        assert image.read(0, 7) == b"changed"
    assert filled not in names(site.ceph, POOL2)


# --- flattening ---


def test_a_clone_is_flattened_and_again_and_its_bytes_stay(
    site: Site, place: dict[str, Any], filled: str
) -> None:
    clone = f"{filled}-clone"
    with site.ceph.pool(POOL) as ioctx:
        with rbd.Image(ioctx, filled) as image:
            image.create_snap("base")
            image.protect_snap("base")
        rbd.RBD().clone(ioctx, filled, "base", ioctx, clone)
        before = content(site.ceph, clone)
        for _ in range(2):
            result_of(site, "flatten", **place, volumeName=clone)
            with rbd.Image(ioctx, clone) as image, pytest.raises(rbd.ImageNotFound):
                image.get_parent_image_spec()
            assert content(site.ceph, clone) == before


# --- files ---


def rbd_export(site: Site, name: str, path: Path) -> None:
    subprocess.run(
        ["rbd", "-c", str(site.ceph.conf), "export", "--no-progress", f"{POOL}/{name}", str(path)],
        check=True,
        timeout=60,
    )


def test_an_export_is_what_the_rbd_command_exports(
    site: Site, place: dict[str, Any], filled: str, folder: Path, tmp_path: Path
) -> None:
    path = folder / "disk.raw"
    told = result_of(site, "export", **place, volumeName=filled, path=str(path), checksum=True)
    rbd_export(site, filled, tmp_path / "theirs")
    assert digest_of(path) == digest_of(tmp_path / "theirs") == told["sha256"]
    assert path.stat().st_blocks * 512 < SIZE / 2
    assert list(folder.iterdir()) == [path]


def test_a_snapshot_is_exported_as_it_was(
    site: Site, place: dict[str, Any], filled: str, folder: Path
) -> None:
    site.volume("createSnapshot", filled, snapshotName="s1")
    before = content(site.ceph, filled)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
        image.write(b"later", 0)
        image.resize(SIZE * 2)
    path = folder / "disk.raw"
    result_of(site, "export", **place, volumeName=filled, path=str(path), snapshotName="s1")
    assert f"{path.stat().st_size} {digest_of(path)}" == before


@pytest.mark.parametrize("snapshot", [None, "s1"])
def test_a_qcow2_holds_the_disk(
    site: Site, place: dict[str, Any], filled: str, folder: Path, snapshot: str | None
) -> None:
    params: dict[str, Any] = {**place, "volumeName": filled, "format": "qcow2"}
    path, raw = folder / "disk.qcow2", folder / "disk.raw"
    error = error_of(site.call, "Volume.export", **params, path=str(path))
    assert error.name == "OperationNotSupported"  # qemu-img aborts on odd sizes
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, filled) as image:
        image.resize(41 * MiB)
    if snapshot is not None:
        site.volume("createSnapshot", filled, snapshotName=snapshot)
        params["snapshotName"] = snapshot
    result_of(site, "export", **params, path=str(path))
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(path), str(raw)], check=True)
    assert f"{41 * MiB} {digest_of(raw)}" == content(site.ceph, filled)
    assert [s["snapshotName"] for s in site.volume("listSnapshots", filled)] == (
        [snapshot] if snapshot else []
    )


def test_an_import_is_what_was_exported_and_as_sparse(
    site: Site, place: dict[str, Any], filled: str, folder: Path
) -> None:
    path = folder / "disk.raw"
    told = result_of(site, "export", **place, volumeName=filled, path=str(path), checksum=True)
    new = f"{filled}-new"
    back = result_of(site, "import", **place, volumeName=new, path=str(path), checksum=True)
    assert back["sha256"] == told["sha256"]
    # A disk has whole sectors.
    assert back["size"] == -(-SIZE // 512) * 512
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, new) as image:
        assert image.read(SIZE, back["size"] - SIZE) == bytes(back["size"] - SIZE)
        image.resize(SIZE)
    assert content(site.ceph, new) == content(site.ceph, filled)
    assert used(site.ceph, new) <= used(site.ceph, filled)


def test_a_qcow2_is_imported(
    site: Site, place: dict[str, Any], name: str, folder: Path, tmp_path: Path
) -> None:
    raw, path = tmp_path / "raw", folder / "disk.qcow2"
    raw.write_bytes(random.Random(1).randbytes(9 * MiB) + bytes(5 * MiB) + b"end" + bytes(509))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "-c", str(raw), str(path)], check=True)
    params = {**place, "volumeName": name, "path": str(path), "format": "qcow2"}
    told = result_of(site, "import", **params, objectSize=MiB)
    assert content(site.ceph, name) == f"{raw.stat().st_size} {digest_of(raw)}"
    assert (told["size"], site.volume("getInfo", name)["objectSize"]) == (raw.stat().st_size, MiB)


FOREIGN = {
    "backing": ["-b", "/etc/hostname", "-F", "raw"],
    "data file": ["-o", "data_file={folder}/other.raw"],
    "encrypted": [
        "--object", "secret,id=s,data=abc", "-o", "encrypt.format=aes,encrypt.key-secret=s",
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_qcow2_that_needs_another_file_or_a_key_is_refused_unread(
    site: Site, place: dict[str, Any], name: str, folder: Path, kind: str
) -> None:
    path = folder / "disk.qcow2"
    options = [word.format(folder=folder) for word in FOREIGN[kind]]
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", *options, str(path), "10M"], check=True
    )
    params = {**place, "volumeName": name, "path": str(path), "format": "qcow2"}
    error = error_of(site.call, "Volume.import", **params)
    assert error.name == "BadImageFile"
    assert parts(site.ceph) == []


@pytest.mark.parametrize(
    ("format_", "text"), [("raw", b""), ("qcow2", b"QFI\xfb"), ("qcow2", b"x" * MiB)]
)
def test_what_is_no_image_is_refused(
    site: Site, place: dict[str, Any], name: str, folder: Path, format_: str, text: bytes
) -> None:
    (folder / "file").write_bytes(text)
    params = {**place, "volumeName": name, "path": str(folder / "file"), "format": format_}
    assert error_of(site.call, "Volume.import", **params).name == "BadImageFile"


def test_a_qcow2_that_is_cut_short_leaves_no_volume(
    site: Site, place: dict[str, Any], name: str, folder: Path, tmp_path: Path
) -> None:
    raw, path = tmp_path / "raw", folder / "disk.qcow2"
    raw.write_bytes(os.urandom(9 * MiB))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(path)], check=True)
    with path.open("r+b") as file:
        file.truncate(300 * 1024)
    params = {**place, "volumeName": name, "path": str(path), "format": "qcow2"}
    told = ended(site, start(site, "import", **params))
    assert told["status"] == "failed"
    assert told["error"]["data"]["error"] in ("BadImageFile", "ConversionFailed")
    assert name not in names(site.ceph)
    assert parts(site.ceph) == []


@pytest.mark.parametrize("method", ["export", "import"])
def test_paths_are_only_taken_under_the_exchange_directory(
    site: Site, filled: str, folder: Path, method: str
) -> None:
    (folder / "link").symlink_to("/etc")
    for path in ("/etc/hostname", f"{folder}/link/hostname", f"{folder}/../../x"):
        name = filled if method == "export" else f"{filled}-new"
        assert error_of(site.volume, method, name, path=path).name == "PathNotAllowed"


def test_a_file_that_is_there_is_never_overwritten_and_one_that_is_not_is_told(
    site: Site, filled: str, folder: Path
) -> None:
    (folder / "mine").write_text("mine")
    error = error_of(site.volume, "export", filled, path=str(folder / "mine"))
    assert error.name == "PathExists"
    assert (folder / "mine").read_text() == "mine"
    error = error_of(site.volume, "import", f"{filled}-new", path=str(folder / "nosuch"))
    assert error.name == "NoSuchFile"
    error = error_of(site.volume, "import", filled, path=str(folder / "mine"))
    assert error.name == "VolumeExists"


def test_a_checksum_is_told_of_raw_files_only(site: Site, filled: str, folder: Path) -> None:
    params = {"path": str(folder / "x"), "format": "qcow2", "checksum": True}
    error = error_of(site.volume, "export", filled, **params)
    assert (error.name, error.data["field"]) == ("InvalidParameter", "checksum")


# --- jobs ---


def test_a_job_tells_how_far_it_is_and_is_aborted_without_a_trace(
    site: Site, place: dict[str, Any], filled: str, slow: Callable[..., Any]
) -> None:
    with slow(filled, MiB):
        job = start(site, "copy", **place, volumeName=filled, newName=f"{filled}-copy")
        wait_until_moving(site, job)
        told = site.call("Host.getJobs", job_ids=[job])[job]
        assert (told["status"], told["step"], told["job_type"]) == ("running", "copying", "storage")
        assert 0 <= told["bytesDone"] <= told["bytesTotal"] <= SIZE
        assert 0 <= told["progress"] < 100
        assert error_of(site.call, "Job.delete", jobUUID=job).name == "JobNotDone"
        began_s = time.monotonic()
        assert site.call("Job.abort", jobUUID=job) is True
        assert site.call("Job.abort", jobUUID=job) is True
        assert ended(site, job, 45)["status"] == "aborted"
        assert time.monotonic() - began_s < 45
    assert error_of(site.call, "Job.abort", jobUUID=job).name == "JobNotActive"
    assert parts(site.ceph) == []
    assert f"{filled}-copy" not in names(site.ceph)
    assert site.call("Job.delete", jobUUID=job) is True
    assert error_of(site.call, "Job.delete", jobUUID=job).name == "NoSuchJob"
    assert error_of(site.call, "Job.abort", jobUUID=job).name == "NoSuchJob"


def test_a_job_tells_more_and_more_bytes_until_all_are_done(
    site: Site, place: dict[str, Any], filled: str, slow: Callable[..., Any]
) -> None:
    told: list[int] = []
    with slow(filled, 16 * MiB):
        job = start(site, "copy", **place, volumeName=filled, newName=f"{filled}-copy")
        while (now := site.call("Host.getJobs", job_ids=[job])[job])["status"] == "running":
            told.append(now.get("bytesDone", 0))
    assert now["status"] == "done", now
    assert told == sorted(told)
    assert now["bytesDone"] == now["bytesTotal"] == now["result"]["transferred"] >= max(told)


def test_a_snapshot_job_is_not_aborted(site: Site, vm: Guest) -> None:
    job = str(uuid.uuid4())
    site.call("VM.createConsistentSnapshot", vmID=vm.uuid, snapshotName="unstoppable", jobUUID=job)
    assert error_of(site.call, "Job.abort", jobUUID=job).name == "JobNotAbortable"
    ended_well(site, job)
    site.call("VM.deleteConsistentSnapshot", vmID=vm.uuid, snapshotName="unstoppable")


STARTERS = ("copy", "move", "flatten", "export", "import", "exportDiff", "importDiff", "mergeDiffs")


@pytest.mark.parametrize("method", STARTERS)
def test_a_job_id_of_other_arguments_is_refused(
    site: Site, place: dict[str, Any], filled: str, method: str, folder: Path
) -> None:
    job = start(site, "flatten", **place, volumeName=filled)
    ended(site, job)
    params: dict[str, Any] = {"path": str(folder / "x")}
    if method != "mergeDiffs":
        params |= {**place, "volumeName": "another"}
    if method in ("copy", "move", "flatten"):
        del params["path"]
    params |= {"exportDiff": {"toSnapshot": "x"}, "mergeDiffs": {"paths": ["/a", "/b"]}}.get(
        method, {}
    )
    error = error_of(site.call, f"Volume.{method}", **params, jobUUID=job)
    assert error.name == "JobExists"


def test_a_wrong_user_may_not(site: Site, filled: str) -> None:
    with pytest.raises(ServerError):
        site.volume("copy", filled, newName="x", snapshotName="nosuch")
