"""Without an engine: the keys and storage domains of the configuration, and VMs that waited for a key."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.waiting import until
from tests.integration.recorder import Recording, RecordingClient
from tests.integration.site import secret_info
from tests.lab import user
from tests.lab.ceph import CephCluster
from tests.lab.daemon import Daemon
from tests.lab.domain_xml import GuestPaths, GuestSpec, RbdDisk, domain_xml
from tests.lab.errors import NotReady
from tests.lab.guest_build import guest_files
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.stack import IMAGE_BYTES, POOL
from virtceph.sensitive import Sensitive

# A host without an engine keeps its keys apart from what an engine would clear.
PREFIX = "site/"


@dataclass
class Lone:
    """A host of its own, with a key in a file and no engine."""

    libvirtd: PrivateLibvirtd
    ceph: CephCluster
    start: Callable[..., Daemon]
    name: str
    secret: uuid.UUID
    domain: uuid.UUID
    key: str

    @property
    def user(self) -> str:
        return f"{self.name}-user"


@pytest.fixture
def host(lab_state: Path, ceph: CephCluster, start_daemon: Callable[..., Daemon]) -> Iterator[Lone]:
    name = f"lone-{uuid.uuid4().hex[:6]}"
    libvirtd = PrivateLibvirtd.start(lab_state / f"h-{name}", name)
    made = Lone(
        libvirtd,
        ceph,
        start_daemon,
        name,
        uuid.uuid4(),
        uuid.uuid4(),
        ceph.create_user(f"{name}-user"),
    )
    key_file = lab_state / f"{name}.key"
    key_file.touch(mode=0o640)
    key_file.write_text(f"{made.key}\n")
    os.chown(key_file, 0, user.ensure().gid)
    secret = {"uuid": str(made.secret), "usage_id": f"{PREFIX}web", "key_file": str(key_file)}
    domain = {
        "uuid": str(made.domain),
        "monitors": list(ceph.monitors),
        "pool": POOL,
        "user": made.user,
        "secret": str(made.secret),
    }
    overrides = {
        "secrets": {"usage_prefix": PREFIX},
        "secret": [secret],
        "storage_domain": [domain],
    }

    def start(**more: Any) -> Daemon:
        return start_daemon(name, uri=libvirtd.uri, overrides={**overrides, **more})

    made.start = start
    yield made
    libvirtd.stop()


def connected(client: RecordingClient) -> list[str]:
    return [found["storageDomainID"] for found in client.call("StorageDomain.list")]


def health(daemon: Daemon) -> dict[str, Any]:
    argv = ["curl", "-s", "--unix-socket", str(daemon.socket), "http://localhost/healthz"]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=30)
    return dict(json.loads(done.stdout))


def test_its_key_is_there_before_it_serves_and_its_domain_soon_after(
    host: Lone, connect: Callable[..., RecordingClient], recording: Recording
) -> None:
    daemon = host.start()
    client = connect(daemon)
    (listed,) = client.call("Host.listSecrets")
    assert (listed["uuid"], listed["usageID"]) == (str(host.secret), f"{PREFIX}web")
    until(lambda: connected(client) == [str(host.domain)], 20)
    place = {"storageDomainID": host.domain, "volumeName": f"{host.name}-volume"}
    client.call("Volume.create", **place, size=1 << 20)
    client.call("Volume.delete", **place)
    assert host.key not in daemon.log_text()
    daemon.stop()
    assert host.libvirtd.secret_usages() == []


def test_an_engine_that_clears_all_others_leaves_it(
    host: Lone, connect: Callable[..., RecordingClient]
) -> None:
    client = connect(host.start())
    engines = secret_info(uuid.uuid4(), Sensitive(b"k" * 16), usageID=f"{PREFIX}engine")
    client.call("Host.registerSecrets", secrets=[engines])
    client.call("Host.registerSecrets", secrets=[], clear=True)
    assert host.libvirtd.secret_usages() == [f"{PREFIX}web"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_it_is_there_again_after_a_restart_of_the_daemon_and_of_libvirt(
    host: Lone, connect: Callable[..., RecordingClient], end: str
) -> None:
    getattr(host.start(), end)()
    # A reboot: nothing of the runtime directory is left.
    shutil.rmtree(host.libvirtd.folder.parent / host.name / "run")
    client = connect(host.start())
    assert host.libvirtd.secret_usages() == [f"{PREFIX}web"]
    until(lambda: connected(client) == [str(host.domain)], 20)
    host.libvirtd.kill()
    host.libvirtd.restart()
    until(lambda: host.libvirtd.secret_usages() == [f"{PREFIX}web"], 5)


def test_a_domain_whose_cluster_is_away_at_the_start_is_connected_when_it_is_back(
    host: Lone, lab_state: Path, connect: Callable[..., RecordingClient]
) -> None:
    away = CephCluster.start(lab_state / f"ceph-{host.name}")
    away.create_pool(POOL)
    key = away.create_user(host.user)
    key_file = lab_state / f"{host.name}.key"
    key_file.write_text(f"{key}\n")
    domain = {
        "uuid": str(host.domain),
        "monitors": list(away.monitors),
        "pool": POOL,
        "user": host.user,
        "secret": str(host.secret),
    }
    away.suspend_mon()
    try:
        daemon = host.start(storage_domain=[domain])
        client = connect(daemon)
        until(lambda: "configured storage domain not connected" in daemon.log_text(), 30)
        assert connected(client) == []
        (told,) = health(daemon)["storageDomains"]
        assert (told["storageDomainID"], told["reachable"]) == (str(host.domain), False)
        assert told["reason"]
    finally:
        away.resume_mon()
    until(lambda: connected(client) == [str(host.domain)], 60)
    until(lambda: health(daemon)["status"] == "well", 10)
    daemon.stop()
    away.stop()


@pytest.mark.parametrize(
    ("break_it", "told"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.chmod(0o644), "everybody may read it"),
        (lambda path: path.write_text("no key"), "secret[0].key_file: expected"),
    ],
    ids=["missing", "readable", "wrong"],
)
def test_a_key_that_cannot_be_had_stops_the_start_and_says_which(
    host: Lone, lab_state: Path, break_it: Callable[[Path], Any], told: str
) -> None:
    break_it(lab_state / f"{host.name}.key")
    with pytest.raises(NotReady, match=r"secret\[0\]\.key_file") as caught:
        host.start()
    assert told in str(caught.value)
    assert host.libvirtd.secret_usages() == []


def test_a_secret_that_an_administrator_keeps_is_not_replaced(host: Lone) -> None:
    xml = (
        f"<secret ephemeral='no' private='yes'><uuid>{host.secret}</uuid>"
        "<usage type='ceph'><name>theirs</name></usage></secret>"
    )
    with host.libvirtd.connection() as connection:
        connection.secretDefineXML(xml).setValue(b"theirs")
        with pytest.raises(NotReady, match=str(host.secret)):
            host.start()
    assert host.libvirtd.secret_usages() == ["theirs"]


# --- VMs that waited for the key ---


def defined(host: Lone, folder: Path) -> str:
    """A VM with a disk that needs the host's key, which libvirt was to start by itself and could not."""
    image = f"{host.name}-disk"
    host.ceph.create_image(POOL, image, IMAGE_BYTES)
    spec = GuestSpec(
        f"{host.name}-vm", [RbdDisk(POOL, image, host.ceph.monitors, host.user, host.secret)]
    )
    folder.mkdir(mode=0o755, exist_ok=True)
    with host.libvirtd.connection() as connection:
        domain = connection.defineXML(
            domain_xml(spec, guest_files(), GuestPaths.under(folder, spec))
        )
        domain.setAutostart(1)
    # As a boot does.
    host.libvirtd.terminate()
    for marker in (host.libvirtd.folder / "run").rglob("autostarted"):
        marker.unlink()
    host.libvirtd.restart()
    return spec.name


