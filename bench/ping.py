"""A warm `Host.ping2` against a server that does nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from bench.figures import Row, Samples
from bench.process import started
from bench.site import Site
from tests.lab.processes import wait_until
from virtceph.client import Client, connect

ROUNDS, CALLS, WARM_UP = 15, 500, 200


def measure(site: Site) -> Iterator[Row]:
    """One row. Blocks, about 10 s."""
    with _null_client(site) as null:
        clients = {"daemon": site.client, "null server": null}
        values: dict[str, list[float]] = {name: [] for name in clients}
        for client in clients.values():
            _calls_us(client, WARM_UP)
        for _ in range(ROUNDS):
            for name, client in clients.items():
                values[name].append(_calls_us(client, CALLS))
    ours, null_samples = (Samples(name, values[name]) for name in clients)
    note = f"one kept-alive connection of the client library, mean of {CALLS} calls each round"
    yield Row("Host.ping2 over the UNIX socket", "µs", ours, null_samples, note=note)


def _calls_us(client: Client, count: int) -> float:
    begun_s = time.perf_counter()
    for _ in range(count):
        client.call("Host.ping2")
    return (time.perf_counter() - begun_s) / count * 1e6


@contextmanager
def _null_client(site: Site) -> Iterator[Client]:
    path = site.folder / "null.sock"
    with started(site.folder, "null server", ["-m", "bench.null_server", str(path)]):
        wait_until(path.exists, "the null server", 10)
        with connect(str(path)) as client:
            yield client
