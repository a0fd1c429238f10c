"""Volumes and disks made larger on the real cluster: image, QEMU and guest agree, and nothing is cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.conftest import Site
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.stall import stalled
from tests.integration.test_storage import (
    NAMES_ONLY,
    PROBE_ONLY,
    rbd_cli,
)
from tests.lab.guest import Guest
from tests.lab.stack import IMAGE_BYTES, POOL, POOL2
from virtceph.client import ServerError
from virtceph.units import GiB, MiB

LARGER = IMAGE_BYTES + 64 * MiB


@pytest.fixture
def guest(make_guest: Callable[..., Guest], make_image: Callable[..., Any]) -> Guest:
    made = make_guest(disks=[make_image(keep=True), make_image(keep=True)])
    made.wait_for_agent()
    return made


def image_of(guest: Guest, index: int = 0) -> str:
    return str(guest.spec.disks[index].image)  # type: ignore[union-attr]


def sizes(site: Site, guest: Guest, target: str = "vda") -> tuple[int, int, int]:
    """Of the image as `rbd` tells it, of the disk as QEMU has it, and as the guest sees it."""
    image = image_of(guest, "ab".index(target[-1]))
    seen = int(guest.command(f"sh cat /sys/block/{target}/size")) * 512
    return (
        rbd_cli(site.ceph, "info", f"{POOL}/{image}")["size"],
        guest.domain.blockInfo(target)[0],
        seen,
    )


def await_sizes(site: Site, guest: Guest, size: int, target: str = "vda") -> None:
    deadline_s = time.monotonic() + 20
    while (told := sizes(site, guest, target)) != (size, size, size):
        assert time.monotonic() < deadline_s, told
        time.sleep(0.1)


def extend(site: Site, guest: Guest, size: Any, **how: Any) -> Any:
    how = how or {"disk": "vda"}
    return site.call("VM.diskSizeExtend", vmID=guest.uuid, newSize=size, **how)


# --- disks ---


def test_a_disk_is_made_larger_and_the_guest_sees_it(site: Site, guest: Guest) -> None:
    assert extend(site, guest, LARGER) == LARGER
    await_sizes(site, guest, LARGER)
    assert extend(site, guest, LARGER) == LARGER
    # Beyond where it ended before, the guest can write.
    guest.command(f"sh echo far | dd of=/dev/vda bs=512 seek={(LARGER - 512) // 512} 2>/dev/null")
    guest.command("sync")


def test_a_drive_in_an_engines_words_is_made_larger_and_the_size_answered_as_it_came(
    site: Site, guest: Guest
) -> None:
    specs = {"diskType": "network", "path": f"{POOL}/{image_of(guest, 1)}"}
    assert extend(site, guest, str(LARGER), driveSpecs=specs) == str(LARGER)
    await_sizes(site, guest, LARGER, "vdb")
    assert sizes(site, guest)[0] == IMAGE_BYTES
    assert extend(site, guest, LARGER + MiB, driveSpecs={"disk": "vdb"}) == LARGER + MiB


def test_an_image_that_was_resized_elsewhere_is_told_to_the_guest(site: Site, guest: Guest) -> None:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image_of(guest)) as image:
        image.resize(LARGER)
    assert sizes(site, guest) == (LARGER, IMAGE_BYTES, IMAGE_BYTES)
    assert extend(site, guest, LARGER) == LARGER
    await_sizes(site, guest, LARGER)


@pytest.mark.parametrize("size", [IMAGE_BYTES - 512, 512, 1 * MiB])
def test_a_disk_is_never_made_smaller(site: Site, guest: Guest, size: int) -> None:
    """Neither libvirt nor librbd would refuse."""
    before = sizes(site, guest)
    for ask in (
        lambda: extend(site, guest, size),
        lambda: site.volume("extendSize", image_of(guest), newSize=size),
    ):
        error = error_of(ask)
        assert (error.name, error.code) == ("WouldShrink", 5041)
        assert (error.data["size"], error.data["newSize"]) == (IMAGE_BYTES, size)
    assert sizes(site, guest) == before


def test_what_the_image_has_counts_and_not_what_the_guest_sees(site: Site, guest: Guest) -> None:
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image_of(guest)) as image:
        image.resize(LARGER)
    error = error_of(extend, site, guest, LARGER - MiB)
    assert (error.name, error.data["size"]) == ("WouldShrink", LARGER)
    assert sizes(site, guest)[0] == LARGER


@pytest.mark.parametrize(
    "size",
    [
        *(0, -512, 1, 513, 1.5, None, True, [], {}, 1 << 60, str(1 << 60), "9" * 400),
        *("0", "-512", "many", "", "1e9", "0x200", " 1024", "1024.0", "１０２４"),
    ],
)
def test_what_is_no_size_is_told(site: Site, vm: Guest, size: Any) -> None:
    error = error_of(site.call, "VM.diskSizeExtend", vmID=vm.uuid, disk="vda", newSize=size)
    assert (error.name, error.code, error.data["field"]) == ("BadDiskSize", 58, "newSize")


def test_a_drive_that_is_not_there_is_told(site: Site, vm: Guest, kept: Guest) -> None:
    for how in (
        {"disk": "vdz"},
        {"driveSpecs": {"path": f"{POOL}/nosuch"}},
        {"driveSpecs": {"domainID": "a", "poolID": "b", "imageID": "c", "volumeID": "d"}},
        {"driveSpecs": {"GUID": "abc"}},
    ):
        error = error_of(extend, site, vm, GiB, **how)
        assert (error.name, error.code) == ("NoSuchDrive", 13)
    error = error_of(site.call, "VM.diskSizeExtend", vmID=uuid.uuid4(), disk="vda", newSize=GiB)
    assert (error.name, error.code) == ("NoSuchVM", 1)
    kept.domain.destroy()
    error = error_of(extend, site, kept, GiB)
    assert (error.name, error.code) == ("VMDown", 6)
    # The volume of a VM that is off can be made larger all the same.
    told = site.volume("extendSize", image_of(kept), newSize=LARGER)
    assert (told["size"], told["vms"]) == (LARGER, [])


def test_a_disk_of_a_paused_vm_is_made_larger(site: Site, guest: Guest) -> None:
    guest.domain.suspend()
    assert extend(site, guest, LARGER) == LARGER
    assert guest.domain.blockInfo("vda")[0] == LARGER
    guest.domain.resume()
    await_sizes(site, guest, LARGER)


def test_a_disk_of_a_frozen_guest_is_made_larger_and_the_freeze_holds(
    site: Site, guest: Guest
) -> None:
    site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    assert extend(site, guest, LARGER) == LARGER
    assert site.call("VM.thaw", vmID=guest.uuid)["intact"] is True
    await_sizes(site, guest, LARGER)


def test_what_qemu_refuses_is_told_in_its_words(site: Site, guest: Guest, tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777 if folder == tmp_path else 0o755)
    copy = f"<disk type='file'><source file='{tmp_path}/copy'/><driver type='raw'/></disk>"
    guest.domain.blockCopy("vda", copy, {}, 0)
    try:
        for ask in (
            lambda: extend(site, guest, LARGER),
            lambda: site.volume("extendSize", image_of(guest), newSize=LARGER),
        ):
            error = error_of(ask)
            assert (error.name, error.code) == ("ResizeFailed", 56)
            assert error.data["reason"]
    finally:
        guest.domain.blockJobAbort("vda")
    assert sizes(site, guest)[0] == IMAGE_BYTES


def test_a_user_that_may_not_read_the_image_is_told(
    site: Site,
    make_guest: Callable[..., Guest],
    make_image: Callable[..., Any],
    connect_as: Callable[..., Any],
    image: str,
) -> None:
    names_only = NAMES_ONLY.replace("pool=rbd", f"pool={POOL2}")
    connect_as(names_only, pool=POOL2)
    guest = make_guest(disks=[make_image(POOL2, keep=True)])
    assert error_of(extend, site, guest, LARGER).name == "CephPermissionDenied"
    named = {"storageDomainID": connect_as(PROBE_ONLY), "volumeName": image}
    error = error_of(site.call, "Volume.extendSize", **named, newSize=64 * MiB)
    assert error.name == "CephPermissionDenied"
    assert site.volume("getInfo", image)["size"] == 32 * MiB


def test_a_stalled_qemu_is_told_in_time_and_its_late_resize_cuts_nothing_off(
    site: Site, guest: Guest, connect: Callable[..., RecordingClient]
) -> None:
    """It would, if the image were made larger meanwhile: so that is refused until the first is over."""
    name = image_of(guest)
    with stalled(guest):
        began_s = time.monotonic()
        error = error_of(extend, site, guest, LARGER)
        assert (error.name, error.data["retry"]) == ("DiskChangeStalled", True)
        assert time.monotonic() - began_s < 30
        for ask in (
            lambda: extend(site, guest, LARGER + MiB),
            lambda: site.volume("extendSize", name, newSize=LARGER + MiB),
        ):
            assert error_of(ask).name == "DisksBusy"
    await_sizes(site, guest, LARGER)
    assert extend(site, guest, LARGER + MiB) == LARGER + MiB
    await_sizes(site, guest, LARGER + MiB)
    with stalled(guest):
        error = error_of(site.volume, "extendSize", name, newSize=GiB)
        assert (error.name, error.data["retry"]) == ("DiskChangeStalled", True)
    await_sizes(site, guest, GiB)


# --- volumes ---


def test_a_volume_that_nobody_has_open_is_made_larger(site: Site, image: str) -> None:
    told = site.volume("extendSize", image, newSize=64 * MiB)
    assert told == {"size": 64 * MiB, "vms": [], "unaware": []}
    assert rbd_cli(site.ceph, "info", f"{POOL}/{image}")["size"] == 64 * MiB
    assert site.volume("extendSize", image, newSize=64 * MiB) == told
    assert error_of(site.volume, "extendSize", image, newSize=32 * MiB).name == "WouldShrink"
    for size in (0, -512, 513, 1 << 60):
        error = error_of(site.volume, "extendSize", image, newSize=size)
        assert (error.name, error.data["field"]) == ("InvalidParameter", "newSize")
    assert site.volume("getInfo", image)["size"] == 64 * MiB


def test_a_volume_of_a_vm_here_is_made_larger_through_it(site: Site, guest: Guest) -> None:
    told = site.volume("extendSize", image_of(guest, 1), newSize=LARGER)
    assert told == {"size": LARGER, "vms": [guest.uuid], "unaware": []}
    await_sizes(site, guest, LARGER, "vdb")


HOLDER = (
    "import rados, rbd, sys, time\n"
    "c = rados.Rados(conffile=sys.argv[1]); c.connect()\n"
    "i = rbd.Image(c.open_ioctx('rbd'), sys.argv[2]); i.write(b'x', 0)\n"
    "print('open', flush=True)\n"
    "time.sleep(300)"
)


@pytest.fixture
def holder(site: Site, image: str) -> Iterator[subprocess.Popen[str]]:
    """A client of another host that has the image open, and its lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(site.ceph.conf), image],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    os.kill(process.pid, signal.SIGCONT)
    process.terminate()
    process.wait()
    process.stdout.close()
    owner = site.volume("getInfo", image)["lockOwner"]
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, image) as opened:
        for client, cookie, _ in opened.list_lockers().get("lockers", []) if owner else []:
            opened.break_lock(client, cookie)
    deadline_s = time.monotonic() + 60
    while site.volume("getInfo", image)["watchers"]:
        assert time.monotonic() < deadline_s
        time.sleep(1)


