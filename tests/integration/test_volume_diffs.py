"""Diffs between snapshots: the streams of the rbd command, verified, and all or nothing."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.conftest import Site
from tests.integration.datawork import (
    MiB,
    content,
    ended,
    job_error,
    names,
    parts,
    result_of,
    start,
    wait_until_moving,
)
from tests.integration.recorder import error_of
from tests.lab.stack import POOL

SIZE = 24 * MiB


def rbd_cli(site: Site, *arguments: str) -> None:
    subprocess.run(
        ["rbd", "-c", str(site.ceph.conf), *arguments, "--no-progress"],
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip


def change(site: Site, volume: str, seed: int) -> None:
    """Write here and there, discard, and take snapshot `s<seed>`."""
    chance = random.Random(seed)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, volume) as image:
        for _ in range(8):
            length = chance.choice((100, 4096, 70000, 5 * MiB))
            offset = chance.randrange(image.size() - length)
            if chance.random() < 0.3:
                image.write_zeroes(offset, length)
            else:
                image.write(chance.randbytes(length), offset)
        image.write(bytes(10000), 3 * MiB)
        image.create_snap(f"s{seed}")


@pytest.fixture
def chain(site: Site, name: str) -> str:
    """A volume with the snapshots s1 to s3, its size changed in between."""
    site.volume("create", name, size=SIZE)
    change(site, name, 1)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        image.resize(17 * MiB + 512)
    change(site, name, 2)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        image.resize(30 * MiB)
    change(site, name, 3)
    return name


STEPS = [(None, "s1"), ("s1", "s2"), ("s2", "s3")]


def export_all(site: Site, volume: str, folder: Path, **options: Any) -> list[Path]:
    paths = []
    for since, to in STEPS:
        paths.append(folder / f"{to}.diff")
        params = {"storageDomainID": site.storage_domain_id, "volumeName": volume, **options}
        params |= {"toSnapshot": to, "path": str(paths[-1])}
        if since is not None:
            params["fromSnapshot"] = since
        result_of(site, "exportDiff", **params)
    return paths


def test_the_stream_is_that_of_the_rbd_command_to_the_byte(
    site: Site, chain: str, folder: Path, tmp_path: Path
) -> None:
    for path, (since, to) in zip(export_all(site, chain, folder), STEPS, strict=True):
        options = [] if since is None else ["--from-snap", since]
        theirs = tmp_path / to
        rbd_cli(site, "export-diff", *options, f"{POOL}/{chain}@{to}", str(theirs))
        assert path.read_bytes() == theirs.read_bytes()


def test_our_streams_are_taken_by_the_rbd_command(site: Site, chain: str, folder: Path) -> None:
    other = f"{chain}-theirs"
    rbd_cli(site, "create", f"{POOL}/{other}", "--size", "24M")
    for path in export_all(site, chain, folder, manifest=False):
        rbd_cli(site, "import-diff", str(path), f"{POOL}/{other}")
    for _, snapshot in STEPS:
        assert content(site.ceph, other, snapshot) == content(site.ceph, chain, snapshot)
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("manifest", [True, False])
def test_a_chain_is_restored_step_by_step(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
    manifest: bool,
) -> None:
    other = f"{chain}-ours"
    for path in export_all(site, chain, folder, manifest=manifest):
        params = {**place, "volumeName": other, "path": str(path)}
        result_of(site, "importDiff", **params, **({"verify": True} if manifest else {}))
    for _, snapshot in STEPS:
        assert content(site.ceph, other, snapshot) == content(site.ceph, chain, snapshot)
    assert content(site.ceph, other) == content(site.ceph, chain)
    assert parts(site.ceph) == []


def test_streams_of_the_rbd_command_are_taken(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
) -> None:
    other = f"{chain}-ours"
    for since, to in STEPS:
        options = [] if since is None else ["--from-snap", since]
        rbd_cli(site, "export-diff", *options, f"{POOL}/{chain}@{to}", str(folder / to))
        result_of(site, "importDiff", **place, volumeName=other, path=str(folder / to))
    for _, snapshot in STEPS:
        assert content(site.ceph, other, snapshot) == content(site.ceph, chain, snapshot)


def test_merged_diffs_come_to_the_same_and_are_verified(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
    tmp_path: Path,
) -> None:
    paths = export_all(site, chain, folder)
    merged = folder / "merged.diff"
    told = result_of(site, "mergeDiffs", paths=[str(p) for p in paths], path=str(merged))
    assert told["path"] == str(merged)
    other, theirs = f"{chain}-ours", f"{chain}-theirs"
    result_of(site, "importDiff", **place, volumeName=other, path=str(merged), verify=True)
    assert content(site.ceph, other, "s3") == content(site.ceph, chain, "s3")
    rbd_cli(site, "create", f"{POOL}/{theirs}", "--size", "24M")
    rbd_cli(site, "import-diff", str(merged), f"{POOL}/{theirs}")
    assert content(site.ceph, theirs, "s3") == content(site.ceph, chain, "s3")
    # On the way back from a later one: two merged, onto the first.
    later = folder / "later.diff"
    result_of(site, "mergeDiffs", paths=[str(p) for p in paths[1:]], path=str(later))
    again = f"{chain}-again"
    for path in (paths[0], later):
        result_of(site, "importDiff", **place, volumeName=again, path=str(path), verify=True)
    assert content(site.ceph, again) == content(site.ceph, chain)


# --- what does not fit ---


def test_a_diff_of_the_wrong_base_changes_nothing(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
) -> None:
    first, second, third = export_all(site, chain, folder)
    other = f"{chain}-ours"
    params = {**place, "volumeName": other}
    assert error_of(site.call, "Volume.importDiff", **params, path=str(second)).name == (
        "NoSuchVolume"
    )
    result_of(site, "importDiff", **params, path=str(first))
    assert error_of(site.call, "Volume.importDiff", **params, path=str(first)).name == (
        "VolumeExists"
    )
    before = content(site.ceph, other)
    error = error_of(site.call, "Volume.importDiff", **params, path=str(third))
    assert (error.name, "s2" in error.message) == ("DiffMismatch", True)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, other) as image:
        image.write(b"mine", 12345)
    changed = content(site.ceph, other)
    assert changed != before
    facts = job_error(site, "importDiff", **params, path=str(second))
    assert (facts["error"], "changed since" in facts["reason"]) == ("DiffMismatch", True)
    # What was written since is kept, under its name.
    assert content(site.ceph, other) == changed
    assert parts(site.ceph) == []


def test_another_volumes_diff_is_refused_though_its_snapshots_are_called_the_same(
    site: Site, place: dict[str, Any], name: str, folder: Path
) -> None:
    """Where whole blocks are written anew, what they come to is right whatever was there before."""
    for number, volume in enumerate((name, f"{name}-b")):
        site.volume("create", volume, size=16 * MiB)
        with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, volume) as image:
            image.write(bytes([number + 1]) * 64, 12 * MiB)
            image.create_snap("s1")
            image.write(bytes([number + 3]) * 4 * MiB, 0)
            image.create_snap("s2")
        for since, to in (({}, "s1"), ({"fromSnapshot": "s1"}, "s2")):
            path = str(folder / f"{number}-{to}")
            params = {**place, "volumeName": volume, "toSnapshot": to, "path": path}
            result_of(site, "exportDiff", **params, **since)
    restored = {**place, "volumeName": f"{name}-ours"}
    result_of(site, "importDiff", **restored, path=str(folder / "0-s1"))
    before = content(site.ceph, f"{name}-ours")
    facts = job_error(site, "importDiff", **restored, path=str(folder / "1-s2"))
    assert (facts["error"], f"volume {name}-b" in facts["reason"]) == ("DiffMismatch", True)
    assert content(site.ceph, f"{name}-ours") == before
    # The volume was renamed since, or moved: it is the same all the same.
    site.volume("rename", name, newName=f"{name}-new")
    result_of(site, "importDiff", **restored, path=str(folder / "0-s2"))
    assert content(site.ceph, f"{name}-ours") == content(site.ceph, f"{name}-new")


def test_a_snapshot_that_is_there_and_a_volume_in_use_are_told(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
) -> None:
    first, second, _ = export_all(site, chain, folder)
    params = {**place, "volumeName": f"{chain}-ours"}
    result_of(site, "importDiff", **params, path=str(first))
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, f"{chain}-ours"):
        error = error_of(site.call, "Volume.importDiff", **params, path=str(second))
        assert error.name == "VolumeInUse"
    result_of(site, "importDiff", **params, path=str(second))
    error = error_of(site.call, "Volume.importDiff", **params, path=str(second))
    assert error.name == "SnapshotExists"


@pytest.mark.parametrize("damage", ["manifest", "stream", "short"])
def test_what_is_damaged_is_found_and_the_volume_is_as_before(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
    damage: str,
) -> None:
    first, second, _ = export_all(site, chain, folder)
    params = {**place, "volumeName": f"{chain}-ours"}
    result_of(site, "importDiff", **params, path=str(first))
    before = content(site.ceph, f"{chain}-ours")
    manifest = folder / "s2.diff.manifest"
    if damage == "manifest":
        head, block, *rest = manifest.read_text().splitlines(keepends=True)
        number, _digest = json.loads(block)
        manifest.write_text(head + json.dumps([number, "0" * 64]) + "\n" + "".join(rest))
    elif damage == "stream":
        raw = bytearray(second.read_bytes())
        raw[len(raw) // 2] ^= 1
        second.write_bytes(raw)
    else:
        second.write_bytes(second.read_bytes()[:-1])
    facts = job_error(site, "importDiff", **params, path=str(second))
    assert facts["error"] == ("BadDiff" if damage == "short" else "DiffMismatch")
    assert content(site.ceph, f"{chain}-ours") == before
    listed = site.volume("listSnapshots", f"{chain}-ours")
    assert [s["snapshotName"] for s in listed] == ["s1"]
    assert parts(site.ceph) == []


@pytest.mark.parametrize("text", [b"", b"no diff at all", b"rbd diff v2\n" + bytes(40)])
def test_what_is_no_diff_is_refused_at_once(
    site: Site,
    place: dict[str, Any],
    name: str,
    folder: Path,
    text: bytes,
) -> None:
    path = folder / "x"
    path.write_bytes(text)
    params = {**place, "volumeName": name, "path": str(path)}
    assert error_of(site.call, "Volume.importDiff", **params).name == "BadDiff"
    params = {"paths": [str(path), str(path)], "path": str(folder / "y")}
    assert error_of(site.call, "Volume.mergeDiffs", **params).name == "BadDiff"
    assert not (folder / "y").exists()


def test_diffs_that_do_not_follow_each_other_are_not_merged(
    site: Site, chain: str, folder: Path
) -> None:
    first, _, third = export_all(site, chain, folder)
    target = folder / "merged"
    facts = job_error(site, "mergeDiffs", paths=[str(first), str(third)], path=str(target))
    assert facts["error"] == "BadDiff"
    assert not target.exists()
    assert not [p for p in folder.iterdir() if p.name.startswith(".")]
    error = error_of(site.call, "Volume.mergeDiffs", paths=[str(first)], path=str(target))
    assert (error.name, error.data["field"]) == ("InvalidParameter", "paths")


def test_missing_files_and_manifests_and_taken_names_are_told(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
) -> None:
    params = {**place, "volumeName": f"{chain}-ours"}
    (first, *_) = export_all(site, chain, folder, manifest=False)
    nosuch = str(folder / "nosuch")
    assert error_of(site.call, "Volume.importDiff", **params, path=nosuch).name == "NoSuchFile"
    error = error_of(site.call, "Volume.importDiff", **params, path=str(first), verify=True)
    assert (error.name, error.data["path"]) == ("NoSuchFile", f"{first}.manifest")
    merge = {"paths": [str(first), nosuch], "path": str(folder / "m")}
    assert error_of(site.call, "Volume.mergeDiffs", **merge).name == "NoSuchFile"
    merge = {"paths": [str(first), str(first)], "path": str(first)}
    assert error_of(site.call, "Volume.mergeDiffs", **merge).name == "PathExists"
    export = {**place, "volumeName": chain, "toSnapshot": "s1", "path": str(first)}
    assert error_of(site.call, "Volume.exportDiff", **export).name == "PathExists"
    for path in ("/etc/x", f"{folder}/../../x"):
        for verb, more in (
            ("exportDiff", {**export, "path": path}),
            ("importDiff", {**params, "path": path}),
            ("mergeDiffs", {**merge, "paths": [path, path]}),
        ):
            assert error_of(site.call, f"Volume.{verb}", **more).name == "PathNotAllowed"


def test_snapshots_in_the_wrong_order_or_missing_are_told(
    site: Site,
    place: dict[str, Any],
    chain: str,
    folder: Path,
) -> None:
    params = {**place, "volumeName": chain, "path": str(folder / "x")}
    error = error_of(site.call, "Volume.exportDiff", **params, fromSnapshot="s2", toSnapshot="s1")
    assert (error.name, error.data["field"]) == ("InvalidParameter", "fromSnapshot")
    error = error_of(site.call, "Volume.exportDiff", **params, toSnapshot="nosuch")
    assert error.name == "NoSuchSnapshot"


def test_an_import_that_is_aborted_leaves_the_volume_as_it_was(
    site: Site,
    place: dict[str, Any],
    name: str,
    folder: Path,
) -> None:
    site.volume("create", name, size=SIZE)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        image.create_snap("s1")
        image.write(random.Random(1).randbytes(SIZE), 0)
        image.create_snap("s2")
    path = str(folder / "x")
    params = {**place, "volumeName": name}
    result_of(site, "exportDiff", **params, fromSnapshot="s1", toSnapshot="s2", path=path)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        image.rollback_to_snap("s1")
        image.remove_snap("s2")
        image.metadata_set("conf_rbd_qos_bps_limit", str(2 * MiB))
    before = content(site.ceph, name)
    job = start(site, "importDiff", **params, path=path)
    wait_until_moving(site, job)
    assert name not in names(site.ceph)
    site.call("Job.abort", jobUUID=job)
    assert ended(site, job)["status"] == "aborted"
    assert content(site.ceph, name) == before
    assert [s["snapshotName"] for s in site.volume("listSnapshots", name)] == ["s1"]
    assert parts(site.ceph) == []
