"""Resident memory of the daemon, against a Python that only has the libraries and connections."""

from __future__ import annotations

import time
from collections.abc import Iterator

from bench.figures import Goal, Row, Samples
from bench.process import children, memory_mib, started
from bench.site import Site
from tests.lab.processes import wait_until
from tests.lab.stack import POOL
from virtceph.client import connect

RUNS = 5
SETTLE_S = 1.0
GOAL = Goal(1.5)
BARE = """
import sys, time, libvirt, rados, rbd
connection = libvirt.open(sys.argv[1])
cluster = rados.Rados(conffile=sys.argv[2], name="client.admin")
cluster.connect()
pool = cluster.open_ioctx(sys.argv[3])
rbd.RBD().list(pool)
print("connected", flush=True)
time.sleep(600)
"""

Memory = tuple[float, float]


def measure(site: Site) -> Iterator[Row]:
    """Rows for the daemon and one of its workers. Blocks, about 25 s."""
    bare: list[Memory] = []
    daemons: list[Memory] = []
    workers: list[list[Memory]] = []
    for number in range(RUNS):
        bare.append(_bare(site, number))
        daemon, its_workers = _daemon(site, number)
        daemons.append(daemon)
        workers.append(its_workers)
    yield _row("daemon, a storage domain connected", daemons, bare, GOAL)
    each = [memory for group in workers for memory in group]
    count = min(len(group) for group in workers)
    yield _row(f"… each of its {count} workers", each, bare, None)


def _row(name: str, ours: list[Memory], bare: list[Memory], goal: Goal | None) -> Row:
    resident, reference = ([memory[0] for memory in group] for group in (ours, bare))
    shares = [
        Samples(who, [m[1] for m in group]) for who, group in (("ours", ours), ("bare", bare))
    ]
    note = f"proportional: {shares[0].median:.0f} MiB against {shares[1].median:.0f}"
    samples = Samples("resident", resident), Samples("bare Python", reference)
    return Row(name, "MiB", *samples, goal, note, shares)


def _bare(site: Site, number: int) -> Memory:
    name = f"bare-{number}"
    arguments = ["-c", BARE, site.libvirtd.uri, str(site.ceph.conf), POOL]
    with started(site.folder, name, arguments) as process:
        log = site.folder / f"{name}.log"
        wait_until(lambda: "connected" in log.read_text(), name, 30, process=process, log=log)
        time.sleep(SETTLE_S)
        return memory_mib(process.pid)


def _daemon(site: Site, number: int) -> tuple[Memory, list[Memory]]:
    daemon = site.start_daemon(f"daemon-{number}")
    try:
        with connect(str(daemon.socket)) as client:
            site.connect_storage(client)
            wait_until(lambda: len(children(daemon.pid)) >= 2, "the workers", 20)
            time.sleep(SETTLE_S)
            workers = [memory_mib(pid) for pid in children(daemon.pid)]
            return memory_mib(daemon.pid), workers
    finally:
        daemon.stop()
