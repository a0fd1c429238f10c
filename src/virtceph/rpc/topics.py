"""Destinations: who is subscribed to what, over all connections, and how a message reaches them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from virtceph.rpc import stomp
from virtceph.schema.spec import LEVELS

# Clients send their requests to one of these, or to a name below it.
REQUESTS = ("jms.topic.vdsm_requests", "jms.topic.vdsm_irs_requests")
# Where a reply goes whose request names no destination, or whose request could not be read.
RESPONSES = "jms.topic.vdsm_responses"
EVENTS = "jms.queue.events"

# Some clients read a frame's head into 1,024 bytes, and break at a longer one. The rest is for the
# content-length and the end.
MAX_HEAD_BYTES = 1000


class Outbox(Protocol):
    """The sending side of a connection."""

    def frame(self, data: bytes) -> None:
        """Send a frame."""

    def reply(self, head: bytes, body: bytes) -> None:
        """Send a message of JSON-RPC replies."""


class Subscription:
    """One subscription of one connection. `id` is the connection's own word for it; `level` its caller's."""

    def __init__(
        self, outbox: Outbox, ident: str, destination: str, level: str = LEVELS[-1]
    ) -> None:
        self.outbox, self.id, self.destination = outbox, ident, destination
        self.level = level
        # Of each message with JSON for it, in the order that clients are used to.
        self.head = stomp.head(
            "MESSAGE",
            [
                ("destination", destination),
                ("content-type", "application/json"),
                ("subscription", ident),
            ],
        )


class Topics:
    """The subscriptions of all connections, by their destinations."""

    def __init__(self) -> None:
        # Dicts, since they keep the order in which subscriptions were made.
        self._of: dict[str, dict[Subscription, None]] = {}

    def add(self, subscription: Subscription) -> None:
        """Take it into account."""
        self._of.setdefault(subscription.destination, {})[subscription] = None

    def remove(self, subscription: Subscription) -> None:
        """Forget it."""
        those = self._of[subscription.destination]
        del those[subscription]
        if not those:
            del self._of[subscription.destination]

    def of(self, destination: str) -> list[Subscription]:
        """Those of this very destination."""
        return list(self._of.get(destination, ()))

    def covering(self, destination: str) -> list[Subscription]:
        """Those of a destination, and of whatever it is below: `a` and `a.b` cover `a.b.c`."""
        return [found for name in _with_prefixes(destination) for found in self._of.get(name, ())]

    def broadcast(self, destination: str, body: bytes, level: str = LEVELS[0]) -> None:
        """Send JSON to all of a destination whose callers have at least a level."""
        for subscription in self.of(destination):
            if LEVELS.index(subscription.level) < LEVELS.index(level):
                continue
            subscription.outbox.frame(stomp.with_body(subscription.head, body))


def is_for_requests(destination: str) -> bool:
    """Whether what is sent there is a request."""
    return any(destination == queue or destination.startswith(f"{queue}.") for queue in REQUESTS)


def forwarded(headers: Mapping[str, str]) -> bytes:
    """The headers with which a client's message reaches the subscribers, behind that of the subscription."""
    rest = [pair for pair in headers.items() if pair[0] not in ("subscription", "content-length")]
    return b"".join(stomp.header(*pair) for pair in rest)


def forward(subscriptions: list[Subscription], lines: bytes, body: bytes) -> None:
    """Send a client's message to subscribers, with the headers of `forwarded`."""
    for subscription in subscriptions:
        head = stomp.head("MESSAGE", [("subscription", subscription.id)]) + lines
        subscription.outbox.frame(stomp.with_body(head, body))


def _with_prefixes(destination: str) -> Iterator[str]:
    at = destination.find(".")
    while at >= 0:
        yield destination[:at]
        at = destination.find(".", at + 1)
    yield destination
