"""Where a lab keeps its things: a short folder everybody may traverse, and a cache of slow artefacts."""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.lab.errors import LabError
from tests.lab.processes import ProcessRecord, end_recorded, identify

PROJECT = Path(__file__).resolve().parents[2]
# A clone may lie under /root (0700), where neither the daemon's user nor a UNIX socket path of at
# most 107 bytes would fit. /var/tmp is short and on disk, so 60 MB of saved guest cost no memory.
STATE_PARENT = Path("/var/tmp")
DEFAULT_CACHE = Path("/var/cache/virtceph-lab")
# Each change of the guest's recipe leaves 60 MB of kernel and 80 MB of template behind.
CACHE_KEPT_S = 7 * 24 * 3600
MNT_DETACH = 2


def default_state() -> Path:
    """The state folder of this project's own lab: one per clone. Does not block."""
    digest = hashlib.sha256(os.fsencode(PROJECT)).hexdigest()
    return STATE_PARENT / f"virtceph-lab-{digest[:8]}"


def create(folder: Path) -> Path:
    """Make a state folder that everybody may traverse and only root may list. Does not block."""
    folder.mkdir(mode=0o711)
    folder.chmod(0o711)
    return folder


def create_for_test() -> Path:
    """Make a fresh state folder for this test process, and clear those of dead ones. Blocks."""
    clear_abandoned()
    folder = Path(tempfile.mkdtemp(prefix="virtceph-test-", dir=STATE_PARENT))
    folder.chmod(0o711)
    owner = identify("owner", os.getpid())
    assert owner is not None
    (folder / "owner.json").write_text(json.dumps(asdict(owner)))
    return folder


def clear_abandoned() -> list[Path]:
    """Remove test folders, with their processes, whose test process was killed. Blocks."""
    cleared = []
    for folder in STATE_PARENT.glob("virtceph-test-*"):
        try:
            owner = ProcessRecord(**json.loads((folder / "owner.json").read_text()))
        except (OSError, ValueError):
            continue
        if not owner.alive:
            remove(folder)
            cleared.append(folder)
    return cleared


def remove(folder: Path) -> list[str]:
    """End all processes of a lab, unmount what lies under its folder and delete it. Blocks.

    Returns what had to be ended. State after a failure: the folder and the record are still there,
    so the same call may be tried again.
    """
    if not folder.name.startswith("virtceph-"):
        raise LabError(f"{folder} is not a lab's state folder")
    ended = end_recorded(folder)
    ended += end_inhabitants(folder)
    for mount_point in mounts_under(folder):
        _unmount(mount_point)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)
    return ended


def inhabitants(folder: Path, part: str = "") -> list[ProcessRecord]:
    """Processes in a mount namespace that was made for a lab, or for one `part` of it. Does not block.

    libvirtd starts QEMU, so it is in no record, and its command line names nothing of the lab. But
    it lives in our libvirtd's mount namespace, where folders of the lab lie over the host's.
    """
    mark = os.fsencode(f"/{folder.name}/{part}/" if part else f"/{folder.name}/")
    ours = Path("/proc/self/ns/mnt").stat().st_ino
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            elsewhere = (entry / "ns/mnt").stat().st_ino != ours
            if elsewhere and mark in (entry / "mountinfo").read_bytes():
                name = (entry / "comm").read_text().strip()
                record = identify(name, int(entry.name))
                found += [record] if record is not None else []
    return found


def end_inhabitants(folder: Path, part: str = "") -> list[str]:
    """End the processes that others started within a lab: QEMUs above all. Blocks."""
    records = inhabitants(folder, part)
    for record in records:
        record.send(signal.SIGCONT)
        record.send(signal.SIGTERM)
    for record in records:
        # A QEMU whose storage is dead does not heed SIGTERM, and nobody wants its disks: KILL soon.
        record.end(grace_s=1.0)
    return [f"{record.name} ({record.pid})" for record in records]


def mounts_under(folder: Path) -> list[Path]:
    """Mount points below `folder` in our mount namespace, innermost first. Does not block."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(line.split()[4].encode().decode("unicode_escape"))
        if point.is_relative_to(folder):
            points.append(point)
    return sorted(points, reverse=True)


def _unmount(point: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(point), MNT_DETACH):
        raise LabError(f"cannot unmount {point}: {os.strerror(ctypes.get_errno())}")


def cache_folder(part: str) -> Path:
    """The folder `part` of the lab's cache, made if it is absent. Does not block."""
    folder = Path(os.environ.get("VIRTCEPH_LAB_CACHE", DEFAULT_CACHE)) / part
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Let only one lab of this host make something that all of them use. Blocks while another one does."""
    with (cache_folder("locks") / what).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def keep_fresh(used: Path) -> None:
    """Mark a cache entry as used, and drop its neighbours that nobody used for long. Does not block."""
    os.utime(used)
    for entry in used.parent.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - entry.stat().st_mtime > CACHE_KEPT_S:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that nobody uses at this moment. Does not block."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def free_loopback_address(ports: tuple[int, ...]) -> str:
    """An address in 127/8 where all `ports` are free. Does not block.

    One address per cluster lets each monitor have Ceph's standard ports: with any other port
    librados tries both protocols on it, and a wrong key then hangs 300 s in place of an error.
    """
    for _ in range(100):
        low = os.urandom(3)
        address = f"127.{64 + low[0] % 64}.{low[1]}.{1 + low[2] % 254}"
        with contextlib.suppress(OSError), contextlib.ExitStack() as probes:
            for port in ports:
                probe = probes.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
            return address
    raise LabError(f"no loopback address has the ports {ports} free")
