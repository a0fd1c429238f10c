"""The monitor map: which monitors a cluster has, and by which address QEMU reaches each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_V1_PORT, _V2_PORT = "6789", "3300"


@dataclass(frozen=True)
class Monitor:
    """One monitor: the addresses of its protocols, each `host:port` (`[address]:port` for IPv6)."""

    name: str
    v1: str | None
    v2: str | None

    def addresses(self) -> tuple[str, ...]:
        """All it has."""
        return tuple(address for address in (self.v2, self.v1) if address is not None)

    def for_qemu(self, *, v2: bool) -> str | None:
        """The address for a `<host>`, by the protocol `v2` or v1 if it has that; None when it has none that
        QEMU can use.

        QEMU hands librados host and port alone, and librados goes by the port: 3300 is the v2 protocol, 6789
        v1, and with any other it tries v2 first.
        """
        plain = [(self.v1, _V1_PORT), (self.v2, _V2_PORT)]
        for address, port in reversed(plain) if v2 else plain:
            if address is not None and address.endswith(f":{port}"):
                return address
        return self.v2 or self.v1


def read_monitors(dump: dict[str, Any]) -> tuple[Monitor, ...]:
    """What `mon dump` answers, in the order of ranks."""
    return tuple(Monitor(str(mon["name"]), *_by_protocol(mon)) for mon in dump.get("mons", ()))


def _by_protocol(mon: dict[str, Any]) -> tuple[str | None, str | None]:
    vector = mon.get("public_addrs", {}).get("addrvec", ())
    found = {entry["type"]: str(entry["addr"]) for entry in vector}
    if not found:
        # Before there were two protocols, there was one address, with a nonce.
        return str(mon["addr"]).partition("/")[0], None
    return found.get("v1"), found.get("v2")
