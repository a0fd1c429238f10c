"""The demo's first half: a lab comes up, a key is registered, a VM runs, and a snapshot is made."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt

from tests.lab.ceph import CephCluster, command
from tests.lab.daemon import Daemon
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.guest import Guest, boot
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.processes import recorded
from tests.lab.screen import Screen
from tests.lab.secrecy import search
from tests.lab.secret import USAGE_PREFIX
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL
from tests.lab.state import inhabitants
from tests.lab.timeline import Timeline
from virtceph.client import Client, ServerError, connect

TARGETS, IMAGES = ("vda", "vdb"), ("demo-a", "demo-b")
LEASE_S = 30.0


@dataclass
class Site:
    """The demo's lab, while it runs."""

    state: Path
    ceph: CephCluster
    libvirtd: PrivateLibvirtd
    daemon: Daemon
    client: Client
    connection: libvirt.virConnect
    secret_uuid: UUID
    storage_domain_id: UUID

    def snapshot_both(self, snapshot: str) -> None:
        """Snapshot both disks at once, through the daemon. Blocks.

        Raises:
            ServerError: one was refused.
        """
        where = {"storageDomainID": self.storage_domain_id, "snapshotName": snapshot}
        calls = [("Volume.createSnapshot", {**where, "volumeName": image}) for image in IMAGES]
        for outcome in self.client.batch(calls):
            if isinstance(outcome, ServerError):
                raise outcome


@dataclass(frozen=True)
class Frozen:
    """A window that is over: the last records acknowledged before it and within it."""

    before: int
    within: int
    result: dict[str, Any]


@contextlib.contextmanager
def site(screen: Screen, state: Path) -> Iterator[Site]:
    """Start Ceph, libvirtd and the daemon under `state`. Blocks, about 5 s."""
    screen.heading("A lab of its own")
    with screen.step("Ceph: monitor, manager and OSD (in memory), cephx on"):
        # The interval as Ceph ships it: it decides how long a snapshot takes.
        ceph = CephCluster.start(state / "ceph", paxos_propose_interval_s=None)
    with screen.step("libvirtd, in namespaces and folders of its own"):
        libvirtd = PrivateLibvirtd.start(state / "h1")
    with screen.step("virtcephd, as user virtceph and without capabilities"):
        daemon = Daemon.start(
            state / "daemon", libvirt_uri=libvirtd.uri, exchange=state / "exchange"
        )
    with screen.step(f"pool {POOL!r}, and two images of {IMAGE_BYTES >> 20} MiB"):
        ceph.create_pool(POOL)
        for image in IMAGES:
            ceph.create_image(POOL, image, IMAGE_BYTES)
    with libvirtd.connection() as connection, connect(str(daemon.socket)) as client:
        idents = uuid.uuid4(), uuid.uuid4()
        yield Site(state, ceph, libvirtd, daemon, client, connection, *idents)


def register_key(screen: Screen, on: Site) -> str:
    """Make a Ceph user and register its key; returns the key. Blocks."""
    screen.heading("A key, in libvirt's memory and nowhere else")
    key = on.ceph.create_user(CEPH_USER)
    with on.ceph.admin() as admin:
        (entity,) = command(admin, "auth get", entity=f"client.{CEPH_USER}")
    caps = "  ".join(f"{service} {cap!r}" for service, cap in entity["caps"].items())
    screen.fact("Ceph user", f"client.{CEPH_USER}  {caps}")
    with screen.step("Host.registerSecrets; StorageDomain.connect, with the key in memory"):
        register(on, key)
    _show_secret(screen, on)
    return key


def register(on: Site, key: str) -> None:
    """Register the key, and connect the storage domain with it. Blocks."""
    entry = {
        "uuid": on.secret_uuid,
        "usageType": "ceph",
        "usageID": f"{USAGE_PREFIX}{on.secret_uuid}",
        "password": key,
    }
    on.client.Host.registerSecrets(secrets=[entry])
    on.client.StorageDomain.connect(
        storageDomainID=on.storage_domain_id,
        monitors=on.ceph.monitors,
        user=CEPH_USER,
        secretUUID=on.secret_uuid,
        pool=POOL,
    )


def _show_secret(screen: Screen, on: Site) -> None:
    secret = on.connection.secretLookupByUUIDString(str(on.secret_uuid))
    xml = secret.XMLDesc(0)
    screen.fact("in libvirt", xml.splitlines()[0].strip() + f" {secret.usageID()}")
    screen.check(
        "the secret is ephemeral (on no disk) and private (cannot be read)",
        "ephemeral='yes'" in xml and "private='yes'" in xml,
        xml,
    )
    try:
        refusal = f"a value of {len(secret.value(0))} bytes"
        refused = False
    except libvirt.libvirtError as error:
        refusal, refused = error.get_error_message(), True
    screen.check(f"libvirt does not give the value back: {refusal!r}", refused)
    (listed,) = on.client.Host.listSecrets()
    screen.check(
        f"nor does the daemon: Host.listSecrets shows the fingerprint {listed['fingerprint']}",
        "password" not in listed,
        sorted(listed),
    )


