"""What an operator may set of HTTP, of events and of metrics."""

from __future__ import annotations

from dataclasses import dataclass

from virtceph import tlsoptions
from virtceph.option import option
from virtceph.units import GiB, KiB, MiB


@dataclass(frozen=True)
class Http:
    socket: str = option("/run/virtceph/virtcephd.sock", "The UNIX socket; mode 0660.")
    socket_group: str = option(
        "virtceph",
        "The group of the socket's file: who may connect. What they may do, [access] says.",
    )
    enabled: bool = option(
        False,
        "Serve the same on a TCP port too, over mutual TLS. Who may do what there, [access] says by the\n"
        "certificates; without such an entry nobody gets in.",
    )
    address: str = option(
        "::",
        "The IP address to listen on. :: is every address, of IPv4 too; 0.0.0.0 where is no IPv6.",
    )
    port: int = option(54322, "The TCP port.", minimum=1, maximum=65535)
    certificate: str = tlsoptions.certificate()
    key: str = tlsoptions.key()
    ca: str = tlsoptions.authority()
    max_body_bytes: int = option(
        4 * MiB, "A larger request body is refused.", minimum=1024, maximum=GiB
    )
    max_connections: int = option(
        256,
        "Connections at once, of the UNIX socket and of TCP each; a further one is told so and closed.",
        minimum=1,
        maximum=65536,
    )
    max_batch: int = option(
        1000, "Requests in one body; an array of more is refused.", minimum=1, maximum=100_000
    )
    max_in_flight: int = option(
        64,
        "Requests of one body that may be under way; a further one is answered 1100. Verbs that never wait\n"
        "do not count, nor do those that end a freeze.",
        minimum=1,
        maximum=10000,
    )
    max_in_flight_total: int = option(
        256,
        "The same for all connections together, of the UNIX socket and of TCP each.",
        minimum=1,
        maximum=100000,
    )
    handshake_timeout_s: float = option(10.0, "How long TLS may take.", minimum=0.1, maximum=600.0)
    request_timeout_s: float = option(
        30.0,
        "How long a request may take to come, from its first byte to the end of its body; and when a\n"
        "connection is closed whose caller takes nothing of his reply.",
        minimum=0.1,
        maximum=3600.0,
    )
    idle_timeout_s: float = option(
        900.0,
        "When a connection is closed that asks nothing. Streams of events do not count.",
        minimum=0.1,
        maximum=1e6,
    )


@dataclass(frozen=True)
class Events:
    kept: int = option(
        10_000,
        "How many events are kept for who comes back with a cursor.",
        minimum=16,
        maximum=1_000_000,
    )
    kept_bytes: int = option(
        8 * MiB, "How much memory those may take.", minimum=64 * KiB, maximum=GiB
    )
    max_streams: int = option(
        64, "Streams of `GET /events` at once; a further one is refused.", minimum=1, maximum=10000
    )
    keepalive_s: float = option(
        15.0,
        "How often a stream on which nothing happens is told that it is alive.",
        minimum=0.1,
        maximum=3600.0,
    )
    stuck_timeout_s: float = option(
        60.0,
        "When a stream is closed whose reader takes nothing. One that is merely slow is told what it lost.",
        minimum=0.1,
        maximum=3600.0,
    )


@dataclass(frozen=True)
class Metrics:
    address: str = option(
        "",
        "An IP address on which `/metrics`, and nothing else, is served without TLS to whoever asks; empty:\n"
        "nowhere. VMs and storage domains are named there.",
    )
    port: int = option(9757, "Its TCP port.", minimum=1, maximum=65535)