def is_running(host: Lone, name: str) -> bool:
    with host.libvirtd.connection() as connection:
        return bool(connection.lookupByName(name).isActive())


def test_a_vm_that_waited_for_the_key_is_started_once_per_boot(host: Lone, lab_state: Path) -> None:
    name = defined(host, lab_state / "guests")
    assert not is_running(host, name)
    daemon = host.start()
    until(lambda: is_running(host, name), 30)
    until(lambda: "started a VM whose key was missing at boot" in daemon.log_text(), 10)
    daemon.stop()
    # Its owner ends it: that is not ours to undo.
    with host.libvirtd.connection() as connection:
        connection.lookupByName(name).destroy()
    daemon = host.start()
    time.sleep(2)
    assert not is_running(host, name)


def test_a_vm_that_was_never_started_by_itself_is_left_alone(host: Lone, lab_state: Path) -> None:
    name = defined(host, lab_state / "guests")
    with host.libvirtd.connection() as connection:
        connection.lookupByName(name).setAutostart(0)
    daemon = host.start()
    time.sleep(2)
    assert not is_running(host, name)
    daemon.stop()


def test_nothing_is_started_where_the_configuration_says_so(host: Lone, lab_state: Path) -> None:
    name = defined(host, lab_state / "guests")
    host.start(libvirt={"autostart": False})
    time.sleep(2)
    assert not is_running(host, name)


# --- a process of its own that keeps the secrets, as virtsecretd is ---


def test_keys_are_back_when_what_keeps_them_was_away_and_vms_notice_nothing(
    host: Lone, lab_state: Path, connect: Callable[..., RecordingClient]
) -> None:
    keeper = PrivateLibvirtd.start(lab_state / f"h-{host.name}-keys", "keys")
    uri = f"secret+unix:///system?socket={keeper.socket}"
    daemon = host.start(libvirt={"secret_uri": uri})
    client = connect(daemon)

    assert (keeper.secret_usages(), host.libvirtd.secret_usages()) == ([f"{PREFIX}web"], [])
    for end in ("kill", "terminate"):
        getattr(keeper, end)()
        client.call("Host.getVMList")
        keeper.restart()
        until(lambda: keeper.secret_usages() == [f"{PREFIX}web"], 5)
    assert "libvirt lost" in daemon.log_text()
    # What runs VMs was never away.
    host.libvirtd.kill()
    host.libvirtd.restart()
    until(lambda: "libvirt back" in daemon.log_text(), 10)
    client.call("Host.getVMList")
    daemon.stop()
    assert keeper.secret_usages() == []
    keeper.stop()
