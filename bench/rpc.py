"""`Host.ping2` over each transport: the server's CPU and the time of a request, against servers that do
nothing on the same transport; and how late answers are while guests and a storage domain hang."""

from __future__ import annotations

import contextlib
import ssl
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.figures import Goal, Row, Samples
from bench.load import Cost, HttpLoad, StompLoad, cost
from bench.process import started
from bench.site import Site
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from tests.lab.pki import LabPki
from tests.lab.processes import wait_until
from tests.lab.stack import IMAGE_BYTES, POOL
from tests.lab.state import free_port
from tests.wire.serving import client_tls
from virtceph.client import Client, ClientError, connect

ROUNDS, CALLS, WARM_UP = 9, 4000, 500
AT_ONCE = (1, 16)
PLAIN_GOAL, TLS_GOAL = Goal(8.0), Goal(4.0)
GUESTS, PINGS = 8, 2000
LATE_GOAL = Goal(5.0, absolute=True)
LEASE_S = 120

# A load of so many in flight.
Open = Callable[[int], StompLoad | HttpLoad]


class Side:
    """A server, and how it is asked."""

    def __init__(self, name: str, pid: int, opened: Open) -> None:
        self.name, self.pid, self.open = name, pid, opened
        self.costs: dict[int, list[Cost]] = {count: [] for count in AT_ONCE}


def measure(site: Site) -> Iterator[Row]:
    """Rows for each transport, and for what hangs. Blocks, about 3 minutes."""
    pki = LabPki.make(site.folder / "rpc-pki")
    daemon, port = _daemon(site, "rpc", pki, {})
    plain, plain_port = _daemon(site, "rpc-plain", pki, {"tls": False})
    tls = client_tls(pki.of("engine.lab"))
    try:
        yield from _transport(
            site, "STOMP, plain", PLAIN_GOAL, _stomp(plain, plain_port, None), None
        )
        yield from _transport(site, "STOMP, TLS", TLS_GOAL, _stomp(daemon, port, tls), pki)
        yield from _http(site, daemon)
        yield from _late(site, daemon, ("127.0.0.1", port), tls)
    finally:
        # With the key that one of them has under a usage id of its own, nobody else could register it.
        for one in (daemon, plain):
            one.stop()


def _daemon(site: Site, name: str, pki: LabPki, stomp: dict[str, Any]) -> tuple[Daemon, int]:
    port = free_port()
    settings = pki.settings(port)
    settings["access"]["admins"].append("plain:*")
    settings["stomp"].update(stomp)
    prefix = {"secrets": {"usage_prefix": f"{name}/"}}
    return site.start_daemon(name, overrides={**settings, **prefix}), port


def _stomp(daemon: Daemon, port: int, tls: ssl.SSLContext | None) -> Side:
    return Side("daemon", daemon.pid, lambda count: StompLoad(("127.0.0.1", port), tls, count))


def _transport(site: Site, name: str, goal: Goal, ours: Side, pki: LabPki | None) -> Iterator[Row]:
    port, host = free_port(), None if pki is None else pki.host
    files = [] if host is None else [str(p) for p in (host.certificate, host.key, host.ca)]
    tls = None if pki is None else client_tls(pki.of("engine.lab"))
    arguments = ["-m", "bench.null_wire", str(port), *files]
    with started(site.folder, f"null wire {port}", arguments) as process:
        wait_until(lambda: _listens(port), "the null server", 10)
        null = Side(
            "null server", process.pid, lambda count: StompLoad(("127.0.0.1", port), tls, count)
        )
        _measure([ours, null])
    yield from _rows(name, goal, ours, null)


def _listens(port: int) -> bool:
    needle = f":{port:04X} "
    return any(
        needle in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines()
    )


def _http(site: Site, daemon: Daemon) -> Iterator[Row]:
    path = site.folder / "rpc-null.sock"
    with started(site.folder, "null http", ["-m", "bench.null_server", str(path)]) as process:
        wait_until(path.exists, "the null server", 10)
        ours = Side("daemon", daemon.pid, lambda count: HttpLoad(daemon.socket, count))
        null = Side("null server", process.pid, lambda count: HttpLoad(path, count))
        _measure([ours, null])
    yield from _rows("HTTP, UNIX socket", None, ours, null)


