"""What the work of one mover has at hand: its clusters, its files, and how it tells how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import rados

from virtceph.ceph.cluster import Cluster
from virtceph.ceph.sources import Place

# How often a mover says how far it is.
_TELL_S = 0.2


class Stopped(Exception):
    """The daemon said to stop, or is gone."""


@dataclass
class Moving:
    """`tell` sends a message to the daemon, `stopped` says whether it wants the work to end. `fds` are the
    files that it opened for the work."""

    clusters: list[Cluster]
    fds: list[int]
    tell: Callable[[dict[str, Any]], None]
    stopped: Callable[[], bool]
    done_bytes: int = 0
    total_bytes: int = 0
    _signs: int = field(default=0, repr=False)
    _told_at_s: float = field(default=0.0, repr=False)

    def going(self) -> None:
        """Raise Stopped if the work is to end. Does not block."""
        if self.stopped():
            raise Stopped

    def expect(self, total_bytes: int) -> None:
        """Say how much more there is to do."""
        self.total_bytes += total_bytes
        self._tell()

    def working(self) -> None:
        """Say that something was done, though none of what is counted: else the daemon would take it that the
        cluster stalls. Raises Stopped."""
        self.going()
        self._signs += 1
        if time.monotonic() - self._told_at_s >= _TELL_S:
            self._tell()

    def advance(self, length: int) -> None:
        """Say that so many bytes more are done, or need not be. Raises Stopped."""
        if not length:
            self.going()
            return
        self.done_bytes += length
        self.working()

    def finish(self) -> None:
        """Say how far it came, now that all is done: what was done since the last time it was told counts."""
        self._tell()

    def ioctx(self, place: Place) -> rados.Ioctx:
        """The I/O context that a place lies in. Blocks. Raises NoSuchPool, CephUnavailable."""
        return self.clusters[place.cluster].ioctx(place.spec)

    def user(self, place: Place) -> str:
        """As whom the place is reached."""
        return self.clusters[place.cluster].spec.user

    def _tell(self) -> None:
        self._told_at_s = time.monotonic()
        # An estimate of what there is to do may be too low; more than all is never told.
        total = max(self.total_bytes, self.done_bytes)
        self.tell({"done": self.done_bytes, "total": total, "signs": self._signs})
