"""Who hears what is told: each event is held against the contract, and kept."""

from __future__ import annotations

from typing import TypeVar

from virtceph.events import Event
from virtceph.host.events import Events
from virtceph.schema import load_contract

E = TypeVar("E", bound=Event)
_BUS = Events(load_contract(), kept=16)


def heard(event: Event) -> None:
    """Raises TypeError or KeyError for an event that is not as the contract says."""
    _BUS.encode(event)


class Heard:
    """To be given to who tells. Unlike the daemon's own it raises for what is not as the contract says."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        heard(event)
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Those of one class."""
        return [event for event in self.events if type(event) is kind]

    def names(self) -> list[str]:
        """What was told, in its order."""
        return [event.name for event in self.events]