def _measure(sides: list[Side]) -> None:
    for count in AT_ONCE:
        loads = [side.open(count) for side in sides]
        for side, load in zip(sides, loads, strict=True):
            cost(load, side.pid, WARM_UP)
        for _ in range(ROUNDS):
            for side, load in zip(sides, loads, strict=True):
                side.costs[count].append(cost(load, side.pid, CALLS))
        for load in loads:
            load.close()


def _rows(name: str, goal: Goal | None, ours: Side, null: Side) -> Iterator[Row]:
    for count in AT_ONCE:
        cpu, null_cpu = (
            Samples(side.name, [cost.cpu_us for cost in side.costs[count]]) for side in (ours, null)
        )
        times = [
            Samples(side.name, [c.time_us for c in side.costs[count]]) for side in (ours, null)
        ]
        rate, null_rate = (1e6 / samples.median for samples in times)
        note = f"{rate:,.0f} requests/s against {null_rate:,.0f}"
        chosen = goal if count == max(AT_ONCE) else None
        yield Row(f"{name}: CPU, {count} in flight", "µs", cpu, null_cpu, chosen, note, times)


# --- while others hang ---


def _late(
    site: Site, daemon: Daemon, address: tuple[str, int], tls: ssl.SSLContext
) -> Iterator[Row]:
    load = StompLoad(address, tls, 1)
    with connect(str(daemon.socket)) as client:
        site.connect_storage(client, "rpc/")
        idle = [_p99_ms(load) for _ in range(ROUNDS)]
        with _hung(site, daemon, client):
            hung = [_p99_ms(load) for _ in range(ROUNDS)]
    load.close()
    note = f"p99 of {PINGS} each round; {GUESTS} guests' agents and the cluster's OSD do not answer"
    samples = Samples("while they hang", hung), Samples("idle", idle)
    yield Row("STOMP, TLS: p99 of Host.ping2 while others hang", "ms", *samples, LATE_GOAL, note)


def _p99_ms(load: StompLoad) -> float:
    took = []
    for _ in range(PINGS):
        began_s = time.perf_counter()
        load.run(1)
        took.append((time.perf_counter() - began_s) * 1000)
    return statistics.quantiles(took, n=100)[98]


@contextlib.contextmanager
def _hung(site: Site, daemon: Daemon, client: Client) -> Iterator[None]:
    """Guests whose agents stopped while they are frozen, and a cluster whose OSD did, all asked all the
    time."""
    stop = threading.Event()
    names = [f"hung{number}" for number in range(GUESTS)]
    for name in names:
        site.ceph.create_image(POOL, name, IMAGE_BYTES)
    guests = [site.run_guest(name, name) for name in names]
    for guest in guests:
        guest.wait_for_agent()
        client.VM.freeze(vmID=guest.uuid, timeout=LEASE_S)
        guest.command("agent-stop")
    site.ceph.suspend_osd()
    calls: list[tuple[str, dict[str, Any]]] = [
        *(("VM.getFreezeStatus", {"vmID": guest.uuid}) for guest in guests),
        ("Volume.getInfo", {"storageDomainID": site.storage_domain_id, "volumeName": "bench"}),
        ("Volume.list", {"storageDomainID": site.storage_domain_id}),
    ]
    with ThreadPoolExecutor(len(calls)) as threads:
        for verb, params in calls:
            threads.submit(_ask, daemon, stop, verb, params)
        time.sleep(1)
        try:
            yield
        finally:
            stop.set()
            site.ceph.resume_osd()
            _wake(client, guests)


def _ask(daemon: Daemon, stop: threading.Event, verb: str, params: dict[str, Any]) -> None:
    with connect(str(daemon.socket)) as client:
        while not stop.is_set():
            with contextlib.suppress(ClientError):
                client.call(verb, **params)


def _wake(client: Client, guests: list[Guest]) -> None:
    for guest in guests:
        guest.command("agent-cont")
        with contextlib.suppress(ClientError):
            client.VM.thaw(vmID=guest.uuid)
        guest.destroy()
