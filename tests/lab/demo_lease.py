"""The demo's last act: whoever is killed, the guest is thawed in time; and what eight disks cost."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

from tests.lab.daemon import Daemon
from tests.lab.demo_steps import Site, register
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.guest import Guest, is_frozen
from tests.lab.processes import plain_environment
from tests.lab.screen import Screen
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL
from tests.lab.template import run_guest
from virtceph.client import connect

LEASE_S = 4.0
# After its deadline a guest may be frozen for so long, whatever became of the daemon.
LATE_S = 2.0
DISKS = 8
SCRIPT = """\
virsh -q -c "$1" domfsfreeze "$2"
echo frozen
sleep 3600 # the snapshots
virsh -q -c "$1" domfsthaw "$2"
"""


def killed_and_yet_thawed(screen: Screen, on: Site, guest: Guest, key: str) -> None:
    """Kill a shell script, and then the daemon, while the guest is frozen. Blocks, about 15 s."""
    screen.heading("Killed between freeze and thaw")
    with screen.step("a shell script: virsh domfsfreeze … kill -9"):
        _kill_a_script(on, guest)
    time.sleep(LEASE_S + LATE_S)
    screen.check(
        f"{LEASE_S + LATE_S:g} s later the guest is still frozen, and would be for ever",
        is_frozen(guest.domain),
    )
    guest.domain.fsThaw()
    with screen.step(f"virtcephd: VM.freeze timeout={LEASE_S:g} … kill -9"):
        on.client.VM.freeze(vmID=guest.uuid, timeout=LEASE_S)
        frozen_s = time.monotonic()
        on.daemon.kill()
    screen.check("the guest is frozen", is_frozen(guest.domain))
    while is_frozen(guest.domain) and time.monotonic() - frozen_s < 4 * (LEASE_S + LATE_S):
        time.sleep(0.05)
    took_s = time.monotonic() - frozen_s
    screen.check(
        f"virtceph-guard thawed it {took_s:.1f} s after the freeze: its lease was {LEASE_S:g} s",
        LEASE_S - 0.5 < took_s < LEASE_S + LATE_S,
        f"{took_s:.1f} s",
    )
    with screen.step("virtcephd is started again; the key is registered again"):
        on.client.close()
        on.daemon = Daemon.start(
            on.daemon.folder, libvirt_uri=on.libvirtd.uri, exchange=on.state / "exchange"
        )
        on.client = connect(str(on.daemon.socket))
        on.client.open()
        register(on, key)


def eight_disks(screen: Screen, on: Site) -> None:
    """The frozen window of a VM with eight disks, by a shell script and by one verb. Blocks."""
    images = [f"many-{index}" for index in range(DISKS)]
    disks = [RbdDisk(POOL, i, on.ceph.monitors, CEPH_USER, on.secret_uuid) for i in images]
    with screen.step(f"a VM with {DISKS} disks"):
        for image in images:
            on.ceph.create_image(POOL, image, IMAGE_BYTES)
        guest = run_guest(on.connection, GuestSpec("many", disks), on.state / "guests")
    try:
        shell_s = _shell_window_s(on, guest, images)
        job = uuid.uuid4()
        on.client.VM.createConsistentSnapshot(
            vmID=guest.uuid, snapshotName="by-verb", maxFrozen=60, jobUUID=job
        )
        result = on.client.wait_for_job(job, 60)["result"]
    finally:
        guest.destroy()
    screen.check(
        f"frozen for {DISKS} disks: {shell_s * 1000:,.0f} ms by a shell script,"
        f" {result['frozenFor'] * 1000:,.0f} ms by VM.createConsistentSnapshot",
        result["consistency"] == "filesystem",
        result["reason"],
    )


def _kill_a_script(on: Site, guest: Guest) -> None:
    script = subprocess.Popen(
        ["sh", "-c", SCRIPT, "freeze", on.libvirtd.uri, guest.name],
        stdout=subprocess.PIPE,
        text=True,
        env=plain_environment(),
        start_new_session=True,
    )
    assert script.stdout is not None
    try:
        while script.stdout.readline().strip() != "frozen":
            if script.poll() is not None:
                raise RuntimeError("the script ended before it froze the guest")
    finally:
        _end(script)


def _end(script: subprocess.Popen[str]) -> None:
    # Its `sleep` would outlive it: what is killed is what it started, too.
    children = Path(f"/proc/{script.pid}/task/{script.pid}/children").read_text().split()
    script.kill()
    script.wait()
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def _shell_window_s(on: Site, guest: Guest, images: list[str]) -> float:
    def type_in(*argv: str) -> None:
        subprocess.run(argv, check=True, capture_output=True, env=plain_environment())

    virsh = ("virsh", "-q", "-c", on.libvirtd.uri)
    begun_s = time.monotonic()
    type_in(*virsh, "domfsfreeze", guest.name)
    try:
        for image in images:
            snapshot = f"{POOL}/{image}@by-shell"
            type_in("rbd", "-c", str(on.ceph.conf), "snap", "create", "--no-progress", snapshot)
    finally:
        type_in(*virsh, "domfsthaw", guest.name)
    return time.monotonic() - begun_s
