"""Plugging and unplugging: what must hold before, and what is told of a guest that does not let go."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_disks import FakeDiskCalls, plugged
from tests.fakes.fake_domains import VM, FakeDomains
from tests.fakes.fake_events import Heard
from tests.fakes.fake_storage import STORAGE_DOMAIN, FakeStorageDomains
from tests.fakes.snapshot_host import SnapshotHost
from virtceph import errors
from virtceph.ceph.imageinfo import ImageInfo, Watch
from virtceph.ceph.monitors import PoolLimits
from virtceph.ceph.spec import PoolSpec
from virtceph.host.diskasking import (
    HotplugParams,
    Plug,
    Unplug,
    asked_to_plug,
    asked_to_unplug,
)
from virtceph.host.diskchanges import DiskChanges
from virtceph.host.extending import DriveSpecs, Extending
from virtceph.host.plugging import Disks
from virtceph.host.releases import Releases
from virtceph.units import GiB, MiB
from virtceph.virt.diskxml import RbdDiskDevice, disk_xml
from virtceph.virt.xml import RbdSource

SECRET = UUID(int=5)
INFO = ImageInfo("web-data", "1094d1", GiB, 4 * MiB, [], None, 0.0, None, [], [], None)


class Leases:
    """As much of `host.leases.Leases` as is asked here."""

    window: Any = None

    def window_of(self, _vm_id: UUID) -> Any:
        return self.window


class Site:
    """One VM with the disk `vda` in RBD and `vdb` in a file, and a storage domain."""

    def __init__(self) -> None:
        self.domains, self.storage = FakeDomains(), FakeStorageDomains()
        self.calls = FakeDiskCalls(plugged("vda", "web-root"), plugged("vdb", None))
        self.leases, self.changes, self.releases = Leases(), DiskChanges(), Releases()
        self.calls.told = self.releases.happened
        self.info = INFO
        one: Any = self.storage.one
        one.settings.secret_uuid = SECRET
        one.images.info = lambda name: dataclasses.replace(self.info, name=name)
        one.monitors_now = lambda: ("10.0.1.1:6789",)
        storage: Any = self.storage
        storage.owners = lambda source: [d for d in (storage.of(source),) if d is not None]
        parts: Any = (self.domains, self.calls, storage)
        self.told = Heard()
        rest: Any = (self.leases, self.changes, self.releases, 0.2)
        self.disks = Disks(*parts, *rest, self.told)
        self.extending = Extending(*parts, self.changes, 12.0, self.told)

    def plug(self, volume: str = "web-data", target: str | None = None, **other: Any) -> str:
        return self.disks.plug(VM, Plug(volume, target, "virtio", STORAGE_DOMAIN, **other))

    def unplug(self, **how: Any) -> None:
        self.disks.unplug(VM, Unplug(**how))


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_volume_gets_the_first_free_target_and_its_image_id_as_serial(site: Site) -> None:
    assert site.plug() == "vdc"
    assert site.calls.calls == [("plug", "vdc live=True lasting=False")]
    assert "<serial>1094d1</serial>" in site.calls.xml[0]


def test_targets_of_both_definitions_are_taken(site: Site) -> None:
    site.calls.lasting = [plugged("vda", "web-root"), plugged("vdc", "other")]
    assert site.plug() == "vdd"
    assert site.calls.calls == [("plug", "vdd live=True lasting=True")]


def test_what_is_there_in_one_definition_is_added_to_the_other(site: Site) -> None:
    site.calls.lasting = []
    site.calls.live.append(plugged("vdc", "web-data"))
    # Open by the VM itself by now, which is no reason against it.
    site.info = dataclasses.replace(INFO, watchers=[Watch("10.0.1.9:0/1", 4)])
    assert site.plug() == "vdc"
    assert site.calls.calls == [("plug", "vdc live=False lasting=True")]
    assert site.plug() == "vdc"
    assert len(site.calls.calls) == 1


@pytest.mark.parametrize(
    ("volume", "target"), [("web-data", "vda"), ("web-data", "vdb"), ("web-root", "vdx")]
)
def test_a_conflict_is_told_and_changes_nothing(site: Site, volume: str, target: str) -> None:
    with pytest.raises(errors.PlugConflict):
        site.plug(volume, target)
    assert site.calls.calls == []


def test_a_volume_that_is_open_is_not_plugged(site: Site) -> None:
    site.info = dataclasses.replace(INFO, watchers=[Watch("10.0.1.9:0/1", 4)])
    with pytest.raises(errors.VolumeInUse):
        site.plug()
    assert site.calls.calls == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"state": "Down"}, errors.VMDown),
        ({"state": "gone"}, errors.NoSuchVM),
        ({"migrating": True}, errors.MigrationInProgress),
    ],
)
def test_a_vm_that_is_not_fit_is_left_alone(
    site: Site, change: dict[str, Any], error: type[Exception]
) -> None:
    vars(site.domains).update(change)
    for ask in (site.plug, lambda: site.unplug(target="vda")):
        with pytest.raises(error):
            ask()
    assert site.calls.calls == []


def test_a_frozen_guests_disks_stay_as_they_are(site: Site) -> None:
    class Window:
        owner = "engine"

    site.leases.window = Window()
    for ask in (site.plug, lambda: site.unplug(target="vda")):
        with pytest.raises(errors.DisksBusy, match="its freeze by engine"):
            ask()
    assert site.calls.calls == []


def test_ceph_that_refuses_is_told_as_a_failure_of_plugging(site: Site) -> None:
    def refuse(_name: str) -> ImageInfo:
        raise errors.CephFailed("open the image", 5, "broken")

    site.storage.one.images.info = refuse  # type: ignore[attr-defined]
    with pytest.raises(errors.HotplugFailed, match="broken"):
        site.plug()


def test_a_volume_that_libvirt_would_look_for_elsewhere_is_not_plugged(site: Site) -> None:
    site.storage.one.pool = PoolSpec("vms", "tenant")
    assert site.plug() == "vdc"
    site.calls.namespaces = False
    for ask in (
        site.plug,
        lambda: site.disks.xml(None, STORAGE_DOMAIN, "web-data", None, "virtio"),
    ):
        with pytest.raises(errors.OperationNotSupported, match="the namespace tenant"):
            ask()
    assert len(site.calls.calls) == 1


# --- unplugging ---


def test_a_disk_goes_from_the_running_vm_first_and_then_from_its_definition(site: Site) -> None:
    site.calls.lasting = [plugged("vda", "web-root", alias="ua-x")]
    site.unplug(target="vda")
    assert site.calls.calls == [("ask", "vda"), ("forget", "vda")]


def test_a_disk_whose_removal_is_told_by_nobody_is_looked_for(site: Site) -> None:
    site.calls.tells = False
    site.unplug(target="vda")
    assert [d.target for d in site.calls.live] == ["vdb"]


@pytest.mark.parametrize(
    ("guest", "reason"), [("keeps", "does not let go"), ("refuses", "refuses to let go")]
)
def test_a_guest_that_keeps_its_disk_keeps_it_in_its_definition_too(
    site: Site, guest: str, reason: str
) -> None:
    site.calls.lasting, site.calls.guest = [plugged("vda", "web-root")], guest
    with pytest.raises(errors.DiskNotReleased, match=reason):
        site.unplug(target="vda")
    assert site.calls.calls == [("ask", "vda")]


def test_a_paused_vms_guest_is_not_asked(site: Site) -> None:
    site.domains.state = "Paused"
    with pytest.raises(errors.DiskNotReleased, match="paused"):
        site.unplug(target="vda")
    assert site.calls.calls == []


def test_what_is_left_in_the_definition_alone_is_unplugged_from_there(site: Site) -> None:
    site.calls.lasting = [plugged("vdc", "web-data")]
    site.domains.state = "Paused"  # whose guest need not be asked
    site.unplug(storage_domain_id=STORAGE_DOMAIN, volume="web-data")
    assert site.calls.calls == [("forget", "vdc")]


@pytest.mark.parametrize(
    "how",
    [
        {"target": "vdz"},
        {"alias": "ua-other"},
        {"alias": "virtio-vdz"},
        {"target": "vda", "source": RbdSource("vms", "", "other", ())},
        {"target": "vda", "alias": "ua-other"},
        {"source": RbdSource("other", "", "web-root", ())},
        {"storage_domain_id": STORAGE_DOMAIN, "volume": "other"},
    ],
)
def test_all_that_is_said_of_a_disk_has_to_be_true(site: Site, how: dict[str, Any]) -> None:
    with pytest.raises(errors.DiskNotPlugged):
        site.unplug(**how)
    assert site.calls.calls == []


@pytest.mark.parametrize(
    "how",
    [
        {"alias": "virtio-vda"},
        {"target": "vda", "alias": "virtio-other"},
        {"target": "vda", "source": RbdSource("vms", "", "web-root", ("elsewhere:1",))},
        {"source": RbdSource("vms", "", "web-root", ())},
    ],
)
def test_a_disk_is_found_by_what_engines_say_of_it(site: Site, how: dict[str, Any]) -> None:
    site.calls.lasting = [plugged("vda", "web-root")]
    site.unplug(**how)
    assert site.calls.calls == [("ask", "vda"), ("forget", "vda")]


def test_a_disk_that_is_not_in_rbd_stays(site: Site) -> None:
    with pytest.raises(errors.InvalidParameter, match="vdb is none"):
        site.unplug(target="vdb")
    assert site.calls.calls == []


# --- what callers say ---


DEVICE = RbdDiskDevice(
    RbdSource("vms", "", "web-data", ("10.0.1.1:6789",)), "virtceph", SECRET, "vdd", "virtio"
)


def xml_of(**other: Any) -> Plug:
    text = disk_xml(dataclasses.replace(DEVICE, **other))
    return asked_to_plug(VM, None, None, None, "virtio", None, HotplugParams(VM, text))


def test_a_disk_in_xml_is_plugged_where_it_says(site: Site) -> None:
    assert site.disks.plug(VM, xml_of()) == "vdd"
    assert 'username="virtceph"' in site.calls.xml[0]


@pytest.mark.parametrize(
    "other",
    [
        {"user": "admin"},
        {"secret_uuid": UUID(int=6)},
        {"source": RbdSource("other", "", "web-data", ())},
    ],
)
def test_a_disk_of_no_connected_domain_or_of_another_user_is_refused(
    site: Site, other: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidParameter):
        site.disks.plug(VM, xml_of(**other))
    assert site.calls.calls == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((None, None, None, "virtio", None, None), "volumeName"),
        ((None, "a", None, "virtio", None, None), "storageDomainID"),
        ((STORAGE_DOMAIN, None, None, "virtio", None, None), "volumeName"),
        ((None, None, "vdb", "virtio", "<disk/>", None), "target"),
        ((STORAGE_DOMAIN, None, None, "virtio", "<disk/>", None), "storageDomainID"),
        ((None, None, None, "virtio", "<a/>", HotplugParams(None, "<disk/>")), "xml"),
        ((None, None, None, "virtio", None, HotplugParams(SECRET, "<disk/>")), "params.vmId"),
    ],
)
def test_too_little_or_too_much_is_told_by_its_field(arguments: Any, field: str) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        asked_to_plug(VM, *arguments)
    assert caught.value.field == field


def test_an_engines_unplugging_names_the_disk_by_its_alias() -> None:
    xml = '<hotunplug><devices><disk><alias name="ua-1"/></disk></devices></hotunplug>'
    asked = asked_to_unplug(VM, None, None, None, None, HotplugParams(None, xml))
    assert asked == Unplug(alias="ua-1")


# --- extending ---


def extend(site: Site, size: int, disk: str = "vda") -> Any:
    return site.extending.extend_disk(VM, disk, None, size)


@pytest.fixture
def sized(site: Site) -> Site:
    site.calls.sizes = {"vda": GiB}
    return site


def test_qemu_is_asked_for_a_new_size_and_not_for_what_it_has(sized: Site) -> None:
    assert extend(sized, 2 * GiB) == 2 * GiB
    assert sized.calls.calls == [("resize", f"vda {2 * GiB}")]
    sized.info = dataclasses.replace(INFO, size_bytes=2 * GiB)
    assert extend(sized, 2 * GiB) == 2 * GiB
    assert len(sized.calls.calls) == 1


def test_the_image_is_looked_at_and_not_the_guests_view(sized: Site) -> None:
    """Resized elsewhere, the image is larger than QEMU knows: it would cut that off."""
    sized.info = dataclasses.replace(INFO, size_bytes=4 * GiB)
    with pytest.raises(errors.WouldShrink):
        extend(sized, 2 * GiB)
    assert sized.calls.calls == []
    assert extend(sized, 4 * GiB) == 4 * GiB
    assert sized.calls.calls == [("resize", f"vda {4 * GiB}")]


def test_a_disk_outside_of_connected_storage_is_not_touched(sized: Site) -> None:
    sized.storage.connected = False
    for disk in ("vda", "vdb"):
        with pytest.raises(errors.InvalidParameter):
            extend(sized, 2 * GiB, disk)
    with pytest.raises(errors.NoSuchDrive):
        extend(sized, 2 * GiB, "vdz")


def test_an_image_that_is_gone_under_its_vm_is_told(sized: Site) -> None:
    def gone(name: str) -> ImageInfo:
        raise errors.NoSuchVolume(name)

    sized.storage.one.images.info = gone  # type: ignore[attr-defined]
    with pytest.raises(errors.ResizeFailed, match="does not exist"):
        extend(sized, 2 * GiB)


def test_engines_name_a_drive_by_its_path() -> None:
    specs = DriveSpecs(None, "vms/web-root", "network", *[None] * 8)
    assert specs.is_it(plugged("vda", "web-root"))
    assert not specs.is_it(plugged("vda", "other"))
    assert not specs.is_it(plugged("vda", None))


def test_a_volume_that_nobody_has_open_needs_no_libvirt(site: Site) -> None:
    site.domains.states = lambda: pytest.fail("libvirt was asked")  # type: ignore[method-assign,assignment]
    worker: Any = site.storage.one.worker
    worker._grow = lambda name, size_bytes: None
    told = site.extending.extend_volume(STORAGE_DOMAIN, "web-data", 2 * GiB)
    assert (told.size_bytes, told.vms, told.unaware) == (2 * GiB, [], [])
    assert worker.calls[0].arguments == {"name": "web-data", "size_bytes": 2 * GiB}


@pytest.mark.parametrize("data_pool", [None, "fast"])
def test_nothing_grows_beyond_the_quota_of_the_pool_of_its_data(
    sized: Site, data_pool: str | None
) -> None:
    sized.info = dataclasses.replace(INFO, data_pool=data_pool)
    sized.storage.one.quotas = {data_pool or "vms": PoolLimits(GiB, full=False)}
    for extend in (
        lambda: sized.extending.extend_volume(STORAGE_DOMAIN, "web-root", 2 * GiB),
        lambda: sized.extending.extend_disk(VM, "vda", None, 2 * GiB),
    ):
        with pytest.raises(errors.InvalidParameter) as caught:
            extend()
        assert caught.value.field == "newSize"
    assert sized.calls.calls == []


def test_a_volume_of_a_vm_here_is_extended_through_it(sized: Site) -> None:
    sized.info = dataclasses.replace(INFO, watchers=[Watch("10.0.1.9:0/1", 4)])
    told = sized.extending.extend_volume(STORAGE_DOMAIN, "web-root", 2 * GiB)
    assert told.vms == [VM]
    assert sized.calls.calls == [("resize", f"vda {2 * GiB}")]


def test_a_hung_resize_keeps_the_volume_from_being_made_larger(sized: Site) -> None:
    """When it ends, late, it would cut off what was added since."""
    hang, begun = threading.Event(), threading.Event()

    def in_call() -> None:
        begun.set()
        hang.wait(10)

    sized.calls.in_call = in_call
    thread = threading.Thread(target=extend, args=(sized, 2 * GiB))
    thread.start()
    assert begun.wait(5)
    with pytest.raises(errors.DisksBusy):
        sized.extending.extend_volume(STORAGE_DOMAIN, "web-root", 3 * GiB)
    hang.set()
    thread.join()


def test_the_image_is_looked_at_again_when_qemu_has_answered(sized: Site) -> None:
    """While QEMU hung, the image was made larger elsewhere."""

    def in_call() -> None:
        sized.info = dataclasses.replace(INFO, size_bytes=4 * GiB)

    sized.calls.in_call = in_call
    with pytest.raises(errors.WouldShrink):
        extend(sized, 2 * GiB)
    assert sized.calls.calls == []


# --- snapshots ---


def test_a_snapshots_job_holds_the_disks_and_a_change_keeps_it_from_beginning(
    tmp_path: Any,
) -> None:
    host = SnapshotHost(tmp_path, tmp_path)
    plan = host.planner.plan(VM, host.domains.domain, [], None)
    with (
        host.maker.begin(plan),
        pytest.raises(errors.DisksBusy),
        host.changes.change("x", [], vm_id=VM),
    ):
        pass
    with (
        host.changes.change("x", [("disks", VM)], vm_id=VM),
        pytest.raises(errors.SnapshotFailed, match="plugged or unplugged"),
        host.maker.begin(plan),
    ):
        pass
