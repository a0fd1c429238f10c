"""Freeze, thaw and their status on a real guest with the real agent."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from tests.integration.conftest import Site
from tests.integration.recorder import RecordingClient, error_of
from tests.lab import user
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from virtceph.schema import load_contract


def guest_says(guest: Guest) -> str:
    """`frozen` or `thawed`, asked past the daemon."""
    answer = libvirt_qemu.qemuAgentCommand(
        guest.domain, '{"execute":"guest-fsfreeze-status"}', 5, 0
    )
    return str(json.loads(answer)["return"])


def wait_until_thawed(guest: Guest, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while guest_says(guest) != "thawed":
        assert time.monotonic() < deadline_s, "still frozen"
        time.sleep(0.1)


def sleep_out(guest: Guest, freeze: dict[str, Any]) -> None:
    """Wait for the end of a freeze's lease, and until the guest is thawed, as is promised."""
    # It asks the guest by this module's `guest_says`.
    from tests.faults.pace import require_thawed_by

    due_s = time.monotonic() + freeze["expiresIn"]
    time.sleep(freeze["expiresIn"])
    require_thawed_by(guest, due_s)


@pytest.fixture
def down(connection: libvirt.virConnect) -> Iterator[str]:
    """A VM that is defined and off."""
    ident = str(uuid.uuid4())
    xml = f"<domain type='qemu'><name>off</name><uuid>{ident}</uuid><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"  # noqa: E501
    domain = connection.defineXML(xml)
    yield ident
    domain.undefine()


VERBS = load_contract().verbs


def others(verb: str, site: Site) -> dict[str, Any]:
    """What a verb has to be given besides the VM."""
    known: dict[str, Any] = {"snapshotName": "any", "keepLast": 1, "newSize": 1 << 30}
    params = {param.name for param in VERBS[verb].params}
    # A disk is named by its volume, or else by its target.
    volume = {"storageDomainID": site.storage_domain_id, "volumeName": "any"}
    known |= volume if "volumeName" in params else {"disk": "vda"}
    return {name: known[name] for name in params if name in known}


@pytest.mark.parametrize("verb", [v.name for v in VERBS.values() if "NoSuchVM" in v.errors])
def test_an_unknown_vm_is_error_1_with_its_id(site: Site, verb: str) -> None:
    unknown = str(uuid.uuid4())
    error = error_of(site.call, verb, vmID=unknown, **others(verb, site))
    assert error.code == 1
    assert error.message == f"Virtual machine does not exist: {{'vmId': '{unknown}'}}"


@pytest.mark.parametrize("verb", [v.name for v in VERBS.values() if "VMDown" in v.errors])
def test_a_vm_that_is_off_is_error_6(site: Site, verb: str, down: str) -> None:
    error = error_of(site.call, verb, vmID=down, **others(verb, site))
    assert (error.code, error.name) == (6, "VMDown")


def test_a_vm_that_is_off_is_listed_as_down(site: Site, down: str) -> None:
    assert site.call("VM.getInfo", vmID=down)["state"] == "Down"
    assert {v["vmId"]: v["status"] for v in site.call("Host.getVMList")}[down] == "Down"


def test_freeze_then_thaw_tells_how_many_how_long_and_that_it_held(
    site: Site, thawed: Guest
) -> None:
    frozen = site.call("VM.freeze", vmID=thawed.uuid, timeout=20)
    assert frozen["filesystems"] == 2
    assert 0 < frozen["expiresIn"] <= 20
    assert guest_says(thawed) == "frozen"
    status = site.call("VM.getFreezeStatus", vmID=thawed.uuid)
    assert status["guest"] == "frozen"
    assert status["lease"]["windowID"] == frozen["windowID"]
    assert status["lease"]["owner"] == "unix:root"
    result = site.call("VM.thaw", vmID=thawed.uuid)
    assert (result["windowID"], result["filesystems"]) == (frozen["windowID"], 2)
    assert result["intact"] is True
    assert 0 < result["frozenFor"] < 20
    assert guest_says(thawed) == "thawed"
    assert site.call("VM.getFreezeStatus", vmID=thawed.uuid) == {"guest": "thawed"}


