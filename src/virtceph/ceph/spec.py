"""Which cluster, as whom, which pool: plain values that cross threads and processes."""

from __future__ import annotations

from dataclasses import dataclass

from virtceph.sensitive import Sensitive

_V2_PORT = "3300"


@dataclass(frozen=True)
class ClusterSpec:
    """How to reach a cluster. `op_timeout_s` bounds each call of the connection."""

    monitors: tuple[str, ...]
    user: str
    key: Sensitive
    op_timeout_s: float

    def mon_host(self) -> str:
        """The `mon_host` option. Each address names its protocol: without one librados tries v2 on
        a v1 port that is not the standard one, and waits until its time-out."""
        return ",".join(f"[{with_protocol(monitor)}]" for monitor in self.monitors)


def with_protocol(monitor: str) -> str:
    """A monitor's address with `v1:` or `v2:` before it."""
    if monitor.startswith(("v1:", "v2:")):
        return monitor
    return f"v2:{monitor}" if monitor.endswith(f":{_V2_PORT}") else f"v1:{monitor}"


@dataclass(frozen=True)
class PoolSpec:
    """A pool, and a namespace in it ("" for the default one)."""

    pool: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.pool}/{self.namespace}" if self.namespace else self.pool
