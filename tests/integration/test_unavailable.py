"""libvirt, Ceph or the daemon itself away or too busy: told in time, and back by itself.

These tests stop and kill what the others share, so they have a cluster, a libvirtd and a daemon of
their own.
"""

from __future__ import annotations

import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libvirt
import pytest

from tests.faults.pace import slowness
from tests.integration.conftest import Rough, domain_settings, secret_info
from tests.integration.filled import filled
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.test_freeze import guest_says
from tests.integration.test_storage import CEPHX_KEY
from tests.lab.daemon import Daemon
from tests.lab.domain_xml import GuestSpec
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.template import run_guest
from virtceph.schema import load_contract
from virtceph.sensitive import Sensitive

VERBS = load_contract().verbs.values()


def wait_for(daemon: Daemon, text: str, mark: int = 0) -> None:
    """Wait until a daemon logs a text behind a mark, which is a length of its log."""
    deadline_s = time.monotonic() + 30
    while text not in daemon.log_text()[mark:]:
        assert time.monotonic() < deadline_s, f"no {text!r} in the log"
        time.sleep(0.02)


@pytest.fixture
def guest(rough: Rough) -> Iterator[Guest]:
    """A guest on the rough site."""
    with rough.libvirtd.connection() as connection:
        made = run_guest(connection, GuestSpec("rough", rough.disks), rough.state / "guests")
        made.wait_for_agent()
        yield made
    with rough.libvirtd.connection() as connection:
        connection.lookupByUUIDString(made.uuid).destroy()


# --- libvirt ---


@pytest.mark.parametrize("end", ["kill", "terminate"])
def test_secrets_are_back_within_a_second_of_libvirt(rough: Rough, end: str) -> None:
    before = rough.libvirtd.secret_usages()
    assert f"ovirt/{rough.site.secret_uuid}" in before
    slowest = slowness()
    getattr(rough.libvirtd, end)()
    rough.libvirtd.restart()
    began_s = time.monotonic()
    while rough.libvirtd.secret_usages() != before:
        assert time.monotonic() - began_s < 10, "the secrets are not back"
        time.sleep(0.02)
    took_s = time.monotonic() - began_s
    if took_s > 1.0:
        slowest = max(slowest, slowness())
    assert took_s < 1.0 * slowest, f"{took_s:.1f} s on a machine {slowest:.1f} x busy"


def test_a_freeze_outlives_a_restart_of_libvirt(rough: Rough, guest: Guest) -> None:
    rough.site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    rough.libvirtd.kill()
    rough.libvirtd.restart()
    result = rough.site.call("VM.thaw", vmID=guest.uuid)
    # The freeze held; but nobody could watch the guest meanwhile.
    assert (result["filesystems"], result["intact"]) == (2, False)
    assert "libvirt was not watched" in result["reason"]


def parameters(rough: Rough, verb: Any) -> dict[str, Any]:
    if verb.name == "Host.registerSecrets":
        return {"secrets": [secret_info(uuid.uuid4(), Sensitive(b"x"))]}
    if verb.name == "Host.unregisterSecrets":
        return {"uuids": [uuid.uuid4()]}
    values = {"vmID": uuid.uuid4(), "snapshotName": "any", "disk": "vda", "newSize": 1 << 30}
    if verb.name == "VM.hotplugDisk":
        values |= {"storageDomainID": rough.site.storage_domain_id, "volumeName": "rough-a"}
    return {p.name: values[p.name] for p in verb.params if p.name in values}


