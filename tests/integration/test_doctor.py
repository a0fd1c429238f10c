"""`virtceph doctor` tells the truth about a real host, in bounded time, and changes nothing."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import libvirt
import pytest

from tests.integration.examined import (
    define_secret,
    define_vm,
    doctor_words,
    examine,
    virtceph,
    virtceph_as,
)
from tests.lab import user
from tests.lab.ceph import CephCluster
from tests.lab.domain_xml import FileDisk, RbdDisk
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.stack import IMAGE_BYTES, POOL, POOL2
from tests.lab.state import free_loopback_address

# Of everything: two rounds of guests, greetings, clusters and libvirt, on a busy machine.
BOUND_S = 60

Hand = Callable[..., UUID]
Define = Callable[..., None]


@pytest.fixture
def by_hand(connection: libvirt.virConnect, ceph: CephCluster) -> Iterator[Hand]:
    """Makes a cephx user and defines its key as a secret; `secret` for one that the test brings itself."""
    made: list[UUID] = []

    def make(
        user: str, *, mon: str = "profile rbd", osd: str = "profile rbd", key: str = "", **how: bool
    ) -> UUID:
        key = key or ceph.create_user(user, mon=mon, osd=osd)
        made.append(define_secret(connection, key, **how))
        return made[-1]

    yield make
    for ident in made:
        with contextlib.suppress(libvirt.libvirtError):
            connection.secretLookupByUUIDString(str(ident)).undefine()


@pytest.fixture
def define(connection: libvirt.virConnect) -> Iterator[Define]:
    """Defines VMs that are off."""
    made: list[libvirt.virDomain] = []

    def make(name: str, *disks: RbdDisk | FileDisk) -> None:
        made.append(define_vm(connection, name, *disks))

    yield make
    for domain in made:
        domain.undefine()


def disk(
    ceph: CephCluster,
    user: str,
    secret: UUID,
    *,
    pool: str = POOL,
    monitors: list[str] | None = None,
) -> RbdDisk:
    """A disk on an image that need not exist."""
    return RbdDisk(pool, "doctor", monitors or ceph.monitors, user, secret)


@pytest.fixture
def new_user() -> str:
    return f"doctor{uuid.uuid4().hex[:6]}"


def test_a_vm_that_can_be_snapshotted_is_told_so(
    libvirtd: PrivateLibvirtd,
    ceph: CephCluster,
    by_hand: Hand,
    new_user: str,
    make_guest: Callable[..., Guest],
) -> None:
    secret = by_hand(new_user)
    ceph.create_image(POOL, new_user, IMAGE_BYTES)
    guest = make_guest(disks=[RbdDisk(POOL, new_user, ceph.monitors, new_user, secret)])
    found = examine(libvirtd)
    vm = found.vm(guest.name)
    assert (vm["snapshot"], vm["agent"], vm["keys"]) == ("filesystem", "answers", ["ephemeral"])
    assert found.codes(f"vm {guest.name}") == {"vm-ready"}
    user = found.user(f"client.{new_user}")
    assert (user["pool"], user["read"], user["write"], user["blocklist"]) == (
        POOL,
        True,
        True,
        True,
    )
    cluster = next(row for row in found.answer["clusters"] if row["fsid"] == ceph.fsid)
    assert cluster["monitors"] == ceph.monitors
    assert 0 < cluster["latency"] < BOUND_S
    assert "secret-readable" in found.codes(f"secret {secret}")
    # It changed nothing: libvirt's own time-out, which is none, is the guest's again, and no mark is on it.
    state = (libvirtd.folder / f"run/qemu/{guest.name}.xml").read_text()
    assert "<agentTimeout>-2</agentTimeout>" in state
    assert "custom-ga-command" not in state


def test_a_guest_without_an_agents_channel_and_one_whose_agent_is_silent_are_told_apart(
    libvirtd: PrivateLibvirtd, make_guest: Callable[..., Guest]
) -> None:
    without, silent = make_guest(agent_channel=False), make_guest()
    silent.command("agent-stop")
    began_s = time.monotonic()
    try:
        found = examine(libvirtd)
        assert time.monotonic() - began_s < BOUND_S
    finally:
        state = (libvirtd.folder / f"run/qemu/{silent.name}.xml").read_text()
        silent.command("agent-cont")
        silent.wait_for_agent()
    assert "agent-absent" in found.codes(f"vm {without.name}")
    assert found.vm(without.name)["snapshot"] == "crash"
    vm = found.vm(silent.name)
    assert "agent-silent" in found.codes(f"vm {silent.name}"), vm["reason"]
    assert (vm["snapshot"], vm["agent"]) == ("crash", "silent")
    assert "does not answer" in vm["reason"]
    assert "<agentTimeout>-2</agentTimeout>" in state
    assert found.exit_code >= 1


def test_a_frozen_guest_is_told_and_stays_frozen(
    libvirtd: PrivateLibvirtd, make_guest: Callable[..., Guest]
) -> None:
    guest = make_guest()
    guest.domain.fsFreeze()
    try:
        found = examine(libvirtd)
        # It cannot be frozen a second time, so it still is.
        with pytest.raises(libvirt.libvirtError, match="has been disabled"):
            guest.domain.fsFreeze()
    finally:
        guest.domain.fsThaw()
    assert "guest-frozen" in found.codes(f"vm {guest.name}")


def test_a_persistent_secret_is_told_as_a_key_in_clear_with_its_file(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, by_hand: Hand, define: Define, new_user: str
) -> None:
    secret = by_hand(new_user, ephemeral=False)
    define(new_user, disk(ceph, new_user, secret))
    found = examine(libvirtd)
    told = found.finding("secret-persistent", f"secret {secret}")
    path = libvirtd.folder / f"etc/secrets/{secret}.base64"
    assert told["severity"] == "warning"
    assert "in clear" in told["sentence"]
    assert str(path) in told["sentence"]
    assert path.exists()
    assert found.vm(new_user)["keys"] == ["persistent"]
    assert str(secret) in told["advice"]
    assert "vm-off" in found.codes(f"vm {new_user}")


def test_no_key_is_ever_printed(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, by_hand: Hand, define: Define, new_user: str
) -> None:
    key = ceph.create_user(new_user)
    define(new_user, disk(ceph, new_user, by_hand(new_user, key=key, ephemeral=False)))
    for words in (["--json"], [], ["--suggest"]):
        done = virtceph(*doctor_words(libvirtd, ceph.conf), *words)
        assert key not in done.stdout + done.stderr


def test_a_key_of_a_private_secret_is_not_read_and_its_user_is_told_as_unknown(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, by_hand: Hand, define: Define, new_user: str
) -> None:
    define(new_user, disk(ceph, new_user, by_hand(new_user, private=True)))
    assert "caps-unknown" in examine(libvirtd).codes(f"client.{new_user}")
    # An administrator's keyring tells of it, and is told itself.
    found = examine(libvirtd, ceph.conf)
    assert found.codes(f"client.{new_user}") == set()
    assert "profile rbd" in found.user(f"client.{new_user}")["reason"]
    assert "admin-keyring" in found.codes("host")


def test_a_monitor_that_no_longer_exists_is_told_with_the_vms_that_name_it(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, by_hand: Hand, define: Define, new_user: str
) -> None:
    secret = by_hand(new_user)
    gone = f"{free_loopback_address((6789,))}:6789"
    define(new_user, disk(ceph, new_user, secret, monitors=[gone, *ceph.monitors]))
    define(f"{new_user}-b", disk(ceph, new_user, secret, monitors=[gone]))
    found = examine(libvirtd)
    told = found.finding("monitor-gone", f"monitor {gone}")
    assert f"{new_user}, {new_user}-b" in told["sentence"]
    assert ceph.monitors[0] in told["advice"]
    assert "monitors-all-gone" in found.codes(f"vm {new_user}-b")
    assert "monitors-all-gone" not in found.codes(f"vm {new_user}")
    assert found.exit_code == 2


def test_a_user_without_blocklist_without_write_and_without_the_pool_is_told_what_is_missing(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, by_hand: Hand, define: Define, new_user: str
) -> None:
    users = {part: f"{new_user}-{part}" for part in ("blocklist", "write", "read", "key")}
    secrets = {
        "blocklist": by_hand(users["blocklist"], mon="allow r"),
        "write": by_hand(users["write"], osd="profile rbd-read-only"),
        "read": by_hand(users["read"], osd=f"profile rbd pool={POOL2}"),
        # Of a user that was given another key since.
        "key": by_hand(users["key"], key=ceph.create_user(f"{new_user}-other")),
    }
    ceph.create_user(users["key"])
    for part, name in users.items():
        define(name, disk(ceph, name, secrets[part]))
    found = examine(libvirtd)
    codes = {part: found.codes(f"client.{name}") for part, name in users.items()}
    assert codes == {
        "blocklist": {"caps-blocklist"},
        "write": {"caps-write"},
        "read": {"caps-read"},
        "key": {"key-rejected"},
    }
    assert found.finding("caps-blocklist", f"client.{users['blocklist']}")["severity"] == "warning"
    row = found.user(f"client.{users['blocklist']}")
    assert (row["read"], row["write"], row["blocklist"]) == (True, True, False)


def test_a_pool_that_does_not_exist_is_told(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, by_hand: Hand, define: Define, new_user: str
) -> None:
    define(new_user, disk(ceph, new_user, by_hand(new_user), pool="nopool"))
    assert "pool-missing" in examine(libvirtd).codes(f"client.{new_user}")


def test_a_secret_that_is_not_there_is_told_with_its_vms(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, define: Define, new_user: str
) -> None:
    secret = uuid.uuid4()
    define(new_user, disk(ceph, new_user, secret))
    found = examine(libvirtd)
    assert new_user in found.finding("secret-missing", f"secret {secret}")["sentence"]
    assert found.vm(new_user)["keys"] == ["missing"]


def test_a_dead_cluster_a_silent_monitor_and_a_wrong_port_cost_one_bounded_wait(
    lab_state: Path,
    libvirtd: PrivateLibvirtd,
    ceph: CephCluster,
    by_hand: Hand,
    define: Define,
    new_user: str,
) -> None:
    dead = CephCluster.start(lab_state / f"ceph-{new_user}", with_mgr=False)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        try:
            secret = by_hand(new_user, key=dead.create_user(new_user))
            define(f"{new_user}-dead", disk(dead, new_user, secret))
            silent = f"127.0.0.1:{mute.getsockname()[1]}"
            define(f"{new_user}-mute", disk(ceph, new_user, by_hand(new_user), monitors=[silent]))
            dead.suspend_mon()
            began_s = time.monotonic()
            found = examine(libvirtd)
            assert time.monotonic() - began_s < BOUND_S
        finally:
            dead.mon.send(signal.SIGCONT)
            dead.stop()
    told = [
        f["sentence"]
        for f in found.answer["findings"]
        if f["code"] == "cluster-silent" and f["subject"] == f"cluster of client.{new_user}"
    ]
    assert any(f"{new_user}-dead" in text and "no answer" in text for text in told)
    assert any(f"{new_user}-mute" in text and silent in text for text in told)
    assert "monitor-unknown" in found.codes(f"monitor {silent}")
    assert found.exit_code == 2


def test_a_cluster_whose_osds_do_not_answer_is_told_in_bounded_time(
    lab_state: Path, libvirtd: PrivateLibvirtd, by_hand: Hand, define: Define, new_user: str
) -> None:
    halted = CephCluster.start(lab_state / f"ceph-{new_user}", with_mgr=False)
    try:
        halted.create_pool(POOL)
        define(
            new_user, disk(halted, new_user, by_hand(new_user, key=halted.create_user(new_user)))
        )
        halted.suspend_osd()
        began_s = time.monotonic()
        found = examine(libvirtd)
        assert time.monotonic() - began_s < BOUND_S
    finally:
        halted.osd.send(signal.SIGCONT)
        halted.stop()
    assert "pool-unasked" in found.codes(f"client.{new_user}")


def test_a_vm_with_file_disks_is_told_what_a_snapshot_of_it_would_be(
    libvirtd: PrivateLibvirtd, lab_state: Path, make_guest: Callable[..., Guest], new_user: str
) -> None:
    path = lab_state / f"{new_user}.img"
    path.touch()
    path.chmod(0o666)
    with path.open("r+b") as file:
        file.truncate(IMAGE_BYTES)
    guest = make_guest(disks=[FileDisk(path)])
    found = examine(libvirtd)
    assert {"disk-file", "no-rbd-disk"} <= found.codes(f"vm {guest.name}")
    assert str(path) in found.finding("disk-file", f"vm {guest.name}")["sentence"]
    vm = found.vm(guest.name)
    assert (vm["disks"], vm["snapshot"], vm["pools"]) == ({"file": 1}, "no", [])


def test_the_monitors_pace_is_told_to_administrators_and_what_it_costs(
    lab_state: Path,
    libvirtd: PrivateLibvirtd,
    by_hand: Hand,
    define: Define,
    new_user: str,
) -> None:
    slow = CephCluster.start(
        lab_state / f"ceph-{new_user}", paxos_propose_interval_s=None, with_mgr=False
    )
    try:
        slow.create_pool(POOL)
        define(new_user, disk(slow, new_user, by_hand(new_user, key=slow.create_user(new_user))))
        subject = f"cluster {slow.fsid}"
        assert "propose-unknown" in examine(libvirtd).codes(subject)
        told = examine(libvirtd, slow.conf).finding("propose-slow", subject)
    finally:
        slow.stop()
    assert "paxos_propose_interval is 1 s" in told["sentence"]
    assert "about 700 ms" in told["sentence"]


def test_what_it_suggests_is_toml_that_names_every_key_and_pool(
    libvirtd: PrivateLibvirtd, ceph: CephCluster, by_hand: Hand, define: Define, new_user: str
) -> None:
    secret = by_hand(new_user)
    gone = f"{free_loopback_address((6789,))}:6789"
    define(new_user, disk(ceph, new_user, secret, monitors=[gone, *ceph.monitors]))
    define(f"{new_user}-b", disk(ceph, new_user, secret, pool=POOL2))
    first, second = (virtceph(*doctor_words(libvirtd), "--suggest") for _ in range(2))
    assert first.stdout == second.stdout
    assert first.returncode == 0
    suggested = tomllib.loads(first.stdout)
    entry = next(e for e in suggested["secret"] if e["uuid"] == str(secret))
    assert entry["usage_id"] == f"ovirt/{new_user}"
    assert entry["key_file"] == f"/etc/virtceph/{new_user}.key"
    domains = [d for d in suggested["storage_domain"] if d["secret"] == str(secret)]
    assert {d["pool"] for d in domains} == {POOL, POOL2}
    for domain in domains:
        assert (domain["user"], domain["monitors"]) == (new_user, ceph.monitors)
        UUID(domain["uuid"])


def test_who_is_not_root_is_told_what_he_could_not_see_and_reads_no_key(
    lab_state: Path,
    libvirtd: PrivateLibvirtd,
    ceph: CephCluster,
    by_hand: Hand,
    define: Define,
    new_user: str,
    make_guest: Callable[..., Guest],
) -> None:
    guest = make_guest()
    define(new_user, disk(ceph, new_user, by_hand(new_user, ephemeral=False)))
    account = user.ensure()
    words = doctor_words(libvirtd)
    member = virtceph_as(user.NAME, user.NAME, lab_state, *words)
    assert member.stderr == ""
    assert account.uid
    assert (
        f"client.{new_user}: what it may do could not be asked: only root reads keys"
        in member.stdout
    )
    assert "/etc/secrets could not be looked at: only root may" in member.stdout
    # A member of the group that may use libvirt asks agents.
    assert f"vm {guest.name}: a consistent snapshot would work" in member.stdout
    stranger = virtceph_as("nobody", "nogroup", lab_state, *words)
    assert (stranger.returncode, stranger.stderr) == (1, "")
    assert "libvirt does not let this user in" in stranger.stdout
    suggested = virtceph_as("nobody", "nogroup", lab_state, *words, "--suggest")
    assert suggested.returncode == 1


def test_a_libvirt_that_is_not_there_or_hangs_is_told(libvirtd: PrivateLibvirtd) -> None:
    words = doctor_words(libvirtd)
    words[words.index("--connect") + 1] = "qemu+unix:///system?socket=/nonexistent/sock"
    done = virtceph(*words)
    assert done.returncode == 2
    assert "libvirt does not answer" in done.stdout
    libvirtd.suspend()
    try:
        began_s = time.monotonic()
        done = virtceph(*doctor_words(libvirtd))
        assert time.monotonic() - began_s < BOUND_S
    finally:
        libvirtd.resume()
    assert done.returncode == 2
    assert "no answer within" in done.stdout
