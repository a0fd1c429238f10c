"""What a test may leave behind, listed, so that before and after can be compared."""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import rbd

from tests.lab import secret
from tests.lab.ceph import CephCluster
from tests.lab.guest import is_frozen
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.processes import recorded
from tests.lab.state import inhabitants


def survey(state: Path, ceph: CephCluster, libvirtd: PrivateLibvirtd) -> set[str]:
    """One line for each thing that a test should have taken away again. Blocks."""
    return {
        *_processes(state),
        *_mounts(),
        *_images(ceph),
        *_secrets_and_guests(libvirtd),
    }


def new_since(before: set[str], look: Callable[[], set[str]], grace_s: float = 5.0) -> list[str]:
    """What is there now and was not before, once `grace_s` for late goers is over. Blocks."""
    deadline = time.monotonic() + grace_s
    while (left := look() - before) and time.monotonic() < deadline:
        time.sleep(0.1)
    return sorted(left)


def _processes(state: Path) -> set[str]:
    # The lab's own daemons by name: a test may start one anew. All others by pid.
    records = [record for record in recorded(state) if record.alive]
    known = {record.pid for record in records}
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    others = {record.pid for record in inhabitants(state)} | {int(pid) for pid in children}
    found = {f"process {record.name}" for record in records}
    for pid in others - known:
        with contextlib.suppress(OSError):
            found.add(f"process {pid} {Path(f'/proc/{pid}/comm').read_text().strip()}")
    return found


def _mounts() -> set[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {f"mount {line.split()[4]} ({line.split()[0]})" for line in lines}


def _images(ceph: CephCluster) -> set[str]:
    found = set()
    with ceph.admin() as client:
        for pool in client.list_pools():
            with client.open_ioctx(pool) as ioctx:
                for name in rbd.RBD().list(ioctx):
                    found.add(f"image {pool}/{name}")
                    # Read-only: an image opened for writing would be watched by us.
                    with rbd.Image(ioctx, name, read_only=True) as image:
                        for watcher in image.watchers_list():
                            found.add(f"watcher {watcher['addr']} of {pool}/{name}")
                for entry in rbd.RBD().trash_list(ioctx):
                    found.add(f"image {pool}/{entry['name']} in the trash")
    return found


def _secrets_and_guests(libvirtd: PrivateLibvirtd) -> set[str]:
    with libvirtd.connection() as connection:
        found = {f"secret {usage}" for usage in secret.usages(connection)}
        for domain in connection.listAllDomains(0):
            found.add(f"guest {domain.name()}")
            if is_frozen(domain):
                found.add(f"frozen guest {domain.name()}")
    return found
