"""One daemon on the real lab for the whole run, reached through the client library."""

from __future__ import annotations

import base64
import os
import secrets
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt
import pytest

from tests.integration.datawork import *  # noqa: F403
from tests.integration.datawork import remove_if_there
from tests.integration.filled import diffs, filled_image, second  # noqa: F401
from tests.integration.recorder import RECORDING, Recording, RecordingClient
from tests.integration.sampled import SAMPLED, Sampled
from tests.integration.site import Site, domain_settings, secret_info
from tests.integration.told import Told
from tests.lab import user
from tests.lab.ceph import CephCluster
from tests.lab.daemon import Daemon, Settings
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.fixtures import *  # noqa: F403
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.pki import LabPki
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL
from tests.lab.state import free_port
from tests.lab.template import run_guest
from tests.parts import LOOKING_BACK, SEEN
from virtceph.sensitive import Sensitive


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks back on the whole run comes last."""
    last = {stem: place for place, stem in enumerate(LOOKING_BACK, 1)}
    items.sort(key=lambda item: last.get(item.path.stem, 0))


def pytest_sessionfinish() -> None:
    """Whether all was seen is asked when all parts of the tests have ended."""
    if folder := os.environ.get(SEEN):
        RECORDING.keep(Path(folder))


@pytest.fixture(scope="session")
def recording() -> Recording:
    # The tests of faults have fixtures of their own by these names, and what they see counts too.
    return RECORDING


@pytest.fixture(scope="session")
def canary() -> bytes:
    """A random secret of this run, which must turn up nowhere."""
    return secrets.token_bytes(24)


@pytest.fixture(scope="session", autouse=True)
def sampled(canary: bytes) -> Iterator[Sampled]:
    """Where keys of this run stand in arguments and environments of processes."""
    SAMPLED.look_for(canary)
    SAMPLED.begin()
    yield SAMPLED
    SAMPLED.end()


@pytest.fixture(scope="session")
def exchange(lab_state: Path) -> Path:
    return lab_state / "exchange"


@pytest.fixture(scope="session")
def told_by() -> dict[int, Told]:
    """What each daemon of this run told, by its process."""
    return {}


@pytest.fixture(scope="session")
def start_daemon(
    lab_state: Path,
    libvirtd: PrivateLibvirtd,
    exchange: Path,
    recording: Recording,
    told_by: dict[int, Told],
) -> Iterator[Callable[..., Daemon]]:
    """Starts a daemon of this run; it is ended with the run at the latest."""
    started: list[Daemon] = []

    def start(
        name: str, *, uri: str = libvirtd.uri, overrides: Settings | None = None, **options: Any
    ) -> Daemon:
        started.append(
            Daemon.start(
                lab_state / name, libvirt_uri=uri, exchange=exchange, overrides=overrides, **options
            )
        )
        told_by[started[-1].pid] = Told(started[-1], recording)
        return started[-1]

    yield start
    for daemon in started:
        daemon.kill()


@pytest.fixture(scope="session")
def pki(lab_state: Path) -> LabPki:
    """The certificates of this run's host, and of those that call it."""
    return LabPki.make(lab_state / "pki")


@pytest.fixture(scope="session")
def stomp(pki: LabPki) -> tuple[str, int]:
    """Where engines reach the daemon of this run."""
    return "127.0.0.1", free_port()


@pytest.fixture(scope="session")
def https() -> tuple[str, int]:
    """Where it is reached over HTTP and TLS."""
    return "127.0.0.1", free_port()


@pytest.fixture(scope="session")
def daemon(
    start_daemon: Callable[..., Daemon],
    pki: LabPki,
    stomp: tuple[str, int],
    https: tuple[str, int],
) -> Daemon:
    return start_daemon("daemon", overrides=pki.settings(stomp[1], https_port=https[1]))


@pytest.fixture
def told(site: Site, told_by: dict[int, Told]) -> Told:
    """What the shared daemon tells."""
    return told_by[site.daemon.pid]


@pytest.fixture(scope="session")
def connect(recording: Recording) -> Iterator[Callable[..., RecordingClient]]:
    """Opens recorded clients."""
    opened: list[RecordingClient] = []

    def connect(daemon: Daemon, **options: Any) -> RecordingClient:
        client = RecordingClient(str(daemon.socket), recording, **options)
        client.open()
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def new_site(
    daemon: Daemon, client: RecordingClient, ceph: CephCluster, key: str, recording: Recording
) -> Site:
    """Register the key with a daemon and connect the lab's pool."""
    SAMPLED.look_for(base64.b64decode(key))
    ids = uuid.uuid4(), uuid.uuid4()
    site = Site(client, daemon, *ids, ceph, recording)
    secret = secret_info(site.secret_uuid, Sensitive(b""))
    secret["password"] = key
    client.call("Host.registerSecrets", secrets=[secret])
    client.call("StorageDomain.connect", **domain_settings(site))
    return site


@pytest.fixture(scope="session")
def site(
    daemon: Daemon,
    connect: Callable[..., RecordingClient],
    ceph: CephCluster,
    ceph_key: str,
    recording: Recording,
) -> Site:
    return new_site(daemon, connect(daemon), ceph, ceph_key, recording)