def test_without_libvirt_each_verb_that_needs_it_says_so(
    rough: Rough, connect: Callable[..., RecordingClient]
) -> None:
    # A lease is extended without a word to libvirt.
    needy = [v for v in VERBS if v.lane in ("libvirt", "agent", "disk", "rescue")]
    verbs = [v for v in needy if v.name != "VM.extendFreeze"]
    rough.libvirtd.kill()

    def ask(verb: Any) -> tuple[str, str]:
        client = connect(rough.site.daemon)
        return verb.name, error_of(client.call, verb.name, **parameters(rough, verb)).name

    try:
        with ThreadPoolExecutor(4) as threads:  # as many as the lane has slots: none is to queue
            answers = list(threads.map(ask, verbs))
        assert rough.site.call("Host.ping2") is True
        assert len(rough.site.call("Host.listSecrets")) == 1
    finally:
        rough.libvirtd.restart()
    assert answers == [(verb.name, "LibvirtUnavailable") for verb in verbs]
    rough.site.call("Host.getVMList")


def test_a_hung_libvirt_is_told_by_the_deadline_and_does_not_stop_the_rest(rough: Rough) -> None:
    rough.libvirtd.suspend()
    try:
        began_s = time.monotonic()
        error = error_of(rough.site.call, "Host.getVMList")
        assert (error.name, error.data["verb"]) == ("DeadlineExceeded", "Host.getVMList")
        assert time.monotonic() - began_s < 12
        assert rough.site.call("Volume.list", storageDomainID=rough.site.storage_domain_id)
    finally:
        rough.libvirtd.resume()
    rough.site.call("Host.getVMList")


def test_a_libvirt_without_qemu_is_told_in_its_own_words(
    rough: Rough,
    lab_state: Path,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = PrivateLibvirtd.start(
        lab_state / "h-bare", "bare", hidden=["/usr/bin/qemu-system-x86_64"]
    )
    try:
        daemon = start_daemon("daemon-bare", uri=bare.uri)
        error = error_of(connect(daemon).call, "Host.getCapabilities")
        assert error.name == "LibvirtFailed"
        # libvirt 9 misses the emulator, libvirt 11 what it can do.
        assert re.search("emulator|capabilities", error.data["reason"])
        daemon.stop()
    finally:
        bare.stop()


# --- Ceph ---


def test_without_the_osd_each_volume_verb_says_so_and_libvirt_is_not_hindered(
    rough: Rough, connect: Callable[..., RecordingClient], diffs: Path
) -> None:
    verbs = [v for v in VERBS if v.name.startswith("Volume.") and v.name != "Volume.mergeDiffs"]
    site = rough.site
    site.volume("createSnapshot", "rough-a", snapshotName="nosuch")

    def ask(verb: Any) -> tuple[str, str]:
        client = connect(site.daemon)
        params = filled(verb, site, diffs, volumeName="rough-a")
        if verb.name in ("Volume.create", "Volume.import"):
            params["volumeName"] = "new"
        return verb.name, error_of(client.call, verb.name, **params).name

    site.ceph.suspend_osd()
    try:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(ask, verbs))
        began_s = time.monotonic()
        site.call("Host.getVMList")
        assert time.monotonic() - began_s < 2
    finally:
        site.ceph.resume_osd()
    assert answers == [(verb.name, "CephUnavailable") for verb in verbs]
    site.volume("deleteSnapshot", "rough-a", snapshotName="nosuch")
    assert [v["volumeName"] for v in site.call(
        "Volume.list", storageDomainID=site.storage_domain_id)] == ["rough-a", "rough-b"]  # fmt: skip


def test_without_the_monitors_a_domain_is_told_unreachable(rough: Rough) -> None:
    domain = {"storageDomainID": rough.site.storage_domain_id}
    rough.site.ceph.suspend_mon()
    try:
        stats = rough.site.call("StorageDomain.getStats", **domain)
        assert stats["reachable"] is False
        assert "monitors" in stats["reason"]
        error = error_of(rough.site.volume, "createSnapshot", "rough-b", snapshotName="s")
        assert error.name in ("CephUnavailable", "LockOwnerStalled")
    finally:
        rough.site.ceph.resume_mon()
    assert rough.site.call("StorageDomain.getStats", **domain)["reachable"] is True


# --- the daemon ---


