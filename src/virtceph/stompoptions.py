"""What an operator may set of the wire that engines speak."""

from __future__ import annotations

from dataclasses import dataclass

from virtceph import tlsoptions
from virtceph.option import option
from virtceph.units import GiB, KiB, MiB


@dataclass(frozen=True)
class Stomp:
    enabled: bool = option(
        False,
        "Serve engines: JSON-RPC in STOMP over mutual TLS. Who of them may do what, [access] says by their\n"
        "certificates; without such an entry nobody gets in.",
    )
    address: str = option(
        "::",
        "The IP address to listen on. :: is every address, of IPv4 too; 0.0.0.0 where is no IPv6.",
    )
    port: int = option(54321, "The TCP port. vdsmd has the same one.", minimum=1, maximum=65535)
    tls: bool = option(
        True,
        "Without it whoever connects is taken for what [access] says of plain:*, so it may only be left out\n"
        "on a loopback address, for tests.",
    )
    certificate: str = tlsoptions.certificate()
    key: str = tlsoptions.key()
    ca: str = tlsoptions.authority()
    max_connections: int = option(
        256, "Connections at once; a further one is told so and closed.", minimum=1, maximum=65536
    )
    max_frame_bytes: int = option(
        MiB,
        "A larger frame is refused, and its connection closed.",
        minimum=1024,
        maximum=GiB,
    )
    max_header_bytes: int = option(
        16 * KiB, "The same for a frame's command and headers.", minimum=256, maximum=MiB
    )
    max_headers: int = option(64, "The same for the number of headers.", minimum=8, maximum=10000)
    max_in_flight: int = option(
        64,
        "Requests of one connection that may be under way; a further one is answered 1100. Verbs that never\n"
        "wait do not count, nor do those that end a freeze.",
        minimum=1,
        maximum=10000,
    )
    max_in_flight_total: int = option(
        256, "The same for all connections together.", minimum=1, maximum=100000
    )
    max_queued_bytes: int = option(
        MiB,
        "What may wait for a connection that does not read, before it is closed. Its requests are not read\n"
        "long before that.",
        minimum=1024,
        maximum=GiB,
    )
    max_subscriptions: int = option(
        64, "Subscriptions of one connection.", minimum=1, maximum=10000
    )
    handshake_timeout_s: float = option(
        10.0,
        "How long TLS may take, and then the first frame.",
        minimum=0.1,
        maximum=600.0,
    )
    idle_timeout_s: float = option(
        900.0,
        "When a connection is closed that agreed on no heart-beats and asks nothing, and one that has begun\n"
        "a frame and does not end it.",
        minimum=0.1,
        maximum=1e6,
    )