@pytest.fixture
def secret_uuid(site: Site) -> UUID:
    """The secret that guests' disks name: the one the daemon registered."""
    return site.secret_uuid


@pytest.fixture(scope="session")
def shared_connection(libvirtd: PrivateLibvirtd) -> Iterator[libvirt.virConnect]:
    with libvirtd.connection() as opened:
        yield opened


@pytest.fixture(scope="session")
def vm(lab_state: Path, shared_connection: libvirt.virConnect, site: Site) -> Iterator[Guest]:
    """A guest with two RBD disks, shared by the tests that leave it as it was."""
    yield from shared_vm(lab_state, shared_connection, site)


def shared_vm(lab_state: Path, connection: libvirt.virConnect, site: Site) -> Iterator[Guest]:
    """That guest, from its start to its end."""
    disks = []
    for name in ("shared-a", "shared-b"):
        site.ceph.create_image(POOL, name, IMAGE_BYTES)
        disks.append(RbdDisk(POOL, name, site.ceph.monitors, CEPH_USER, site.secret_uuid))
    guest = run_guest(connection, GuestSpec("shared", disks), lab_state / "guests")
    guest.wait_for_agent()
    yield guest
    guest.destroy()


@pytest.fixture
def thawed(vm: Guest, site: Site) -> Iterator[Guest]:
    """The shared guest, thawed and running after the test."""
    yield vm
    if vm.domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED:
        vm.domain.resume()
    site.call("VM.thaw", vmID=vm.uuid, force=True)


@pytest.fixture
def image(site: Site) -> Iterator[str]:
    """An empty image of 32 MiB that nobody has open."""
    name = f"image-{uuid.uuid4().hex[:8]}"
    site.volume("create", name, size=32 << 20)
    yield name
    with site.ceph.pool(POOL) as ioctx:
        remove_if_there(ioctx, name)


@dataclass
class Rough:
    """A site of its own, for tests that stop and kill what others share."""

    site: Site
    libvirtd: PrivateLibvirtd
    state: Path

    @property
    def disks(self) -> list[RbdDisk]:
        ceph = self.site.ceph
        return [
            RbdDisk(POOL, name, ceph.monitors, CEPH_USER, self.site.secret_uuid)
            for name in ("rough-a", "rough-b")
        ]


@pytest.fixture(scope="session")
def rough(
    lab_state: Path,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
    recording: Recording,
) -> Iterator[Rough]:
    ceph = CephCluster.start(lab_state / "ceph-rough")
    libvirtd = PrivateLibvirtd.start(lab_state / "h-rough", "rough")
    ceph.create_pool(POOL)
    # Short queues and time-outs, so that what is full or late is so soon.
    ceph_options = {"op_timeout_s": 2.0, "stall_timeout_s": 5.0, "probe_interval_s": 0.5}
    overrides = {"lanes": {"queue": 0, "libvirt": 4}, "ceph": ceph_options}
    daemon = start_daemon("daemon-rough", uri=libvirtd.uri, overrides=overrides)
    site = new_site(daemon, connect(daemon), ceph, ceph.create_user(CEPH_USER), recording)
    made = Rough(site, libvirtd, lab_state)
    for disk in made.disks:
        ceph.create_image(POOL, disk.image, IMAGE_BYTES)
    yield made
    libvirtd.stop()
    ceph.stop()


@pytest.fixture
def folder(exchange: Path) -> Path:
    """A folder of this test under the exchange directory, as the daemon's user would make it."""
    made = exchange / f"test-{uuid.uuid4().hex[:8]}"
    made.mkdir(mode=0o711)
    account = user.ensure()
    os.chown(made, account.uid, account.gid)
    return made


@pytest.fixture
def kept(make_guest: Callable[..., Guest], make_image: Callable[..., RbdDisk]) -> Iterator[Guest]:
    """A running guest whose domain stays when it ends."""
    guest = make_guest(disks=[make_image(keep=True), make_image(keep=True)])
    connection = guest.domain.connect()
    connection.defineXML(guest.domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    yield guest
    guest.destroy()
    connection.lookupByUUIDString(guest.uuid).undefine()


@pytest.fixture
def connect_as(site: Site) -> Iterator[Callable[..., Any]]:
    """Registers the key of a new user with given caps, and connects a domain as that user."""
    secrets, domains = [], []

    def connect(osd: str, mon: str = "profile rbd", pool: str = POOL) -> Any:
        user = f"user{uuid.uuid4().hex[:8]}"
        secret = secret_info(uuid.uuid4(), Sensitive(b""))
        secret["password"] = site.ceph.create_user(user, mon=mon, osd=osd)
        site.call("Host.registerSecrets", secrets=[secret])
        secrets.append(secret["uuid"])
        settings = domain_settings(
            site, storageDomainID=uuid.uuid4(), user=user, secretUUID=secret["uuid"], pool=pool
        )
        site.call("StorageDomain.connect", **settings)
        domains.append(settings["storageDomainID"])
        return settings["storageDomainID"]

    yield connect
    for domain in domains:
        site.call("StorageDomain.disconnect", storageDomainID=domain)
    site.call("Host.unregisterSecrets", uuids=secrets)