def test_a_full_lane_is_told_at_once(
    rough: Rough, guest: Guest, connect: Callable[..., RecordingClient]
) -> None:
    """The site's queues have no room: a second agent call on a VM is refused while the first waits."""
    guest.command("agent-stop")
    mark = len(rough.site.daemon.log_text())
    waiting = threading.Thread(
        target=connect(rough.site.daemon).call,
        args=("VM.getFreezeStatus",),
        kwargs={"vmID": guest.uuid},
    )
    try:
        waiting.start()
        wait_for(rough.site.daemon, "START VM.getFreezeStatus", mark)
        error = error_of(rough.site.call, "VM.getFreezeStatus", vmID=guest.uuid)
        assert (error.code, error.data["lane"]) == (1100, "agent")
    finally:
        guest.command("agent-cont")
        waiting.join()


def test_a_hung_guest_does_not_delay_another(
    rough: Rough, guest: Guest, connect: Callable[..., RecordingClient]
) -> None:
    guest.command("agent-stop")
    client = connect(rough.site.daemon)
    # Frozen late, or not at all: either way its lease ends it.
    freeze = [("VM.freeze", {"vmID": guest.uuid, "timeout": 6})]
    hung = threading.Thread(target=client.batch, args=(freeze,))
    mark = len(rough.site.daemon.log_text())
    try:
        hung.start()
        wait_for(rough.site.daemon, "START VM.freeze", mark)
        began_s = time.monotonic()
        error_of(rough.site.call, "VM.freeze", vmID=uuid.uuid4())
        assert rough.site.call("VM.getInfo", vmID=guest.uuid)["state"] == "Up"
        assert time.monotonic() - began_s < 2
    finally:
        guest.command("agent-cont")
        hung.join()
    deadline_s = time.monotonic() + 15
    while guest_says(guest) != "thawed":
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


def test_a_stopping_daemon_ends_what_it_began_and_takes_nothing_new(
    rough: Rough,
    guest: Guest,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
) -> None:
    overrides = {"secrets": {"usage_prefix": "drain/"}}
    daemon = start_daemon("daemon-drain", uri=rough.libvirtd.uri, overrides=overrides)
    slow, late = connect(daemon), connect(daemon)
    late.call("Host.ping2")
    guest.command("agent-stop")
    outcome: list[Any] = []
    asking = threading.Thread(
        target=lambda: outcome.append(slow.call("VM.getFreezeStatus", vmID=guest.uuid))
    )
    asking.start()
    wait_for(daemon, "START VM.getFreezeStatus")
    stopping = threading.Thread(target=daemon.stop)
    stopping.start()
    wait_for(daemon, "stopping requests=1")
    error = error_of(late.call, "Host.ping2")
    assert (error.name, error.data["retry"]) == ("ShuttingDown", True)
    guest.command("agent-cont")
    asking.join()
    stopping.join()
    assert outcome[0]["guest"] in ("thawed", "unknown")
    assert "STOPPING=1" in daemon.notifications


def test_an_owner_can_thaw_while_the_daemon_is_stopping(
    rough: Rough,
    guest: Guest,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
) -> None:
    # So long it is refused what it has to wait for below.
    overrides = {"secrets": {"usage_prefix": "last/"}, "ceph": {"op_timeout_s": 10.0}}
    daemon = start_daemon("daemon-last", uri=rough.libvirtd.uri, overrides=overrides)
    client, slow = connect(daemon), connect(daemon)
    secret = secret_info(uuid.uuid4(), Sensitive(CEPHX_KEY), usageID="last/key")
    client.call("Host.registerSecrets", secrets=[secret])
    client.call("VM.freeze", vmID=guest.uuid, timeout=60)
    # Under way for some seconds: nobody answers at this address.
    settings = {"monitors": ["127.0.0.1:1"], "secretUUID": secret["uuid"]}
    settings = domain_settings(rough.site, storageDomainID=uuid.uuid4(), **settings)
    asking = threading.Thread(
        target=error_of, args=(slow.call, "StorageDomain.connect"), kwargs=settings
    )
    asking.start()
    wait_for(daemon, "START StorageDomain.connect")
    stopping = threading.Thread(target=daemon.stop)
    stopping.start()
    wait_for(daemon, "stopping requests=1")
    assert error_of(client.call, "Host.ping2").name == "ShuttingDown"
    assert connect(daemon).call("VM.thaw", vmID=guest.uuid)["intact"] is True
    asking.join()
    stopping.join()


