"""A list of 1,000 images with their sizes: by Volume.list, by `rbd ls -l`, and by opening each image."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import rados
import rbd

from bench.figures import Goal, Row, Samples
from bench.process import environment
from bench.site import Site
from tests.lab.stack import POOL

IMAGES = 1000
ROUNDS = 7
MAKERS = 16
DAEMON, COMMAND, OPENED, NAMES = "Volume.list", "rbd ls -l", "librbd, 8 threads", "rbd ls"
# The daemon's answer crosses a socket and is checked; the command also has to start.
GOAL = Goal(1 / 10)

Way = Callable[[], dict[str, int]]


def measure(site: Site) -> Iterator[Row]:
    """A row for each way to list them. Blocks, about a minute."""
    site.connect_storage(site.client)
    with site.ceph.pool(POOL) as ioctx:
        sizes = _make(ioctx)
        ways: dict[str, Way] = {
            DAEMON: lambda: _by_verb(site),
            COMMAND: lambda: _by_command(site, "-l"),
            OPENED: lambda: _by_opening(ioctx),
            NAMES: lambda: _by_command(site),
        }
        taken = _rounds(ways, sizes)
        _remove(ioctx, sizes)
    samples = {name: Samples(name, values) for name, values in taken.items()}
    name = f"{IMAGES:,} images with their sizes"
    yield Row(name, "ms", samples[DAEMON], samples[COMMAND], GOAL)
    yield Row("… against opening each", "ms", samples[DAEMON], samples[OPENED])
    yield Row(f"… against {NAMES}, names alone", "ms", samples[DAEMON], samples[NAMES])


def _rounds(ways: dict[str, Way], sizes: dict[str, int]) -> dict[str, list[float]]:
    """Each way in each round, in an order of chance; every list is seen to be right."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    chance = random.Random(3)
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name in chance.sample(list(ways), len(ways)):
            begun_s = time.perf_counter()
            listed = ways[name]()
            taken[name].append((time.perf_counter() - begun_s) * 1000)
            wanted = dict.fromkeys(sizes, 0) if name == NAMES else sizes
            if {image: size for image, size in listed.items() if image in sizes} != wanted:
                raise AssertionError(f"{name} lists something else")
    return taken


def _make(ioctx: rados.Ioctx) -> dict[str, int]:
    sizes = {f"listed-{number:04}": (number + 1) << 20 for number in range(IMAGES)}

    def make(name: str) -> None:
        rbd.RBD().create(ioctx, name, sizes[name], old_format=False)

    with ThreadPoolExecutor(MAKERS) as threads:
        list(threads.map(make, sizes))
    return sizes


def _remove(ioctx: rados.Ioctx, sizes: dict[str, int]) -> None:
    with ThreadPoolExecutor(MAKERS) as threads:
        list(threads.map(lambda name: rbd.RBD().remove(ioctx, name), sizes))


def _by_verb(site: Site) -> dict[str, int]:
    listed = site.client.call(
        "Volume.list", storageDomainID=site.storage_domain_id, limit=2 * IMAGES
    )
    return {volume["volumeName"]: volume["size"] for volume in listed}


def _by_command(site: Site, *options: str) -> dict[str, int]:
    argv = ["rbd", "-c", str(site.ceph.conf), "ls", *options, POOL]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment())
    rows = [line.split() for line in done.stdout.splitlines()]
    # `listed-0000  1 MiB  2`
    return {row[0]: _bytes(row) if options else 0 for row in rows if row[0] != "NAME"}


def _bytes(row: list[str]) -> int:
    return int(float(row[1]) * {"MiB": 1 << 20, "GiB": 1 << 30}[row[2]])


def _by_opening(ioctx: rados.Ioctx) -> dict[str, int]:
    def size(name: str) -> int:
        with rbd.Image(ioctx, name, read_only=True) as image:
            return int(image.size())

    names = rbd.RBD().list(ioctx)
    with ThreadPoolExecutor(8) as threads:
        return dict(zip(names, threads.map(size, names), strict=True))