def test_a_guest_stands_still_while_it_is_frozen(site: Site, thawed: Guest) -> None:
    thawed.wait_for_records(3)
    with site.client.frozen(thawed.uuid, 20.0):
        time.sleep(0.3)  # what was acknowledged just before may still be on its way
        before = len(thawed.acknowledged())
        time.sleep(1.0)
        assert len(thawed.acknowledged()) == before
    thawed.wait_for_records(3)


def test_a_second_freeze_by_its_owner_succeeds_and_never_shortens(
    site: Site, thawed: Guest
) -> None:
    first = site.call("VM.freeze", vmID=thawed.uuid, timeout=30)
    second = site.call("VM.freeze", vmID=thawed.uuid, timeout=1)
    assert second["windowID"] == first["windowID"]
    assert second["expiresIn"] > 20
    assert site.call("VM.freeze", vmID=thawed.uuid, timeout=60)["expiresIn"] > 50


def test_a_lease_that_runs_out_is_thawed_by_the_daemon(site: Site, thawed: Guest) -> None:
    sleep_out(thawed, site.call("VM.freeze", vmID=thawed.uuid, timeout=6))


def test_a_snapshot_under_a_lease_that_ran_out_is_refused_until_the_caller_thaws(
    site: Site, thawed: Guest
) -> None:
    sleep_out(thawed, site.call("VM.freeze", vmID=thawed.uuid, timeout=6))
    snapshot = {"vmID": thawed.uuid, "frozen": True, "snapDrives": []}
    error = error_of(site.call, "VM.snapshot", **snapshot)
    assert (error.code, error.name) == (48, "SnapshotFailed")
    assert error.data["reason"].startswith("the lease ran out ")
    site.call("VM.thaw", vmID=thawed.uuid)
    assert site.call("VM.snapshot", **snapshot) is True


def test_an_extended_lease_lasts_longer(site: Site, thawed: Guest) -> None:
    window = site.call("VM.freeze", vmID=thawed.uuid, timeout=10)
    first_due_s = time.monotonic() + window["expiresIn"]
    extended = site.call("VM.extendFreeze", vmID=thawed.uuid, timeout=30)
    assert extended["windowID"] == window["windowID"]
    assert 25 < extended["expiresIn"] <= 30
    time.sleep(max(0.0, first_due_s + 0.5 - time.monotonic()))
    assert guest_says(thawed) == "frozen"
    assert site.call("VM.thaw", vmID=thawed.uuid)["intact"] is True
    error = error_of(site.call, "VM.extendFreeze", vmID=thawed.uuid, timeout=30)
    assert (error.code, error.name) == (76, "NotFrozen")


def test_only_its_owner_extends_a_freeze(site: Site, thawed: Guest) -> None:
    site.call("VM.freeze", vmID=thawed.uuid, timeout=30)
    error = as_member(site, "VM.extendFreeze", vmID=thawed.uuid, timeout=60)["error"]
    assert error["data"]["error"] == "FrozenByAnother"


@pytest.fixture
def unwritable(site: Site) -> Iterator[Callable[[], None]]:
    """Makes the daemon's folder of lease records one that it may not write to."""
    folder = site.daemon.folder / "run/leases"
    folder.mkdir(exist_ok=True)
    before = folder.stat()

    def forbid() -> None:
        os.chown(folder, 0, 0)
        folder.chmod(0o555)

    yield forbid
    account = user.ensure()
    os.chown(folder, account.uid, account.gid)
    folder.chmod(before.st_mode & 0o777)


def test_a_freeze_that_cannot_be_recorded_is_refused_and_the_guest_not_asked(
    site: Site, thawed: Guest, unwritable: Callable[[], None]
) -> None:
    unwritable()
    error = error_of(site.call, "VM.freeze", vmID=thawed.uuid, timeout=20)
    assert (error.code, error.name) == (76, "FreezeFailed")
    assert "recorded" in error.data["reason"]
    assert guest_says(thawed) == "thawed"