def test_a_crash_leaves_secrets_that_the_next_start_clears(
    rough: Rough, start_daemon: Callable[..., Daemon], connect: Callable[..., RecordingClient]
) -> None:
    overrides = {"secrets": {"usage_prefix": "crash/"}}
    daemon = start_daemon("daemon-crash", uri=rough.libvirtd.uri, overrides=overrides)
    secret = secret_info(uuid.uuid4(), Sensitive(b"x"), usageID="crash/key")
    connect(daemon).call("Host.registerSecrets", secrets=[secret])
    daemon.kill()
    assert "crash/key" in rough.libvirtd.secret_usages()
    again = start_daemon("daemon-crash", uri=rough.libvirtd.uri, overrides=overrides)
    assert "crash/key" not in rough.libvirtd.secret_usages()
    assert json.dumps(connect(again).call("Host.listSecrets")) == "[]"
    again.stop()


@pytest.mark.parametrize("thaw_in_time", [True, False])
def test_a_killed_daemon_finds_its_leases_again(
    rough: Rough,
    guest: Guest,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    thaw_in_time: bool,
) -> None:
    overrides = {"secrets": {"usage_prefix": "again/"}}
    daemon = start_daemon("daemon-again", uri=rough.libvirtd.uri, overrides=overrides)
    window = connect(daemon).call("VM.freeze", vmID=guest.uuid, timeout=60 if thaw_in_time else 10)
    due_s = time.monotonic() + window["expiresIn"]
    daemon.kill()
    assert guest_says(guest) == "frozen"
    if not thaw_in_time:
        time.sleep(max(0.0, due_s - time.monotonic()))
    again = start_daemon("daemon-again", uri=rough.libvirtd.uri, overrides=overrides)
    client = connect(again)
    if thaw_in_time:
        lease = client.call("VM.getFreezeStatus", vmID=guest.uuid)["lease"]
        assert lease["windowID"] == window["windowID"]
        assert lease["owner"] == "unix:root"
        assert 30 < lease["expiresIn"] < 60
        result = client.call("VM.thaw", vmID=guest.uuid)
        assert (result["windowID"], result["intact"]) == (window["windowID"], False)
        assert result["reason"] == "the daemon was restarted"
    else:
        # How soon is promised, and measured, by tests/faults.
        deadline_s = time.monotonic() + 15
        # The record goes last, when the guest itself has said that it is thawed.
        while list((again.folder / "run/leases").iterdir()):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
    assert guest_says(guest) == "thawed"
    assert list((again.folder / "run/leases").iterdir()) == []
    again.stop()


def test_a_vm_that_ends_while_it_is_frozen_is_told(rough: Rough, guest: Guest) -> None:
    rough.site.call("VM.freeze", vmID=guest.uuid, timeout=60)
    with rough.libvirtd.connection() as connection:
        connection.lookupByUUIDString(guest.uuid).destroy()
        try:
            assert error_of(rough.site.call, "VM.thaw", vmID=guest.uuid).name == "NoSuchVM"
        finally:
            # For the fixture, which ends it.
            run_guest(connection, guest.spec, rough.state / "guests")
    assert rough.site.call("VM.freeze", vmID=guest.uuid, timeout=20)["filesystems"] == 2
    rough.site.call("VM.thaw", vmID=guest.uuid)


def test_libvirt_errors_reach_the_caller_and_not_stderr(rough: Rough) -> None:
    with pytest.raises(libvirt.libvirtError), rough.libvirtd.connection() as connection:
        connection.lookupByUUIDString(str(uuid.uuid4()))
    assert "libvirt: " not in rough.site.daemon.log_text()
