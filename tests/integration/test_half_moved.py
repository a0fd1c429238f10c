"""What a client leaves that was killed while librbd moved an image to the trash, at each of its steps."""

from __future__ import annotations

import contextlib
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import rados
import rbd

from tests.integration.conftest import Site, remove_if_there
from tests.integration.recorder import error_of
from tests.integration.volumes import rbd_cli, rbd_do
from tests.lab.stack import POOL

NORMAL, MOVING = 0, 1
# How much of the move librbd had done. `entered`: the image is in the trash, and has its name all the same.
# `nameless`: nothing leads from its name to it; the directory has it still. `unlisted`: nor has that.
STAGES = ("entered", "nameless", "unlisted")


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def mark(ioctx: rados.Ioctx, ident: str, state: int, before: int) -> None:
    asked = text(ident) + struct.pack("<BB", state, before)
    ioctx.execute("rbd_trash", "rbd", "trash_state_set", asked)


@dataclass(frozen=True)
class Half:
    """An image half in the trash."""

    name: str
    id: str
    stage: str


def leave(ioctx: rados.Ioctx, name: str, stage: str) -> Half:
    """Move an image to the trash, and undo librbd's last steps."""
    with rbd.Image(ioctx, name, read_only=True) as image:
        ident = str(image.id())
    rbd.RBD().trash_move(ioctx, name, 0)
    mark(ioctx, ident, MOVING, NORMAL)
    if stage != "unlisted":
        ioctx.execute("rbd_directory", "rbd", "dir_add_image", text(name) + text(ident))
    if stage == "entered":
        ioctx.write_full(f"rbd_id.{name}", text(ident))
    return Half(name, ident, stage)


@pytest.fixture(params=STAGES)
def half(request: pytest.FixtureRequest, site: Site, image: str) -> Iterator[Half]:
    with site.ceph.pool(POOL) as ioctx:
        made = leave(ioctx, image, request.param)
        yield made
        with contextlib.suppress(rados.ObjectNotFound, rbd.ImageNotFound):
            mark(ioctx, made.id, NORMAL, MOVING)
            rbd.RBD().trash_remove(ioctx, made.id)
        remove_if_there(ioctx, image)


def in_trash(site: Site) -> list[str]:
    listed = site.call("Volume.listTrash", storageDomainID=site.storage_domain_id)
    return [entry["id"] for entry in listed]


def restore(site: Site, **more: Any) -> Any:
    return site.call("Volume.restore", storageDomainID=site.storage_domain_id, **more)


def purge(site: Site, **more: Any) -> Any:
    return site.call("Volume.purge", storageDomainID=site.storage_domain_id, **more)


def test_what_is_half_in_the_trash_can_neither_be_purged_nor_restored_by_librbd(
    site: Site, half: Half
) -> None:
    """That what is made here is what a killed client leaves."""
    with site.ceph.pool(POOL) as ioctx:
        with pytest.raises(rbd.Error) as caught:
            rbd.RBD().trash_remove(ioctx, half.id)
        assert abs(caught.value.errno) == 117
        with pytest.raises(rbd.ImageBusy):
            rbd.RBD().trash_restore(ioctx, half.id, half.name)


def test_what_is_half_in_the_trash_is_restored(site: Site, half: Half) -> None:
    assert restore(site, id=half.id) is True
    assert in_trash(site) == []
    info = site.volume("getInfo", half.name)
    assert (info["id"], info["size"]) == (half.id, 32 << 20)
    assert site.volume("delete", half.name) is True


def test_what_is_half_in_the_trash_is_restored_under_another_name(site: Site, half: Half) -> None:
    taken = f"taken-{uuid.uuid4().hex[:8]}"
    site.volume("create", taken, size=1 << 20)
    assert error_of(restore, site, id=half.id, newName=taken).name == "VolumeExists"
    site.volume("delete", taken)
    assert restore(site, id=half.id, newName=taken) is True
    listed = rbd_cli(site.ceph, "ls", POOL)
    assert (taken in listed, half.name in listed) == (True, False)
    assert site.volume("delete", taken) is True


def test_what_is_half_in_the_trash_is_purged_unless_it_has_its_name(site: Site, half: Half) -> None:
    if half.stage == "entered":
        # It may have been used by its name ever since.
        site.volume("createSnapshot", half.name, snapshotName="kept")
        assert error_of(purge, site, id=half.id, force=True).name == "VolumeNotDeletable"
        assert [kept["id"] for kept in purge(site)["kept"]] == [half.id]
        assert site.volume("getInfo", half.name)["id"] == half.id
        assert [s["snapshotName"] for s in site.volume("listSnapshots", half.name)] == ["kept"]
        site.volume("deleteSnapshot", half.name, snapshotName="kept")
        return
    assert purge(site, id=half.id) == {"purged": [half.id], "kept": []}
    assert (in_trash(site), half.name in rbd_cli(site.ceph, "ls", POOL)) == ([], False)
    # Nothing of it is in the way of its name.
    site.volume("create", half.name, size=1 << 20)


def test_a_move_to_the_trash_that_was_cut_short_goes_on_when_it_is_repeated(
    site: Site, half: Half
) -> None:
    assert site.volume("trash", half.name) is True
    assert half.name not in rbd_cli(site.ceph, "ls", POOL)
    assert purge(site, id=half.id) == {"purged": [half.id], "kept": []}


def test_a_deletion_that_was_cut_short_in_its_move_to_the_trash_goes_on(
    site: Site, image: str
) -> None:
    for stage in STAGES:
        site.volume("create", image, size=32 << 20)
        with site.ceph.pool(POOL) as ioctx:
            made = leave(ioctx, image, stage)
            # As `rbd rm` enters it.
            entry = ioctx.execute("rbd_trash", "rbd", "trash_get", text(made.id))[1]
            removing = text(made.id) + entry[:6] + b"\x03" + entry[7:]
            ioctx.execute("rbd_trash", "rbd", "trash_remove", text(made.id))
            ioctx.execute("rbd_trash", "rbd", "trash_add", removing)
        (listed,) = site.call("Volume.listTrash", storageDomainID=site.storage_domain_id)
        assert listed["source"] == "removing"
        assert site.volume("delete", image) is True
        assert (in_trash(site), image in rbd_cli(site.ceph, "ls", POOL)) == ([], False)
        assert error_of(site.volume, "delete", image).name == "NoSuchVolume"


def test_another_image_that_has_the_name_by_now_is_left_alone(site: Site, image: str) -> None:
    with site.ceph.pool(POOL) as ioctx:
        made = leave(ioctx, image, "unlisted")
    site.volume("create", image, size=1 << 20)
    now = site.volume("getInfo", image)["id"]
    assert error_of(restore, site, id=made.id).name == "VolumeExists"
    assert purge(site, id=made.id) == {"purged": [made.id], "kept": []}
    assert site.volume("getInfo", image)["id"] == now != made.id
    rbd_do(site.ceph, "info", f"{POOL}/{image}")