def start_guest(screen: Screen, on: Site) -> Guest:
    """Boot a VM whose disks use the registered secret, and wait until it writes. Blocks, about 8 s."""
    screen.heading("A VM with two disks in Ceph")
    disks = [RbdDisk(POOL, i, on.ceph.monitors, CEPH_USER, on.secret_uuid) for i in IMAGES]
    spec = GuestSpec("demo", disks)
    with screen.step("boots under TCG: kernel, ext4 on both disks, qemu-guest-agent"):
        guest = boot(on.connection, spec, on.state / "guests")
        guest.command("ping", timeout_s=120)
        guest.wait_for_agent()
    with screen.step("writes numbered records to both, and says so after each fsync"):
        guest.wait_for_records(10)
    for disk in on.client.VM.getInfo(vmID=guest.uuid)["disks"]:
        volume = disk["volume"]
        screen.fact(disk["disk"], f"rbd {volume['pool']}/{volume['volumeName']}: {disk['reason']}")
    return guest


def check_key_is_nowhere(screen: Screen, on: Site, key: str) -> None:
    """Look for the key where it must not be. Blocks."""
    alive = [record for record in recorded(on.state) if record.alive]
    folders = (on.libvirtd.folder, on.daemon.folder)
    result = search(key, folders, [*alive, *inhabitants(on.state)])
    screen.check(
        f"the key is in none of {result.files} files of libvirtd and daemon, nor in an argument\n"
        f"        or environment of {result.processes} processes (the VM's among them)",
        not result.found and result.files > 0,
        result.found,
    )


def freeze_and_snapshot(screen: Screen, on: Site, guest: Guest, snapshot: str) -> Frozen:
    """The engine's flow: freeze, both RBD snapshots, VM.snapshot, thaw. Blocks, about 2 s."""
    screen.heading("A consistent snapshot of both disks")
    client, job, timeline = on.client, uuid.uuid4(), Timeline()
    before = guest.acknowledged()[-1].number
    with timeline.step("VM.freeze"):
        window = client.VM.freeze(vmID=guest.uuid, timeout=LEASE_S)
    with timeline.step("Volume.createSnapshot of both, at once"):
        on.snapshot_both(snapshot)
    with timeline.step("VM.snapshot frozen=true, until done"):
        client.VM.snapshot(vmID=guest.uuid, frozen=True, jobUUID=job)
        pending = client.wait_for_job(job, LEASE_S)["result"]
    # Still frozen: whatever was acknowledged by now was written before the freeze.
    within = guest.acknowledged()[-1].number
    with timeline.step("VM.thaw"):
        thaw = client.VM.thaw(vmID=guest.uuid)
    result = client.Host.getJobs(job_ids=[job])[str(job)]["result"]
    screen.timeline(timeline.spans)
    whole_ms = timeline.whole_s * 1000
    screen.fact("window", f"{whole_ms:,.0f} ms from before the freeze until after the thaw")
    screen.fact("the daemon", f"frozenFor {thaw['frozenFor'] * 1000:,.0f} ms: {thaw['reason']}")
    _show_guest_clock(screen, guest, within)
    _check_job(screen, window, pending, result)
    return Frozen(before, within, result)


def _show_guest_clock(screen: Screen, guest: Guest, within: int) -> None:
    """What the guest itself saw of it. Blocks until it writes again."""
    guest.wait_for_records(3)
    acks = {ack.number: ack.guest_uptime_s for ack in guest.acknowledged()}
    gap_ms = (acks[within + 1] - acks[within]) * 1000
    screen.fact("the guest", f"no record for {gap_ms:,.0f} ms by its own clock, then it went on")


def _check_job(
    screen: Screen, window: dict[str, Any], pending: dict[str, Any], result: dict[str, Any]
) -> None:
    screen.check(
        f"{window['filesystems']} file systems were frozen, in a window with a lease of {LEASE_S:g} s",
        window["filesystems"] == len(TARGETS),
    )
    screen.check(
        "the job said 'pending' while the guest was frozen",
        pending["consistency"] == "pending",
        pending["consistency"],
    )
    screen.check(
        f"and says 'filesystem' since the thaw: {result['reason']}",
        result["consistency"] == "filesystem",
        f"{result['consistency']}: {result['reason']}",
    )
