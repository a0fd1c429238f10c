"""Jobs that move data and end badly: why is told, and nothing half is left."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.conftest import Site
from tests.integration.datawork import (
    MiB,
    ended,
    job_error,
    names,
    parts,
    start,
    wait_until_moving,
)
from tests.integration.recorder import error_of
from tests.integration.stall import stalled
from tests.integration.test_storage import NAMES_ONLY, PROBE_ONLY
from tests.integration.volumes import connected, set_quota
from tests.lab.guest import Guest
from tests.lab.stack import POOL, POOL2


def test_a_user_that_may_not_write_to_the_target_is_told_by_the_job(
    site: Site, place: dict[str, Any], filled: str, connect_as: Callable[..., Any]
) -> None:
    target = connect_as(PROBE_ONLY.replace("pool=rbd", f"pool={POOL2}"), pool=POOL2)
    params = {**place, "volumeName": filled, "newStorageDomainID": target}
    facts = job_error(site, "copy", **params)
    assert facts["error"] == "CephPermissionDenied"
    assert filled not in names(site.ceph, POOL2)


def test_a_copy_that_nobody_may_begin_is_told_at_once(
    site: Site, filled: str, folder: Path, connect_as: Callable[..., Any]
) -> None:
    named = {"storageDomainID": connect_as(NAMES_ONLY), "volumeName": filled}
    more: dict[str, dict[str, Any]] = {
        "copy": {"newName": "x"},
        "move": {"newName": "x"},
        "flatten": {},
        "export": {"path": str(folder / "x")},
        "exportDiff": {"path": str(folder / "x"), "toSnapshot": "x"},
    }
    for method, params in more.items():
        error = error_of(site.call, f"Volume.{method}", **named, **params)
        assert error.name == "CephPermissionDenied", method
    (folder / "in").write_bytes(bytes(512))
    params = {"path": str(folder / "in")}
    error = error_of(site.call, "Volume.import", **named, **params)
    assert error.name == "CephPermissionDenied"
    diff = b"rbd diff v1\n" + b"f" + (1).to_bytes(4, "little") + b"a"
    diff += b"s" + (512).to_bytes(8, "little") + b"e"
    (folder / "diff").write_bytes(diff)
    error = error_of(site.call, "Volume.importDiff", **named, path=str(folder / "diff"))
    assert error.name == "CephPermissionDenied"


def test_a_pool_that_gets_full_under_a_copy_is_told_and_holds_nothing_half(
    site: Site, place: dict[str, Any], filled: str, slow: Callable[..., Any]
) -> None:
    pool = "tiny"
    site.ceph.create_pool(pool)
    with connected(site, pool=pool) as domain, slow(filled, MiB):
        params = {**place, "volumeName": filled, "newStorageDomainID": domain}
        job = start(site, "copy", **params)
        wait_until_moving(site, job)
        set_quota(site.ceph, pool, MiB)
        try:
            told = ended(site, job, 120)
        finally:
            set_quota(site.ceph, pool, 0)
    assert told["status"] == "failed", told
    assert (told["error"]["data"]["error"], told["error"]["data"]["pools"]) == ("PoolFull", [pool])
    assert names(site.ceph, pool) == []


def test_a_name_that_is_taken_under_a_copy_stays_with_who_took_it(
    site: Site, place: dict[str, Any], filled: str, slow: Callable[..., Any]
) -> None:
    taken = f"{filled}-taken"
    with slow(filled):
        job = start(site, "copy", **place, volumeName=filled, newName=taken)
        wait_until_moving(site, job)
        site.volume("create", taken, size=MiB)
        told = ended(site, job)
    assert told["error"]["data"]["error"] == "VolumeExists"
    assert site.volume("getInfo", taken)["size"] == MiB
    assert parts(site.ceph) == []


@pytest.mark.parametrize("method", ["copy", "flatten"])
def test_a_stalled_vms_disk_is_given_up_and_not_taken_from_it(
    site: Site,
    place: dict[str, Any],
    name: str,
    make_guest: Callable[..., Guest],
    make_image: Callable[..., Any],
    method: str,
) -> None:
    disk = make_image(keep=True)
    with site.ceph.pool(POOL) as ioctx:
        # The guest's disk is a clone of what it was made as.
        rbd.RBD().rename(ioctx, disk.image, name)
        with rbd.Image(ioctx, name) as image:
            image.create_snap("base")
            image.protect_snap("base")
        rbd.RBD().clone(ioctx, name, "base", ioctx, disk.image)
    guest = make_guest(disks=[disk])
    guest.wait_for_agent()
    guest.wait_for_records(3)
    before = site.volume("getInfo", disk.image)
    more = {"newName": f"{name}-copy"} if method == "copy" else {}
    with stalled(guest):
        facts = job_error(site, method, **place, volumeName=disk.image, **more)
        assert (facts["error"], facts["retry"]) == ("LockOwnerStalled", True)
    guest.wait_for_records(5)
    after = site.volume("getInfo", disk.image)
    assert (after["lockOwner"], after["parent"]) == (before["lockOwner"], before["parent"])
    assert parts(site.ceph) == []
    assert f"{name}-copy" not in names(site.ceph)
    guest.destroy()
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().remove(ioctx, disk.image)


def test_a_qcow2_whose_compressed_data_are_damaged_leaves_no_volume(
    site: Site, place: dict[str, Any], name: str, folder: Path, tmp_path: Path
) -> None:
    """Its tables are right, so that only whoever unpacks it finds that."""
    raw, path = tmp_path / "raw", folder / "disk.qcow2"
    raw.write_bytes(os.urandom(4096).hex().encode() * 1024)
    subprocess.run(["qemu-img", "convert", "-c", "-O", "qcow2", str(raw), str(path)], check=True)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * (64 << 10))
    subprocess.run(["qemu-img", "check", "-q", str(path)], check=True)
    facts = job_error(site, "import", **place, volumeName=name, path=str(path), format="qcow2")
    assert facts["error"] == "ConversionFailed"
    assert name not in names(site.ceph)
    assert parts(site.ceph) == []


def test_a_data_pool_that_is_not_there_is_told_by_the_job(
    site: Site, place: dict[str, Any], name: str, folder: Path
) -> None:
    (folder / "disk").write_bytes(bytes(512))
    params = {"volumeName": name, "path": str(folder / "disk"), "dataPool": "nosuch"}
    facts = job_error(site, "import", **place, **params)
    assert (facts["error"], facts["pool"]) == ("NoSuchPool", "nosuch")
    assert name not in names(site.ceph)
    assert parts(site.ceph) == []


def test_a_snapshot_that_is_not_there_is_not_exported(
    site: Site, filled: str, folder: Path
) -> None:
    params = {"path": str(folder / "x"), "snapshotName": "nosuch"}
    assert error_of(site.volume, "export", filled, **params).name == "NoSuchSnapshot"
    assert list(folder.iterdir()) == []
