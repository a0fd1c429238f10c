"""The frozen window of one disk: the daemon, the bare calls, and what an operator would type."""

from __future__ import annotations

import contextlib
import random
import statistics
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import rados
import rbd

from bench.figures import Goal, Row, Samples
from bench.process import environment
from bench.site import IMAGE, Site
from tests.lab.ceph import command
from tests.lab.stack import POOL

LEASE_S = 30.0
GOAL = Goal(1.1)
TURNS_POOL = "turns"
OPTION = "paxos_propose_interval"
# Ceph's default, and one at which the monitor's wait no longer hides everything else.
INTERVALS_S = (1.0, 0.02)
ROUNDS = 15
STEPS = ("freeze", "snapshot", "thaw")
DAEMON, BARE, SHELL = "daemon", "bare calls", "shell"

Variant = Callable[[Site, str], tuple[float, dict[str, float]]]


def measure(site: Site) -> Iterator[Row]:
    """Two rows for each interval of the monitor. Blocks, about 2 minutes."""
    _ = site.guest
    with _Bare(site) as bare:
        variants: dict[str, Variant] = {DAEMON: _daemon, BARE: bare.window, SHELL: _shell}
        for interval_s in INTERVALS_S:
            set_interval(site, interval_s)
            for variant in variants.values():
                variant(site, _name())
            yield from _rows(interval_s, *_interleaved(site, bare, variants, interval_s))


def _interleaved(
    site: Site, bare: _Bare, variants: dict[str, Variant], interval_s: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    taken: dict[str, list[float]] = {name: [] for name in variants}
    parts: dict[str, list[float]] = {}
    chance = random.Random(1)
    for number in chance.sample(range(ROUNDS), ROUNDS):
        for name in chance.sample(list(variants), len(variants)):
            # A snapshot waits for the monitor's next turn. All variants begin at the same points
            # between two turns, which lie evenly, or chance would decide between them.
            await_turn(bare.turns)
            time.sleep((number + 0.5) / ROUNDS * interval_s)
            snapshot = _name()
            took_ms, steps = variants[name](site, snapshot)
            bare.remove(snapshot)
            taken[name].append(took_ms)
            for step, step_ms in steps.items():
                parts.setdefault(f"{name}: {step}", []).append(step_ms)
    return taken, parts


def _rows(
    interval_s: float, taken: dict[str, list[float]], parts: dict[str, list[float]]
) -> Iterator[Row]:
    samples = {name: Samples(name, values) for name, values in taken.items()}
    steps = [Samples(name, values) for name, values in parts.items()]
    note = f"freeze + snapshot + thaw: {'; '.join(_split(who, steps) for who in taken)}"
    # Of the same round, both waited for the monitor alike: what is left is what the daemon adds.
    pairs = zip(taken[DAEMON], taken[BARE], strict=True)
    added_ms = statistics.median(ours - bare for ours, bare in pairs)
    note += f"; within a round {DAEMON} {added_ms:+.0f} ms"
    name = f"frozen window, 1 disk, monitor's turn {interval_s:g} s"
    yield Row(name, "ms", samples[DAEMON], samples[BARE], GOAL, note, steps)
    yield Row(f"… against the {SHELL}", "ms", samples[DAEMON], samples[SHELL])


def _split(who: str, steps: list[Samples]) -> str:
    medians = {sample.label: sample.median for sample in steps}
    shown = " + ".join(f"{medians[f'{who}: {step}']:.0f}" for step in STEPS)
    return f"{who} {shown} ms"


def set_interval(site: Site, interval_s: float) -> None:
    """How long the monitor gathers changes before it commits them. Blocks."""
    with site.ceph.admin() as admin:
        options = {OPTION: interval_s, "paxos_min_wait": min(0.05, interval_s / 2)}
        for name, value in options.items():
            command(admin, "config set", who="mon", name=name, value=str(value))
    time.sleep(2)


@contextlib.contextmanager
def timed(steps: dict[str, float], name: str) -> Iterator[None]:
    """Note in `steps` how many ms the block took."""
    begun_s = time.perf_counter()
    yield
    steps[name] = (time.perf_counter() - begun_s) * 1000


def _daemon(site: Site, snapshot: str) -> tuple[float, dict[str, float]]:
    client, vm_id, steps = site.client, site.guest.uuid, dict[str, float]()
    with timed(steps, "window"):
        with timed(steps, "freeze"):
            client.call("VM.freeze", vmID=vm_id, timeout=LEASE_S)
        with timed(steps, "snapshot"):
            client.call(
                "Volume.createSnapshot",
                storageDomainID=site.storage_domain_id,
                volumeName=IMAGE,
                snapshotName=snapshot,
            )
        with timed(steps, "thaw"):
            client.call("VM.thaw", vmID=vm_id)
    return steps.pop("window"), steps


@contextlib.contextmanager
def turns(site: Site) -> Iterator[rados.Ioctx]:
    """A pool of its own for `await_turn`. Blocks."""
    site.ceph.create_pool(TURNS_POOL)  # or find it made
    with site.ceph.pool(TURNS_POOL) as ioctx:
        yield ioctx


def await_turn(ioctx: rados.Ioctx) -> None:
    """Return when the monitor has just committed something. Blocks up to its interval."""
    ioctx.create_self_managed_snap()


class _Bare:
    """libvirt and librbd called directly; the image is opened before the window."""

    def __init__(self, site: Site) -> None:
        self._closing = contextlib.ExitStack()
        self._ioctx: rados.Ioctx = self._closing.enter_context(site.ceph.pool(POOL))
        self.turns: rados.Ioctx = self._closing.enter_context(turns(site))

    def __enter__(self) -> _Bare:
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.close()

    def window(self, site: Site, snapshot: str) -> tuple[float, dict[str, float]]:
        """Freeze, snapshot, thaw. Blocks."""
        domain, steps = site.guest.domain, dict[str, float]()
        domain.agentSetResponseTimeout(10, 0)
        with rbd.Image(self._ioctx, IMAGE) as image, timed(steps, "window"):
            with timed(steps, "freeze"):
                domain.fsFreeze()
            with timed(steps, "snapshot"):
                image.create_snap(snapshot)
            with timed(steps, "thaw"):
                domain.fsThaw()
        return steps.pop("window"), steps

    def remove(self, snapshot: str) -> None:
        """Remove a snapshot, so that each window meets the same image. Blocks."""
        with rbd.Image(self._ioctx, IMAGE) as image:
            image.remove_snap(snapshot)


def _shell(site: Site, snapshot: str) -> tuple[float, dict[str, float]]:
    steps = dict[str, float]()
    virsh = ["virsh", "-q", "-c", site.libvirtd.uri]
    rbd_snap = ["rbd", "-c", str(site.ceph.conf), "snap", "create", "--no-progress"]
    with timed(steps, "window"):
        for step, argv in (
            ("freeze", [*virsh, "domfsfreeze", site.guest.name]),
            ("snapshot", [*rbd_snap, f"{POOL}/{IMAGE}@{snapshot}"]),
            ("thaw", [*virsh, "domfsthaw", site.guest.name]),
        ):
            with timed(steps, step):
                subprocess.run(argv, check=True, capture_output=True, env=environment())
    return steps.pop("window"), steps


def _name() -> str:
    return f"bench-{uuid.uuid4().hex}"
