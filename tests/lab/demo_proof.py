"""The demo's second half: what the snapshots hold, and what is left when all is over."""

import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import libvirt
import rbd

from tests.lab import secret
from tests.lab.ceph import CephCluster
from tests.lab.ceph_files import MSGR1_PORT, MSGR2_PORT
from tests.lab.demo_steps import IMAGES, TARGETS, Frozen, Site
from tests.lab.guest import Guest
from tests.lab.inspect_image import FsReport, examine_image
from tests.lab.processes import ProcessRecord, identify
from tests.lab.screen import Screen
from tests.lab.stack import POOL
from tests.lab.state import mounts_under

STOP_TIMEOUT_S = 30
_CLOSED_WITHIN_S = 10


def prove_frozen(screen: Screen, on: Site, window: Frozen, snapshot: str) -> None:
    """Clone the snapshots made under the freeze, and check what they hold. Blocks."""
    screen.heading("The proof: clones of these snapshots")
    reports = _examine_clones(screen, on, snapshot)
    clean = [report.clean and report.fsck_clean for report in reports]
    screen.check(
        "both file systems are clean: no journal to replay, e2fsck finds nothing", all(clean)
    )
    screen.fact(
        "acknowledged",
        f"{window.before} records before VM.freeze was called, {window.within} before VM.thaw was",
    )
    for target, report in zip(TARGETS, reports, strict=True):
        count = len(report.records)
        screen.check(
            f"{target} holds records 1 to {count}: every one acknowledged, in order",
            report.records == list(range(1, count + 1)) and count >= window.within,
            report.records[-5:],
        )
        screen.check(
            f"{target} {_extra(count, window.within)}",
            count <= window.within + 1,
            f"{count - window.within} more",
        )


def _extra(count: int, acknowledged: int) -> str:
    if count > acknowledged:
        return f"holds nothing later: record {count} was under way when the freeze began"
    return "holds nothing later than the freeze"


def prove_unfrozen(screen: Screen, on: Site, guest: Guest) -> None:
    """Snapshot the running guest without a freeze, and check clones of that. Blocks."""
    screen.heading("The same without a freeze")
    acknowledged = guest.wait_for_records(5)[-1].number
    with screen.step("Volume.createSnapshot of both, at once, while the guest writes"):
        on.snapshot_both("unfrozen")
    reports = _examine_clones(screen, on, "unfrozen")
    dirty = [report.needs_recovery for report in reports]
    screen.check(
        "both file systems are as after a power cut: their journals need replay", all(dirty)
    )
    screen.check("after the replay e2fsck finds nothing", all(r.fsck_clean for r in reports))
    ends = [len(report.records) for report in reports]
    text = ", ".join(
        f"{target} ends at record {end}" for target, end in zip(TARGETS, ends, strict=True)
    )
    screen.fact("records", f"{text}; {acknowledged} were acknowledged before the call")


def _examine_clones(screen: Screen, on: Site, snapshot: str) -> list[FsReport]:
    reports = []
    with on.ceph.pool(POOL) as ioctx:
        for image in IMAGES:
            clone = f"{image}-{snapshot}"
            with screen.step(f"rbd clone {POOL}/{image}@{snapshot} {clone}, and read it"):
                # Of format 2, as the lab's clients have it: the snapshot need not be protected.
                rbd.RBD().clone(ioctx, image, snapshot, ioctx, clone)
                reports.append(examine_image(ioctx, clone, None, on.state))
    return reports


def stop_daemon(screen: Screen, on: Site, guest: Guest) -> None:
    """SIGTERM the daemon: the secrets go with it, the VM stays. Blocks."""
    screen.heading("The daemon stops, the VM does not")
    on.client.close()
    with screen.step("SIGTERM"):
        status = on.daemon.stop(STOP_TIMEOUT_S)
    screen.check("virtcephd ended in order, with status 0", status == 0, status)
    left = secret.usages(on.connection)
    screen.check("libvirt has none of its secrets any more", not left, left)
    state, _reason = guest.domain.state()
    screen.check("the VM runs", state == libvirt.VIR_DOMAIN_RUNNING, f"state {state}")
    before = guest.acknowledged()[-1].number
    after = guest.wait_for_records(5)[-1].number
    screen.check(f"and writes: records {before + 1} to {after} since", after >= before + 5)


def check_nothing_left(screen: Screen, state: Path, ended: list[str], ceph: "Endpoint") -> None:
    """Look for what should be gone: processes, mounts, sockets, files. Blocks for moments."""
    screen.fact("ended", ", ".join(name.rpartition(" (")[0] for name in ended))
    left = [f"{record.name} ({record.pid})" for record in strays(state)]
    screen.check("no process is left", not left, left)
    mounts = [str(point) for point in mounts_under(state)]
    screen.check("no mount is left", not mounts, mounts)
    # Of a process that was killed, a thread that ends last closes them.
    deadline_s = time.monotonic() + _CLOSED_WITHIN_S
    while (sockets := _sockets(state, ceph)) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    screen.check("no socket is left", not sockets, sockets)
    screen.check("no file is left", not state.exists())


@dataclass(frozen=True)
class Endpoint:
    """Where the cluster listened."""

    address: str
    ports: tuple[int, ...] = (MSGR2_PORT, MSGR1_PORT)

    @classmethod
    def of(cls, ceph: CephCluster) -> "Endpoint":
        """That of a cluster. Does not block."""
        return cls(ceph.address)


def strays(state: Path) -> list[ProcessRecord]:
    """Processes whose arguments name the state folder, other than this one. Does not block.

    All that a lab starts do: this finds also what was started in the moment of a Ctrl-C.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(bytes(state) in word for word in words):
            record = identify(words[0].decode(errors="replace"), int(entry.name))
            found += [record] if record is not None else []
    return found


def end_strays(state: Path) -> None:
    """End what `strays` finds. Blocks."""
    for record in strays(state):
        record.send(signal.SIGCONT)
        record.end(grace_s=1.0)


def _sockets(state: Path, ceph: Endpoint) -> list[str]:
    lines = Path("/proc/net/unix").read_text().splitlines()
    found = [line for line in lines if str(state) in line]
    return found + [f"{ceph.address}:{port}" for port in ceph.ports if _listens(ceph.address, port)]


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0