def test_a_volume_that_is_open_elsewhere_is_made_larger_by_its_owner_and_that_is_told(
    site: Site, image: str, holder: subprocess.Popen[str]
) -> None:
    owner = site.volume("getInfo", image)["lockOwner"]
    told = site.volume("extendSize", image, newSize=64 * MiB)
    assert told == {"size": 64 * MiB, "vms": [], "unaware": [owner]}
    assert site.volume("getInfo", image)["lockOwner"] == owner


def test_an_owner_that_does_not_answer_is_neither_waited_for_nor_cut_off(
    site: Site, image: str, holder: subprocess.Popen[str]
) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    began_s = time.monotonic()
    error = error_of(site.volume, "extendSize", image, newSize=64 * MiB)
    assert (error.name, error.data["retry"]) == ("LockOwnerStalled", True)
    assert time.monotonic() - began_s < 20
    os.kill(holder.pid, signal.SIGCONT)
    time.sleep(2)
    assert site.volume("getInfo", image)["size"] == 32 * MiB


def test_many_who_ask_at_once_never_make_it_smaller(
    site: Site, image: str, connect: Callable[..., RecordingClient]
) -> None:
    """Each asks for another size: the largest is what is left."""
    clients = [connect(site.daemon) for _ in range(8)]
    wanted = [(40 + 8 * number) * MiB for number in range(8)]

    def ask(number: int) -> str:
        named = {"storageDomainID": site.storage_domain_id, "volumeName": image}
        try:
            clients[number].call("Volume.extendSize", **named, newSize=wanted[number])
        except ServerError as error:
            return str(error.name)
        return "ok"

    done: dict[int, str] = {}
    with ThreadPoolExecutor(4) as threads:
        for number, told in enumerate(threads.map(ask, range(8))):
            done[number] = told
    assert set(done.values()) <= {"ok", "WouldShrink", "DisksBusy"}
    largest = max(wanted[number] for number, told in done.items() if told == "ok")
    assert site.volume("getInfo", image)["size"] == largest
