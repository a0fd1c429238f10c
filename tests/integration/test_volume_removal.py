"""Volume.delete and what is in its way, the trash, and evict on the real cluster, checked against `rbd`."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import rados
import rbd

from tests.faults.waiting import until
from tests.integration.conftest import Rough, Site, remove_if_there
from tests.integration.recorder import error_of
from tests.integration.stall import qemu_pid, stalled
from tests.integration.test_storage import NAMES_ONLY, PROBE_ONLY
from tests.integration.volumes import (
    blocklisted,
    connected,
    dead_owner,
    image_id,
    opened,
    orphan_lock,
    rbd_cli,
    rbd_do,
)
from tests.lab.guest import Guest
from tests.lab.stack import POOL, POOL2
from virtceph.client import ServerError

ConnectAs = Callable[..., Any]


def names(site: Site, pool: str = POOL) -> list[str]:
    with site.ceph.pool(pool) as ioctx:
        return list(rbd.RBD().list(ioctx))


def steps(site: Site, name: str) -> list[tuple[str, bool]]:
    plan = site.volume("explainDelete", name)
    assert plan["stepCount"] == len(plan["steps"])
    assert plan["deletable"] == (not plan["steps"])
    return [(step["obstacle"], step["forced"]) for step in plan["steps"]]


def refused(site: Site, name: str, *, force: bool = True) -> Any:
    """The error of a deletion that has to leave everything as it is."""
    before = site.volume("getInfo", name)
    error = error_of(site.volume, "delete", name, force=force)
    # A VM that has it open writes on.
    assert {**site.volume("getInfo", name), "used": 0} == {**before, "used": 0}
    commands = [step["command"] for step in site.volume("explainDelete", name)["steps"]]
    assert [step.rpartition(": ")[2] for step in error.data["steps"]] == commands
    return error


def watchers(site: Site, ident: str) -> list[Any]:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image_id=ident, read_only=True) as image:
        return list(image.watchers_list())


def entries(site: Site) -> dict[str, Any]:
    listed = site.call("Volume.listTrash", storageDomainID=site.storage_domain_id)
    return {entry["volumeName"]: entry for entry in listed}


def purge(site: Site, **more: Any) -> Any:
    return site.call("Volume.purge", storageDomainID=site.storage_domain_id, **more)


def restore(site: Site, **more: Any) -> Any:
    return site.call("Volume.restore", storageDomainID=site.storage_domain_id, **more)


@pytest.fixture(autouse=True)
def empty_trash(site: Site) -> Iterator[None]:
    """What a test left in the trash goes with it."""
    yield
    with site.ceph.pool(POOL) as ioctx:
        for entry in rbd.RBD().trash_list(ioctx):
            rbd.RBD().trash_restore(ioctx, entry["id"], f"left-{entry['id']}")
            remove_if_there(ioctx, f"left-{entry['id']}")


# --- what is in the way, and force ---


def test_a_volume_with_snapshots_goes_when_its_steps_are_taken(site: Site, image: str) -> None:
    for name in ("a", "b"):
        site.volume("createSnapshot", image, snapshotName=name)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as handle:
        handle.protect_snap("a")
    assert steps(site, image) == [
        ("protected-snapshot", False), ("snapshot", False), ("snapshot", True)
    ]  # fmt: skip
    error = refused(site, image)
    assert (error.name, error.data["snapshots"]) == ("VolumeHasSnapshots", ["a", "b"])
    for step in site.volume("explainDelete", image)["steps"]:
        program, *words = shlex.split(step["command"])
        if program == "rbd":
            rbd_do(site.ceph, *words)
        else:
            argv = [f"{PROGRAM}", *words]
            environment = {"VIRTCEPH_SOCKET": str(site.daemon.socket)}
            subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=60)
    assert steps(site, image) == []
    assert site.volume("delete", image) is True
    assert image not in names(site)


PROGRAM = ".venv/bin/virtceph"


def test_force_takes_a_volumes_own_snapshots_with_it(site: Site, image: str) -> None:
    for number in range(5):
        site.volume("createSnapshot", image, snapshotName=f"s{number}")
    assert site.volume("explainDelete", image)["forceable"] is True
    assert site.volume("delete", image, force=True) is True
    assert image not in names(site)
    assert error_of(site.volume, "delete", image, force=True).name == "NoSuchVolume"


def test_a_volume_with_clones_is_not_deleted_whatever_is_said(site: Site, image: str) -> None:
    for name in ("s", "t"):
        site.volume("createSnapshot", image, snapshotName=name)
    site.volume("clone", image, snapshotName="s", newName=f"{image}-kid")
    assert steps(site, image) == [("clone", False), ("snapshot", False), ("snapshot", True)]
    error = refused(site, image)
    assert error.name == "VolumeNotDeletable"
    assert f"{POOL}/{image}-kid is a clone of its snapshot s" in error.data["reason"]
    # A deleted snapshot is kept for its clone, and is as much in the way: `rbd` shows none.
    site.volume("deleteSnapshot", image, snapshotName="s")
    site.volume("deleteSnapshot", image, snapshotName="t")
    assert rbd_cli(site.ceph, "snap", "ls", f"{POOL}/{image}") == []
    assert steps(site, image) == [("clone", False)]
    assert refused(site, image).name == "VolumeNotDeletable"
    site.volume("trash", f"{image}-kid")
    (step,) = site.volume("explainDelete", image)["steps"]
    assert step["command"].startswith("virtceph Volume purge ")
    purge(site, id=entries(site)[f"{image}-kid"]["id"])
    assert site.volume("delete", image) is True


def test_a_running_vms_volume_is_told_with_its_vm(site: Site, vm: Guest) -> None:
    # Other tests leave snapshots on the disks of this VM.
    steps = site.volume("explainDelete", "shared-a")["steps"]
    (step,) = [step for step in steps if step["obstacle"] != "snapshot"]
    assert step["obstacle"] == "watcher"
    assert f"the VM {vm.name}, as its disk vda" in step["what"]
    assert f"vmID={vm.uuid}" in step["command"]
    assert refused(site, "shared-a").name == "VolumeInUse"
    vm.wait_for_records(3)


def test_the_lock_of_one_that_may_be_stalled_is_not_broken_for_a_deletion(
    site: Site, image: str
) -> None:
    with orphan_lock(site, image_id(site, image)) as client:
        for verb in ("delete", "trash"):
            error = error_of(site.volume, verb, image)
            assert error.name == "VolumeNotDeletable"
            assert f"client={client}" in error.data["steps"][0]
        assert site.volume("getInfo", image)["lock"]["address"] not in blocklisted(site.ceph)
        assert image in names(site)


def test_a_volume_in_a_group_is_told_and_one_of_ours_is_left(site: Site, image: str) -> None:
    ours = f"virtceph-{uuid.uuid4()}"
    with site.ceph.pool(POOL) as ioctx:
        for group, forced in (("theirs", False), (ours, True)):
            rbd.RBD().group_create(ioctx, group)
            rbd.Group(ioctx, group).add_image(ioctx, image)
            assert steps(site, image) == [("group", forced)]
            assert error_of(site.volume, "trash", image).name == "VolumeNotDeletable"
            if not forced:
                assert refused(site, image).name == "VolumeNotDeletable"
                words = shlex.split(site.volume("explainDelete", image)["steps"][0]["command"])
                rbd_do(site.ceph, *words[1:])
                assert steps(site, image) == []
        assert refused(site, image, force=False).name == "VolumeNotDeletable"
        assert site.volume("delete", image, force=True) is True
        for group in ("theirs", ours):
            assert list(rbd.Group(ioctx, group).list_images()) == []
            rbd.RBD().group_remove(ioctx, group)


def test_the_part_of_a_groups_snapshot_is_told_and_never_removed(site: Site, image: str) -> None:
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().group_create(ioctx, "nightly")
        group = rbd.Group(ioctx, "nightly")
        group.add_image(ioctx, image)
        group.create_snap("gs")
        group.remove_image(ioctx, image)
        assert steps(site, image) == [("group-snapshot", False)]
        error = refused(site, image)
        assert (error.name, error.data["snapshots"]) == ("VolumeHasSnapshots", ["gs"])
        assert [snap["name"] for snap in group.list_snaps()] == ["gs"]
        words = shlex.split(site.volume("explainDelete", image)["steps"][0]["command"])
        rbd_do(site.ceph, *words[1:])
        assert steps(site, image) == []
        rbd.RBD().group_remove(ioctx, "nightly")


@pytest.mark.parametrize("primary", [True, False])
def test_a_mirrored_volume_is_neither_deleted_nor_taken_out_of_its_mirroring(
    site: Site, primary: bool
) -> None:
    """`rbd trash move` ends the mirroring of a primary without a word."""
    name = f"mirrored-{uuid.uuid4().hex[:8]}"
    with connected(site, pool=POOL2) as domain, site.ceph.pool(POOL2) as ioctx:
        where = {"storageDomainID": domain, "volumeName": name}
        site.call("Volume.create", **where, size=8 << 20)
        rbd.RBD().mirror_mode_set(ioctx, rbd.RBD_MIRROR_MODE_IMAGE)
        with rbd.Image(ioctx, name) as handle:
            handle.mirror_image_enable(rbd.RBD_MIRROR_IMAGE_MODE_SNAPSHOT)
            if not primary:
                handle.mirror_image_demote()
        for verb in ("delete", "trash"):
            error = error_of(site.call, f"Volume.{verb}", **where)
            assert error.name == "VolumeNotDeletable"
        to = {"newStorageDomainID": site.storage_domain_id}
        error = error_of(site.call, "Volume.move", **where, **to)
        assert error.name == "OperationNotSupported"
        assert "mirrored" in error.message
        info = site.call("Volume.getInfo", **where)
        assert info["mirroring"] == ("primary" if primary else "secondary")
        with rbd.Image(ioctx, name) as handle:
            if not primary:
                handle.mirror_image_promote(True)
            handle.mirror_image_disable(True)
        rbd.RBD().mirror_mode_set(ioctx, rbd.RBD_MIRROR_MODE_DISABLED)
        assert site.call("Volume.delete", **where) is True


def test_a_migration_is_told_at_both_its_ends(site: Site, image: str) -> None:
    with site.ceph.pool(POOL) as ioctx, site.ceph.pool(POOL2) as ioctx2:
        rbd.RBD().migration_prepare(ioctx, image, ioctx2, image)
        try:
            # The binding's own list breaks on such an entry.
            with pytest.raises(IndexError):
                list(rbd.RBD().trash_list(ioctx))
            entry = entries(site)[image]
            assert entry["source"] == "migration"
            error = error_of(purge, site, id=entry["id"], force=True)
            assert (error.name, error.data["volumeName"]) == ("VolumeNotDeletable", image)
            assert [kept["id"] for kept in purge(site)["kept"]] == [entry["id"]]
            error = error_of(restore, site, volumeName=image)
            assert error.name == "OperationNotSupported"
            with connected(site, pool=POOL2) as domain:
                where = {"storageDomainID": domain, "volumeName": image}
                for verb in ("delete", "trash"):
                    error = error_of(site.call, f"Volume.{verb}", **where)
                    assert error.name == "VolumeNotDeletable"
                    assert "target of a migration" in error.data["reason"]
        finally:
            rbd.RBD().migration_abort(ioctx2, image)
    assert site.volume("getInfo", image)["size"] == 32 << 20


def test_a_deletion_that_was_cut_short_goes_on_when_it_is_repeated(site: Site) -> None:
    """librbd moves an image to the trash before it removes it, and finds it by its name all the same."""
    name = f"half-{uuid.uuid4().hex[:8]}"
    # Without an object map each object that may be there is removed.
    layout = {"size": 1 << 28, "objectSize": 4096, "features": ["layering", "exclusive-lock"]}
    site.volume("create", name, **layout)
    argv = ["rbd", "-c", str(site.ceph.conf), "rm", "--no-progress", f"{POOL}/{name}"]
    with subprocess.Popen(argv) as removing:
        # As soon as it has begun: in the trash, and opened by who removes it.
        until(lambda: name in entries(site) and watchers(site, entries(site)[name]["id"]), 30)
        removing.kill()
    assert entries(site)[name]["source"] == "removing"
    # Who died with it open is waited for; its lock, which nobody can break by name, is not.
    ident = entries(site)[name]["id"]
    assert error_of(site.volume, "delete", name).name == "VolumeInUse"
    for _ in range(5):
        until(lambda: not watchers(site, ident), 60)
        try:
            assert site.volume("delete", name) is True
        except ServerError as error:
            # On a slow machine that takes longer than the verb may: it goes on when it is repeated.
            if error.name != "CephUnavailable":
                raise
        else:
            break
    assert (entries(site), name in names(site)) == ({}, False)
    assert error_of(site.volume, "delete", name).name == "NoSuchVolume"


@pytest.mark.parametrize("left", ["name", "name and entry", "entry"])
def test_a_name_without_an_image_can_be_deleted_and_used_again(
    site: Site, image: str, left: str
) -> None:
    """As a creation or a deletion leaves it that a power cut ended: librbd finds it taken, and not there."""
    with site.ceph.pool(POOL) as ioctx:
        ident = image_id(site, image)
        ioctx.remove_object(f"rbd_header.{ident}")
        ioctx.remove_object(f"rbd_object_map.{ident}")
        if left == "entry":
            ioctx.remove_object(f"rbd_id.{image}")
        if left == "name":
            with rados.WriteOpCtx() as op:
                keys = (f"name_{image}", f"id_{ident}")
                ioctx.remove_omap_keys(op, keys)
                ioctx.operate_write_op(op, "rbd_directory")
    error = error_of(site.volume, "create", image, size=1 << 20)
    assert (error.name, "delete it" in str(error)) == ("CephUnavailable", True)
    assert site.volume("delete", image) is True
    assert error_of(site.volume, "delete", image).name == "NoSuchVolume"
    site.volume("create", image, size=1 << 20)
    assert site.volume("getInfo", image)["size"] == 1 << 20


def test_a_name_that_still_leads_to_an_image_is_not_freed(site: Site, image: str) -> None:
    """As an image on its way into the trash, or renamed, may look for a moment."""
    with site.ceph.pool(POOL) as ioctx:
        ident = image_id(site, image)
        head = ioctx.read(f"rbd_id.{image}")
        ioctx.remove_object(f"rbd_id.{image}")
        assert error_of(site.volume, "delete", image).name == "NoSuchVolume"
        ioctx.write_full(f"rbd_id.{image}", head)
    assert image_id(site, image) == ident


# --- trash ---


def test_a_volume_goes_to_the_trash_and_comes_back_as_it_was(site: Site, image: str) -> None:
    site.volume("createSnapshot", image, snapshotName="s")
    ident = image_id(site, image)
    for _ in range(2):
        assert site.volume("trash", image, delay=3600) is True
    assert error_of(site.volume, "getInfo", image).name == "NoSuchVolume"
    entry = entries(site)[image]
    (theirs,) = rbd_cli(site.ceph, "trash", "ls", POOL)
    assert (entry["id"], entry["source"], entry["size"]) == (ident, "user", 32 << 20)
    assert (theirs["id"], theirs["name"]) == (ident, image)
    assert 3590 < entry["keptUntil"] - time.time() <= 3600
    assert error_of(site.volume, "trash", image).name == "NoSuchVolume"
    for _ in range(2):
        assert restore(site, id=ident) is True
    assert image_id(site, image) == ident
    assert [s["snapshotName"] for s in site.volume("listSnapshots", image)] == ["s"]
    assert entries(site) == {}


def test_a_volume_is_restored_by_its_name_and_under_another(site: Site, image: str) -> None:
    ident = image_id(site, image)
    site.volume("trash", image)
    site.volume("create", image, size=1 << 20)
    for params in ({"volumeName": image}, {"id": ident}, {"id": ident, "newName": image}):
        assert error_of(restore, site, **params).name == "VolumeExists"
    assert restore(site, volumeName=image, newName=f"{image}-old") is True
    assert image_id(site, f"{image}-old") == ident
    assert error_of(restore, site, volumeName=image).name == "NotInTrash"
    assert error_of(restore, site, id=ident, newName="elsewhere").name == "NotInTrash"
    site.volume("delete", f"{image}-old")


@pytest.mark.parametrize("params", [{}, {"id": "1a", "volumeName": "both"}])
def test_what_is_to_be_restored_has_to_be_said_in_one_way(
    site: Site, params: dict[str, str]
) -> None:
    error = error_of(restore, site, **params)
    assert (error.code, error.data["field"]) == (91, "id")


def test_a_running_vms_volume_is_not_taken_from_under_it(site: Site, vm: Guest) -> None:
    """librbd would do so: it refuses to delete it, and moves it to the trash."""
    error = error_of(site.volume, "trash", "shared-a")
    assert error.name == "VolumeInUse"
    assert vm.name in error.data["steps"][0]
    assert "shared-a" in names(site)
    vm.wait_for_records(3)


def test_nothing_is_purged_before_its_time_and_all_that_is_due_is(site: Site, image: str) -> None:
    site.volume("create", "due", size=1 << 20)
    site.volume("trash", "due")
    site.volume("trash", image, delay=3600)
    ident = entries(site)[image]["id"]
    error = error_of(purge, site, id=ident)
    assert error.name == "TrashDeferred"
    assert error.data["until"].startswith(
        time.strftime("%Y-%m-%dT", time.gmtime(time.time() + 3600))
    )
    due = entries(site)["due"]["id"]
    result = purge(site)
    assert (result["purged"], [kept["id"] for kept in result["kept"]]) == ([due], [ident])
    assert error_of(purge, site, id=due).name == "NotInTrash"
    assert list(entries(site)) == [image]


def test_an_entry_with_snapshots_is_purged_only_if_they_may_go_with_it(
    site: Site, image: str
) -> None:
    site.volume("createSnapshot", image, snapshotName="s")
    site.volume("trash", image)
    ident = entries(site)[image]["id"]
    error = error_of(purge, site, id=ident)
    assert (error.name, error.data["reason"]) == ("VolumeNotDeletable", "it has snapshots: s")
    assert "it has snapshots: s" in purge(site)["kept"][0]["reason"]
    error = error_of(purge, site, force=True)
    assert (error.code, error.data["field"]) == (91, "force")
    assert purge(site, id=ident, force=True) == {"purged": [ident], "kept": []}


def test_an_entry_with_clones_or_a_groups_snapshot_is_told_as_such(site: Site, image: str) -> None:
    site.volume("createSnapshot", image, snapshotName="s")
    site.volume("clone", image, snapshotName="s", newName=f"{image}-kid")
    site.volume("deleteSnapshot", image, snapshotName="s")
    site.volume("trash", image)
    ident = entries(site)[image]["id"]
    error = error_of(purge, site, id=ident, force=True)
    assert error.name == "VolumeNotDeletable"
    assert error.data["reason"] == f"it has clones: {POOL}/{image}-kid"
    site.volume("delete", f"{image}-kid")
    restore(site, id=ident)
    with site.ceph.pool(POOL) as ioctx:
        rbd.RBD().group_create(ioctx, "g")
        group = rbd.Group(ioctx, "g")
        group.add_image(ioctx, image)
        group.create_snap("gs")
        group.remove_image(ioctx, image)
        site.volume("trash", image)
        error = error_of(purge, site, id=ident, force=True)
        assert error.data["reason"] == "it has snapshots: gs of the group g"
        rbd.RBD().group_remove(ioctx, "g")
    assert purge(site, id=ident)["purged"] == [ident]


def test_an_entry_that_somebody_has_open_or_locked_is_not_purged(site: Site, image: str) -> None:
    ident = image_id(site, image)
    with opened(site, image):
        with site.ceph.pool(POOL) as ioctx:
            rbd.RBD().trash_move(ioctx, image, 0)
        assert error_of(purge, site, id=ident).name == "VolumeInUse"
        assert [kept["id"] for kept in purge(site)["kept"]] == [ident]
    with orphan_lock(site, ident):
        error = error_of(purge, site, id=ident, force=True)
        assert (error.name, error.data["retry"]) == ("LockOwnerStalled", True)
    assert purge(site, id=ident)["purged"] == [ident]


def test_the_trash_without_its_capabilities_is_told_and_stays_as_it_is(
    site: Site,
    connect_as: ConnectAs,
    image: str,
) -> None:
    site.volume("trash", image)
    ident = entries(site)[image]["id"]
    reader = {"storageDomainID": connect_as(PROBE_ONLY)}
    for verb in ("purge", "restore"):
        error = error_of(site.call, f"Volume.{verb}", **reader, id=ident)
        assert error.name == "CephPermissionDenied"
    # librbd leaves the entry of a restore that failed in a state of its own, and then calls it busy.
    assert "begin anew" in error_of(purge, site, id=ident).data["reason"]
    blind = {"storageDomainID": connect_as(NAMES_ONLY)}
    assert error_of(site.call, "Volume.listTrash", **blind).name == "CephPermissionDenied"
    assert list(entries(site)) == [image]


# --- evict ---


def test_a_dead_clients_lock_is_broken_once_it_is_said_who_that_is(site: Site, image: str) -> None:
    client = dead_owner(site, image)
    lock = site.volume("getInfo", image)["lock"]
    assert lock["client"] == client
    error = error_of(site.volume, "evict", image, client=client)
    assert error.name == "EvictionNotConfirmed"
    assert (error.data["client"], error.data["address"]) == (client, lock["address"])
    assert lock["address"] not in blocklisted(site.ceph)
    began_s = time.monotonic()
    done = site.volume("evict", image, client=client, confirm=True)
    assert time.monotonic() - began_s < 20
    assert (done["client"], done["address"]) == (client, lock["address"])
    assert 86000 < done["blocklistedUntil"] - time.time() <= 86400 + 5
    assert lock["address"] in blocklisted(site.ceph)
    info = site.volume("getInfo", image)
    assert ("lock" in info, info["watchers"]) == (False, [])
    # What waited for it is possible at once.
    assert site.volume("createSnapshot", image, snapshotName="s") is True
    error = error_of(site.volume, "evict", image, client=client, confirm=True)
    assert (error.code, error.data["field"]) == (91, "client")
    assert "it has no lock" in error.data["expected"]


@pytest.mark.parametrize("confirm", [False, True])
def test_a_client_that_lives_is_not_evicted(site: Site, image: str, confirm: bool) -> None:
    with opened(site, image) as handle:
        client = site.volume("getInfo", image)["lock"]["client"]
        error = error_of(site.volume, "evict", image, client=client, confirm=confirm)
        assert error.name == "VolumeInUse"
        error = error_of(site.volume, "evict", image, client=client + 1, confirm=confirm)
        assert (error.code, error.data["field"]) == (91, "client")
        handle.write(b"still here", 0)


def test_a_stalled_vm_of_this_host_is_not_evicted_before_it_is_destroyed(
    site: Site, make_guest: Callable[..., Guest], make_image: Any
) -> None:
    guest = make_guest(disks=[make_image(keep=True)])
    guest.wait_for_records(3)
    name = guest.spec.disks[0].image  # type: ignore[union-attr]
    lock = site.volume("getInfo", name)["lock"]
    params = {"client": lock["client"], "confirm": True}
    with stalled(guest):
        error = error_of(site.volume, "evict", name, **params)
        assert (error.name, error.data["vmId"]) == ("VMRunning", guest.uuid)
    guest.wait_for_records(3)
    os.kill(qemu_pid(guest), signal.SIGSTOP)
    guest.domain.destroy()
    assert site.volume("evict", name, **params)["address"] == lock["address"]
    assert "lock" not in site.volume("getInfo", name)


def test_nobody_is_evicted_where_libvirt_cannot_tell_of_vms(rough: Rough) -> None:
    site = rough.site
    site.volume("create", "evicted", size=1 << 20)
    client = dead_owner(site, "evicted")
    rough.libvirtd.kill()
    try:
        error = error_of(site.volume, "evict", "evicted", client=client, confirm=True)
    finally:
        rough.libvirtd.restart()
    assert (error.name, error.data["retry"]) == ("LibvirtUnavailable", True)
    assert blocklisted(site.ceph) == []
    info = site.volume("getInfo", "evicted")
    assert info["lock"]["client"] == client
    site.volume("evict", "evicted", client=client, confirm=True)
    site.volume("delete", "evicted")


def test_a_volume_is_told_without_its_vms_where_libvirt_cannot_tell_of_them(rough: Rough) -> None:
    rough.libvirtd.suspend()
    try:
        began_s = time.monotonic()
        assert "vms" not in rough.site.volume("getInfo", "rough-a")
        assert time.monotonic() - began_s < 8
    finally:
        rough.libvirtd.resume()
    until(lambda: "vms" in rough.site.volume("getInfo", "rough-a"), 30)
