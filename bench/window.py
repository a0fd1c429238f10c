"""The frozen window of one disk: the daemon, the bare calls, and what an operator would type."""

from __future__ import annotations

import contextlib
import random
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
OPTION = "paxos_propose_interval"
# Ceph's default, and one at which the monitor's wait no longer hides everything else.
ROUNDS = {1.0: 21, 0.02: 21}
DAEMON, BARE, SHELL = "daemon", "bare calls", "shell"

Variant = Callable[[Site], tuple[float, dict[str, float]]]


def measure(site: Site) -> Iterator[Row]:
    """Two rows for each interval of the monitor. Blocks, about 3 minutes."""
    _ = site.guest
    with _Bare(site) as bare:
        variants: dict[str, Variant] = {DAEMON: _daemon, BARE: bare.window, SHELL: _shell}
        for variant in variants.values():
            variant(site)
        for interval_s, rounds in ROUNDS.items():
            _set_interval(site, interval_s)
            taken, parts = _interleaved(site, variants, rounds, interval_s)
            yield from _rows(interval_s, rounds, taken, parts)


def _interleaved(
    site: Site, variants: dict[str, Variant], rounds: int, interval_s: float
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    taken: dict[str, list[float]] = {name: [] for name in variants}
    parts: dict[str, list[float]] = {}
    # A snapshot waits for the monitor's next turn. Without a random pause and order each variant would
    # always begin at the same point between two turns, and the comparison would measure that.
    chance = random.Random(1)
    for _ in range(rounds):
        for name in chance.sample(list(variants), len(variants)):
            time.sleep(0.2 + chance.uniform(0, 1.5 * interval_s))
            took_ms, steps = variants[name](site)
            taken[name].append(took_ms)
            for step, step_ms in steps.items():
                parts.setdefault(f"{name}: {step}", []).append(step_ms)
    return taken, parts


def _rows(
    interval_s: float, rounds: int, taken: dict[str, list[float]], parts: dict[str, list[float]]
) -> Iterator[Row]:
    samples = {name: Samples(name, values) for name, values in taken.items()}
    steps = [Samples(name, values) for name, values in parts.items()]
    where = f"{OPTION} {interval_s:g} s"
    rest = [f"{who}, all but the snapshot {_without(steps, who):.0f} ms" for who in (DAEMON, BARE)]
    note = f"{rounds} rounds in random order; {'; '.join(rest)}"
    name = f"frozen window, 1 disk, {where}"
    yield Row(name, "ms", samples[DAEMON], samples[BARE], GOAL, note, steps)
    yield Row(f"… against {SHELL}", "ms", samples[DAEMON], samples[SHELL])


def _without(steps: list[Samples], who: str) -> float:
    return sum(s.median for s in steps if s.label in (f"{who}: freeze", f"{who}: thaw"))


def _set_interval(site: Site, interval_s: float) -> None:
    with site.ceph.admin() as admin:
        options = {OPTION: interval_s, "paxos_min_wait": min(0.05, interval_s / 2)}
        for name, value in options.items():
            command(admin, "config set", who="mon", name=name, value=str(value))
    time.sleep(2)


@contextlib.contextmanager
def _timed(steps: dict[str, float], name: str) -> Iterator[None]:
    begun_s = time.perf_counter()
    yield
    steps[name] = (time.perf_counter() - begun_s) * 1000


def _daemon(site: Site) -> tuple[float, dict[str, float]]:
    client, vm_id, steps = site.client, site.guest.uuid, dict[str, float]()
    with _timed(steps, "window"):
        with _timed(steps, "freeze"):
            client.call("VM.freeze", vmID=vm_id, timeout=LEASE_S)
        with _timed(steps, "snapshot"):
            client.call(
                "Volume.createSnapshot",
                storageDomainID=site.storage_domain_id,
                volumeName=IMAGE,
                snapshotName=_name(),
            )
        with _timed(steps, "thaw"):
            client.call("VM.thaw", vmID=vm_id)
    return steps.pop("window"), steps


class _Bare:
    """libvirt and librbd called directly; the image is opened before the window."""

    def __init__(self, site: Site) -> None:
        self._closing = contextlib.ExitStack()
        self._ioctx: rados.Ioctx = self._closing.enter_context(site.ceph.pool(POOL))

    def __enter__(self) -> _Bare:
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.close()

    def window(self, site: Site) -> tuple[float, dict[str, float]]:
        """Freeze, snapshot, thaw. Blocks."""
        domain, steps = site.guest.domain, dict[str, float]()
        domain.agentSetResponseTimeout(10, 0)
        with rbd.Image(self._ioctx, IMAGE) as image, _timed(steps, "window"):
            with _timed(steps, "freeze"):
                domain.fsFreeze()
            with _timed(steps, "snapshot"):
                image.create_snap(_name())
            with _timed(steps, "thaw"):
                domain.fsThaw()
        return steps.pop("window"), steps


def _shell(site: Site) -> tuple[float, dict[str, float]]:
    steps = dict[str, float]()
    virsh = ["virsh", "-q", "-c", site.libvirtd.uri]
    snapshot = ["rbd", "-c", str(site.ceph.conf), "snap", "create", f"{POOL}/{IMAGE}@{_name()}"]
    with _timed(steps, "window"):
        for step, argv in (
            ("freeze", [*virsh, "domfsfreeze", site.guest.name]),
            ("snapshot", [*snapshot, "--no-progress"]),
            ("thaw", [*virsh, "domfsthaw", site.guest.name]),
        ):
            with _timed(steps, step):
                subprocess.run(argv, check=True, capture_output=True, env=environment())
    return steps.pop("window"), steps


def _name() -> str:
    return f"bench-{uuid.uuid4().hex}"