def test_a_longer_lease_that_cannot_be_recorded_leaves_the_old_one(
    site: Site, thawed: Guest, unwritable: Callable[[], None]
) -> None:
    site.call("VM.freeze", vmID=thawed.uuid, timeout=20)
    unwritable()
    error = error_of(site.call, "VM.extendFreeze", vmID=thawed.uuid, timeout=300)
    assert error.name == "FreezeFailed"
    assert site.call("VM.getFreezeStatus", vmID=thawed.uuid)["lease"]["expiresIn"] <= 20


def test_no_time_given_means_the_eight_minutes_engines_assume(site: Site, thawed: Guest) -> None:
    assert 470 < site.call("VM.freeze", vmID=thawed.uuid)["expiresIn"] <= 480


@pytest.mark.parametrize("timeout", [0, -1, 601])
def test_an_impossible_lease_is_refused(site: Site, thawed: Guest, timeout: float) -> None:
    error = error_of(site.call, "VM.freeze", vmID=thawed.uuid, timeout=timeout)
    assert (error.code, error.data["field"]) == (91, "timeout")
    assert guest_says(thawed) == "thawed"


def test_thawing_a_guest_that_is_not_frozen_succeeds(site: Site, thawed: Guest) -> None:
    result = site.call("VM.thaw", vmID=thawed.uuid)
    assert (result["filesystems"], result["intact"]) == (0, False)
    assert "windowID" not in result


