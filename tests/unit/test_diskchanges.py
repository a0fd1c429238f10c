"""Changes of disks: one at a time, none during a snapshot, and none behind the back of one that hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from uuid import UUID

import pytest

from tests.fakes.waiting import until
from virtceph import request
from virtceph.errors import DiskChangeStalled, DisksBusy, HotplugFailed
from virtceph.host.diskchanges import DiskChanges, disks_of, qemu_of
from virtceph.host.releases import Releases
from virtceph.virt.events import DomainEvent, Happened

VM, OTHER = UUID(int=1), UUID(int=2)


@pytest.fixture
def changes() -> DiskChanges:
    return DiskChanges()


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_what_is_being_changed_is_changed_by_nobody_else(changes: DiskChanges) -> None:
    with (
        changes.change("a", [disks_of(VM), "volume"]),
        changes.change("b", [disks_of(OTHER)]),
        pytest.raises(DisksBusy, match="another change is under way"),
        changes.change("c", ["other", "volume"]),
    ):
        pass
    with changes.change("c", ["other", "volume"]):
        pass


def test_a_call_answers_what_the_work_does(changes: DiskChanges) -> None:
    with changes.change("a", ["x"]) as change:
        assert change.call(lambda: 7) == 7
        with pytest.raises(HotplugFailed):
            change.call(lambda: (_ for _ in ()).throw(HotplugFailed(VM, "vda", "no")))
        with pytest.raises(TimeoutError):
            # The work's own, and not that of waiting for it.
            change.call(lambda: (_ for _ in ()).throw(TimeoutError()))


def test_the_work_is_done_for_the_request_that_asked(changes: DiskChanges) -> None:
    request.enter(request.Request("1a", "engine", float("inf")))
    with changes.change("a", ["x"]) as change:
        assert change.call(lambda: request.current().id) == "1a"


def test_what_hangs_is_left_behind_and_what_it_changes_stays_taken(
    changes: DiskChanges, released: threading.Event
) -> None:
    with (
        pytest.raises(DiskChangeStalled) as caught,
        changes.change("VM 1", [qemu_of(VM)]) as change,
    ):
        change.call(released.wait, 0.05)
    assert (caught.value.what, caught.value.timeout_s) == ("VM 1", 0.05)
    with pytest.raises(DisksBusy), changes.change("b", [qemu_of(VM)]):
        pass
    released.set()

    def is_free() -> bool:
        try:
            with changes.change("b", [qemu_of(VM)]):
                return True
        except DisksBusy:
            return False

    until(is_free)


def test_who_is_answered_may_ask_again_at_once(changes: DiskChanges) -> None:
    for _ in range(200):
        with changes.change("a", ["x"]) as change:
            change.call(lambda: None)
    assert not changes._taken


def test_no_disk_comes_or_goes_while_a_vm_is_snapshotted(changes: DiskChanges) -> None:
    with changes.snapshot(VM), changes.snapshot(VM):
        with (
            pytest.raises(DisksBusy, match="snapshotted"),
            changes.change("a", [disks_of(VM)], vm_id=VM),
        ):
            pass
        with changes.change("resize", [qemu_of(VM)]), changes.change("b", [], vm_id=OTHER):
            pass
    with (
        changes.change("a", [disks_of(VM)], vm_id=VM),
        pytest.raises(DisksBusy, match="plugged"),
        changes.snapshot(VM),
    ):
        pass
    with changes.snapshot(VM):
        pass


# --- what guests let go of ---


def test_what_is_told_of_a_device_reaches_who_waits_for_it() -> None:
    releases = Releases()
    with releases.awaiting(VM, "virtio-disk1") as awaited:
        assert awaited.wait(0.01) is None
        for device in ("virtio-disk2", "virtio-disk1"):
            releases.happened(DomainEvent(VM, Happened.DEVICE_REMOVED, device))
        releases.happened(DomainEvent(VM, Happened.RESET))
        assert awaited.wait(0) is Happened.DEVICE_REMOVED
        assert awaited.wait(0) is Happened.DEVICE_REMOVED
    assert not releases._awaited


def test_a_refusal_is_told_once() -> None:
    releases = Releases()
    with releases.awaiting(VM, "a") as awaited:
        releases.happened(DomainEvent(VM, Happened.DEVICE_KEPT, "a"))
        assert awaited.wait(0) is Happened.DEVICE_KEPT
        assert awaited.wait(0) is None


def test_who_waits_is_woken() -> None:
    releases = Releases()
    with releases.awaiting(VM, "a") as awaited:
        event = DomainEvent(VM, Happened.DEVICE_REMOVED, "a")
        threading.Timer(0.05, releases.happened, [event]).start()
        began_s = time.monotonic()
        assert awaited.wait(20) is Happened.DEVICE_REMOVED
        assert time.monotonic() - began_s < 10
