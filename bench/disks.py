"""The frozen window of 1, 2 and 8 disks: by VM.createConsistentSnapshot, by warm calls of librbd one after
the other, and by what an operator would type."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import rados
import rbd

from bench.figures import Goal, Row, Samples
from bench.process import environment
from bench.site import Site
from bench.window import DAEMON, SHELL, await_turn, set_interval, timed, turns
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.guest import Guest
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL
from tests.lab.template import run_guest

COUNTS = (1, 2, 8)
ROUNDS = 7
INTERVAL_S = 1.0
WARM = "librbd, one by one"
# The snapshots of eight disks may take so much longer than that of one, freeze and thaw so much longer than
# libvirt's own, and the whole window of eight disks so much of the shell's.
SNAPSHOTS_GOAL, REST_GOAL, SHELL_GOAL = Goal(1.3), Goal(1.2), Goal(1 / 6)

Steps = dict[str, float]


@dataclass
class Many:
    """A guest with so many disks, and what each way of snapshotting them took, by step, in ms."""

    guest: Guest
    images: list[str]
    taken: dict[str, list[Steps]] = field(default_factory=dict)

    def samples(self, who: str, *steps: str) -> Samples:
        """The sum of some steps in each round."""
        return Samples(who, [sum(taken[step] for step in steps) for taken in self.taken[who]])


def measure(site: Site) -> Iterator[Row]:
    """Rows for each number of disks. Blocks, about 4 minutes."""
    _ = site.guest  # connects the storage domain
    set_interval(site, INTERVAL_S)
    with contextlib.ExitStack() as closing:
        ioctx = closing.enter_context(site.ceph.pool(POOL))
        turning = closing.enter_context(turns(site))
        by_count = {count: closing.enter_context(_guest(site, count)) for count in COUNTS}
        variants: dict[str, Callable[[Many, str], Steps]] = {
            DAEMON: lambda many, name: _by_verb(site, many, name),
            WARM: lambda many, name: _one_by_one(ioctx, many, name),
            SHELL: lambda many, name: _by_shell(site, many, name),
        }
        _rounds(turning, ioctx, by_count, variants)
        yield from _rows(by_count)


def _rounds(
    turning: rados.Ioctx,
    ioctx: rados.Ioctx,
    by_count: dict[int, Many],
    variants: dict[str, Callable[[Many, str], Steps]],
) -> None:
    chance = random.Random(2)
    jobs = [(many, who) for many in by_count.values() for who in variants]
    for number in chance.sample(range(ROUNDS), ROUNDS):
        for many, who in chance.sample(jobs, len(jobs)):
            name = f"bench-{uuid.uuid4().hex}"
            # All begin at the same points between two turns of the monitor (see `window`).
            await_turn(turning)
            time.sleep((number + 0.5) / ROUNDS * INTERVAL_S)
            many.taken.setdefault(who, []).append(variants[who](many, name))
            for image in many.images:
                with rbd.Image(ioctx, image) as opened:
                    opened.remove_snap(name)


def _rows(by_count: dict[int, Many]) -> Iterator[Row]:
    for count, many in by_count.items():
        ours = many.samples(DAEMON, "freeze", "snapshots", "thaw")
        name = f"frozen window, {count} disk{'s' if count > 1 else ''}"
        warm = many.samples(WARM, "freeze", "snapshots", "thaw")
        yield Row(name, "ms", ours, warm)
        shell = many.samples(SHELL, "freeze", "snapshots", "thaw")
        yield Row("… against the shell", "ms", ours, shell, SHELL_GOAL if count == 8 else None)
        rest, raw = many.samples(DAEMON, "freeze", "thaw"), many.samples(WARM, "freeze", "thaw")
        yield Row("… its freeze and thaw alone", "ms", rest, raw, REST_GOAL)
    one, eight = by_count[1], by_count[8]
    reference = Samples("1 disk", one.samples(DAEMON, "snapshots").values)
    phase = eight.samples(DAEMON, "snapshots")
    yield Row("snapshots of 8 disks, against 1", "ms", phase, reference, SNAPSHOTS_GOAL)


@contextlib.contextmanager
def _guest(site: Site, count: int) -> Iterator[Many]:
    images = [f"disks-{count}-{index}" for index in range(count)]
    disks = []
    for image in images:
        site.ceph.create_image(POOL, image, IMAGE_BYTES)
        disks.append(RbdDisk(POOL, image, site.ceph.monitors, CEPH_USER, site.secret_uuid))
    spec = GuestSpec(f"disks-{count}", disks, writer=False)
    guest = run_guest(site.connection, spec, site.folder / "guests")
    try:
        yield Many(guest, images)
    finally:
        guest.destroy()


def _by_verb(site: Site, many: Many, name: str) -> Steps:
    job = uuid.uuid4()
    site.client.call(
        "VM.createConsistentSnapshot",
        vmID=many.guest.uuid,
        snapshotName=name,
        maxFrozen=60,
        jobUUID=job,
    )
    result = site.client.wait_for_job(job, 60)["result"]
    steps = {step: took_s * 1000 for step, took_s in result["steps"].items()}
    # By the daemon's own clock, from before the freeze until after the thaw: what lies between the steps
    # belongs to the window too.
    between_ms = result["frozenFor"] * 1000 - sum(steps[s] for s in ("freeze", "snapshots", "thaw"))
    return {**steps, "snapshots": steps["snapshots"] + max(0.0, between_ms)}


def _one_by_one(ioctx: rados.Ioctx, many: Many, name: str) -> Steps:
    domain, steps = many.guest.domain, Steps()
    domain.agentSetResponseTimeout(60, 0)
    with contextlib.ExitStack() as opened:
        images = [opened.enter_context(rbd.Image(ioctx, image)) for image in many.images]
        with timed(steps, "freeze"):
            domain.fsFreeze()
        with timed(steps, "snapshots"):
            for image in images:
                image.create_snap(name)
        with timed(steps, "thaw"):
            domain.fsThaw()
    return steps


def _by_shell(site: Site, many: Many, name: str) -> Steps:
    steps = Steps()
    virsh = ["virsh", "-q", "-c", site.libvirtd.uri]
    create = ["rbd", "-c", str(site.ceph.conf), "snap", "create", "--no-progress"]

    def type_in(argv: list[str]) -> None:
        subprocess.run(argv, check=True, capture_output=True, env=environment())

    with timed(steps, "freeze"):
        type_in([*virsh, "domfsfreeze", many.guest.name])
    with timed(steps, "snapshots"):
        for image in many.images:
            type_in([*create, f"{POOL}/{image}@{name}"])
    with timed(steps, "thaw"):
        type_in([*virsh, "domfsthaw", many.guest.name])
    return steps
