"""What a snapshot is asked to make, checked before anything is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_domains import VM, rbd_disk
from tests.fakes.fake_storage import FakeStorageDomains
from virtceph import errors
from virtceph.host.drives import Plan, Planner, SnapDrive
from virtceph.host.paths import Exchange
from virtceph.virt.xml import Disk, Domain

DOMAIN_ID, IMAGE, BASE, VOLUME = (UUID(int=n) for n in (1, 2, 3, 4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "exchange"
    made.mkdir(mode=0o700)
    return made


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """The folder of a file disk as vdsm lays it out, with the overlay that the engine made."""
    made = tmp_path / str(DOMAIN_ID) / str(IMAGE)
    made.mkdir(parents=True)
    (made / str(BASE)).touch()
    (made / str(VOLUME)).touch()
    return made


@pytest.fixture
def domain(chain: Path) -> Domain:
    disks = (
        rbd_disk("vda", "web-root"),
        rbd_disk("vdb", "web-data", pool="elsewhere"),
        Disk("vdc", "file", path="/images/c.qcow2", format="qcow2"),
        Disk("vdd", "file", path=str(chain / str(BASE)), format="qcow2"),
        Disk("vde", "block", path="/dev/sdx"),
        Disk("vdf", "other"),
    )
    return Domain("web", disks, "connected")


def drive(**given: Any) -> SnapDrive:
    names = (
        "disk", "snapshot_name", "path", "domain_id", "image_id", "base_volume_id", "volume_id",
    )  # fmt: skip
    return SnapDrive(**{**dict.fromkeys(names), **given})


def plan(folder: Path, domain: Domain, *drives: SnapDrive, memory: str | None = None) -> Plan:
    planner = Planner(FakeStorageDomains(), Exchange([str(folder)]))  # type: ignore[arg-type]
    return planner.plan(VM, domain, list(drives), memory)


RBD = drive(disk="vda", snapshot_name="nightly")
FOUR_IDS = drive(domain_id=DOMAIN_ID, image_id=IMAGE, base_volume_id=BASE, volume_id=VOLUME)


def test_an_rbd_disk_becomes_a_snapshot_of_its_image(folder: Path, domain: Domain) -> None:
    made = plan(folder, domain, RBD)
    (rbd,) = made.rbd
    assert (rbd.target, rbd.image, rbd.snapshot) == ("vda", "web-root", "nightly")
    assert made.overlays == {}
    assert not made.asks_libvirt
    assert made.covered() == {"vda"}


def test_a_file_disk_gets_a_new_overlay(folder: Path, domain: Domain) -> None:
    made = plan(folder, domain, RBD, drive(disk="vdc", path=f"{folder}/c"))
    assert made.overlays == {"vdc": f"{folder}/c"}
    assert not made.reuse
    assert made.asks_libvirt
    assert made.targets == ["vda", "vdb", "vdc", "vdd", "vde", "vdf"]


def test_four_ids_find_their_disk_and_the_overlay_beside_it(
    folder: Path, domain: Domain, chain: Path
) -> None:
    made = plan(folder, domain, FOUR_IDS)
    assert made.overlays == {"vdd": str(chain / str(VOLUME))}
    assert made.reuse


def test_an_overlay_that_the_engine_did_not_make_is_told(
    folder: Path, domain: Domain, chain: Path
) -> None:
    (chain / str(VOLUME)).unlink()
    with pytest.raises(errors.NoSuchDrive) as caught:
        plan(folder, domain, FOUR_IDS)
    assert caught.value.field == "snapDrives[0].volumeID"


def test_a_base_volume_that_no_disk_has_is_told(folder: Path, domain: Domain) -> None:
    with pytest.raises(errors.NoSuchDrive) as caught:
        plan(
            folder,
            domain,
            drive(domain_id=DOMAIN_ID, image_id=IMAGE, base_volume_id=VOLUME, volume_id=BASE),
        )
    assert caught.value.field == "snapDrives[0].baseVolumeID"


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"disk": "vda"},
        {"snapshot_name": "x"},
        {"disk": "vda", "snapshot_name": "x", "path": "/x"},
        {"domain_id": DOMAIN_ID, "image_id": IMAGE, "base_volume_id": BASE},
        {"disk": "vda", "domain_id": DOMAIN_ID},
    ],
)
def test_a_drive_in_none_of_the_forms_is_refused(
    folder: Path, domain: Domain, given: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidParameter, match="`disk` and `snapshotName`"):
        plan(folder, domain, drive(**given))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"disk": "vdc", "snapshot_name": "x"}, "an RBD disk; vdc is file"),
        ({"disk": "vdb", "snapshot_name": "x"}, "a connected storage domain with the pool elsewh"),
        ({"disk": "vda", "path": "{}/x"}, "a file disk; vda is rbd"),
        ({"disk": "vde", "path": "{}/x"}, "a file disk; vde is block"),
        ({"disk": "vdf", "path": "{}/x"}, "a file disk; vdf is other"),
    ],
)
def test_a_disk_of_the_wrong_kind_is_refused(
    folder: Path, domain: Domain, given: dict[str, str], told: str
) -> None:
    one = drive(**{name: value.format(folder) for name, value in given.items()})
    with pytest.raises(errors.InvalidParameter, match=told):
        plan(folder, domain, RBD if one.disk != "vda" else FOUR_IDS, one)


def test_an_unknown_disk_is_told_with_those_there_are(folder: Path, domain: Domain) -> None:
    with pytest.raises(errors.NoSuchDrive, match="one of vda, vdb, vdc"):
        plan(folder, domain, drive(disk="vdz", snapshot_name="x"))


def test_a_disk_named_twice_is_refused(folder: Path, domain: Domain) -> None:
    with pytest.raises(errors.InvalidParameter, match=r"snapDrives\[1\].*vda is there twice"):
        plan(folder, domain, RBD, drive(disk="vda", snapshot_name="other"))


def test_one_file_for_two_disks_is_refused(folder: Path, domain: Domain) -> None:
    first, second = (drive(disk=disk, path=f"{folder}/x") for disk in ("vdc", "vdd"))
    with pytest.raises(errors.InvalidParameter, match="each file once"):
        plan(folder, domain, first, second)


def test_one_file_for_a_disk_and_the_memory_is_refused(folder: Path, domain: Domain) -> None:
    one = drive(disk="vdc", path=f"{folder}/x")
    with pytest.raises(errors.InvalidParameter, match="snapMemory"):
        plan(folder, domain, one, memory=f"{folder}/./x")


def test_new_and_existing_overlays_do_not_mix(folder: Path, domain: Domain) -> None:
    with pytest.raises(errors.InvalidParameter, match="all exist"):
        plan(folder, domain, FOUR_IDS, drive(disk="vdc", path=f"{folder}/x"))


def test_an_overlay_or_memory_outside_the_exchange_directory_is_refused(
    folder: Path, domain: Domain
) -> None:
    with pytest.raises(errors.PathNotAllowed):
        plan(folder, domain, drive(disk="vdc", path="/etc/x"))
    with pytest.raises(errors.PathNotAllowed):
        plan(folder, domain, memory="/etc/x")


def test_memory_as_volume_ids_is_not_supported(folder: Path, domain: Domain) -> None:
    with pytest.raises(errors.OperationNotSupported):
        plan(folder, domain, memory=f"{DOMAIN_ID},{IMAGE},{BASE},{VOLUME}")


def test_without_drives_nothing_is_made_and_all_disks_are_covered(
    folder: Path, domain: Domain
) -> None:
    made = plan(folder, domain)
    assert not made.asks_libvirt
    assert made.covered() == {disk.target for disk in domain.disks}
    assert plan(folder, domain, memory=f"{folder}/m").asks_libvirt