def as_member(site: Site, method: str, **params: Any) -> Any:
    """The same call by a member of the daemon's group that is not root; the answer as it came."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    account = ["setpriv", "--reuid", user.NAME, "--regid", user.NAME, "--clear-groups"]
    curl = ["curl", "-s", "--unix-socket", str(site.daemon.socket), "-d", json.dumps(body)]
    done = subprocess.run(
        [*account, *curl, "http://localhost/jsonrpc"], capture_output=True, check=True, timeout=60
    )
    answer = json.loads(done.stdout)
    site.recording.note(method, {}, answer)
    return answer


def test_another_caller_can_neither_freeze_nor_thaw_without_force(
    site: Site, thawed: Guest
) -> None:
    site.call("VM.freeze", vmID=thawed.uuid, timeout=30)
    error = as_member(site, "VM.freeze", vmID=thawed.uuid)["error"]
    assert (error["code"], error["data"]["owner"]) == (76, "unix:root")
    assert error["data"]["error"] == "FrozenByAnother"
    error = as_member(site, "VM.thaw", vmID=thawed.uuid)["error"]
    assert (error["code"], error["data"]["error"]) == (77, "ThawNeedsForce")
    assert guest_says(thawed) == "frozen"
    result = as_member(site, "VM.thaw", vmID=thawed.uuid, force=True)["result"]
    assert result["intact"] is False
    assert "force" in result["reason"]


def test_a_guest_frozen_by_somebody_else_is_told(site: Site, thawed: Guest) -> None:
    thawed.domain.fsFreeze()
    error = error_of(site.call, "VM.freeze", vmID=thawed.uuid, timeout=20)
    assert (error.code, error.name) == (76, "AlreadyFrozen")
    # It is not ours: it stays as it is until somebody says so.
    assert guest_says(thawed) == "frozen"
    assert site.call("VM.thaw", vmID=thawed.uuid)["filesystems"] == 2


def test_a_paused_vm_is_told_and_thawed_once_it_runs_again(site: Site, thawed: Guest) -> None:
    thawed.domain.suspend()
    error = error_of(site.call, "VM.freeze", vmID=thawed.uuid, timeout=20)
    assert (error.code, error.name) == (76, "FreezePaused")
    status = site.call("VM.getFreezeStatus", vmID=thawed.uuid)
    assert status["guest"] == "unknown"
    assert "paused" in status["reason"]
    thawed.domain.resume()
    site.call("VM.freeze", vmID=thawed.uuid, timeout=60)
    thawed.domain.suspend()
    error = error_of(site.call, "VM.thaw", vmID=thawed.uuid)
    assert (error.code, error.name) == (77, "ThawPaused")
    # It was not resumed behind its owner's back, and is thawed once he does.
    assert thawed.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED
    thawed.domain.resume()
    wait_until_thawed(thawed, 15)


def test_a_vm_without_agent_channel_is_told(site: Site, make_guest: Callable[..., Guest]) -> None:
    guest = make_guest(disks=[], agent_channel=False)
    error = error_of(site.call, "VM.freeze", vmID=guest.uuid, timeout=20)
    assert (error.code, error.name) == (76, "FreezeNoAgent")
    error = error_of(site.call, "VM.thaw", vmID=guest.uuid)
    assert (error.code, error.name) == (77, "ThawNoAgent")
    assert site.call("VM.getInfo", vmID=guest.uuid)["agent"] == "absent"


def test_a_guest_with_nothing_to_freeze_is_told(
    site: Site, make_guest: Callable[..., Guest]
) -> None:
    guest = make_guest(disks=[])
    guest.wait_for_agent()
    error = error_of(site.call, "VM.freeze", vmID=guest.uuid, timeout=20)
    assert (error.code, error.name) == (76, "NothingFrozen")
    assert guest_says(guest) == "thawed"


def test_a_silent_agent_is_told_in_time_and_the_late_freeze_undone(
    site: Site, thawed: Guest
) -> None:
    """The agent stops between the question about its file systems and the freeze: libvirt gives up,
    and when the agent wakes the guest freezes all the same."""
    thawed.command("agent-stop")
    began_s = time.monotonic()
    error = error_of(site.call, "VM.freeze", vmID=thawed.uuid, timeout=8)
    assert (error.code, error.name) == (19, "GuestAgentUnresponsive")
    assert time.monotonic() - began_s < 8
    error = error_of(site.call, "VM.thaw", vmID=thawed.uuid)
    assert (error.code, error.name) == (19, "GuestAgentUnresponsive")
    assert site.call("VM.getFreezeStatus", vmID=thawed.uuid)["guest"] == "unknown"
    thawed.command("agent-cont")
    wait_until_thawed(thawed, 20)
    time.sleep(2)
    assert guest_says(thawed) == "thawed"
    thawed.wait_for_records(3)


def test_a_dead_agent_is_told_at_once(site: Site, thawed: Guest) -> None:
    thawed.command("agent-kill")
    try:
        error = error_of(site.call, "VM.freeze", vmID=thawed.uuid, timeout=20)
        assert error.name == "GuestAgentUnresponsive"
    finally:
        thawed.command("agent-start")
        thawed.wait_for_agent()


def test_a_refusal_is_told_with_libvirts_own_words(
    site: Site,
    thawed: Guest,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    libvirtd: PrivateLibvirtd,
) -> None:
    """A daemon that was given libvirt's read-only socket may look and not touch."""
    read_only = libvirtd.socket.with_name("libvirt-sock-ro")
    daemon = start_daemon(
        "looks-only",
        uri=f"qemu+unix:///system?socket={read_only}",
        overrides={"secrets": {"usage_prefix": "looks/"}},
    )
    client = connect(daemon)
    error = error_of(client.call, "VM.freeze", vmID=thawed.uuid, timeout=20)
    assert (error.code, error.name) == (76, "FreezeFailed")
    error = error_of(client.call, "VM.thaw", vmID=thawed.uuid)
    assert (error.code, error.name) == (77, "ThawFailed")
    assert "read only" in error.data["reason"]
    assert guest_says(thawed) == "thawed"


def test_stopping_the_daemon_thaws_what_it_froze(
    thawed: Guest,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
) -> None:
    daemon = start_daemon("stops", overrides={"secrets": {"usage_prefix": "stops/"}})
    connect(daemon).call("VM.freeze", vmID=thawed.uuid, timeout=300)
    assert guest_says(thawed) == "frozen"
    daemon.stop()
    assert guest_says(thawed) == "thawed"
