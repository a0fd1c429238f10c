"""Snapshot names while they are being made: one maker for each, and none while a late one may appear.

librbd tells a second maker of the same name "done" where the image's owner had it from the first. So two
requests of this host for one name are kept apart here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from virtceph.errors import CephUnavailable, SnapshotExists, VirtcephError
from virtceph.log import facts

log = logging.getLogger(__name__)

# A request that was given up may be carried out when the image's owner wakes, or when dead clients are
# forgotten; after this long it is not.
_SWEEP_S = 90.0
_LOOK_AGAIN_S = 3.0

Name = tuple[str, str, str]
Then = Callable[[], None]


def nothing() -> None:
    """What comes after what needs nothing afterwards."""


class SnapshotNames:
    """The names under way, each as (cluster and pool, image, snapshot)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making: set[Name] = set()
        self._given_up: set[Name] = set()

    @contextmanager
    def reserve(self, names: list[Name]) -> Iterator[None]:
        """Be the only maker of these names inside the block.

        Raises:
            SnapshotExists: another request is making one of them.
            CephUnavailable: one was given up and may still appear.
        """
        with self._lock:
            for name in names:
                if name in self._given_up:
                    raise CephUnavailable(
                        f"an earlier request for {name[1]}@{name[2]} was given up and may still be "
                        "carried out; it is undone then"
                    )
                if name in self._making:
                    raise SnapshotExists(name[1], name[2])
            self._making.update(names)
        try:
            yield
        finally:
            with self._lock:
                self._making.difference_update(names)

    def give_up(
        self,
        name: Name,
        exists: Callable[[], bool],
        remove: Callable[[], object],
        then: Then = nothing,
    ) -> None:
        """Undo the snapshot if it appears later; `then` is called when it no longer will. Does not wait; the
        name is taken meanwhile."""
        with self._lock:
            self._given_up.add(name)

        def sweep() -> None:
            self._sweep(name, exists, remove)
            then()
            with self._lock:
                self._given_up.discard(name)

        threading.Thread(target=sweep, name="sweep-snapshot", daemon=True).start()

    def _sweep(self, name: Name, exists: Callable[[], bool], remove: Callable[[], object]) -> None:
        end_s = time.monotonic() + _SWEEP_S
        while time.monotonic() < end_s:
            time.sleep(_LOOK_AGAIN_S)
            try:
                if exists():
                    outcome = remove()
                    told = (
                        "late snapshot undone" if outcome is None else "late snapshot, still there"
                    )
                    log.warning("%s %s", told, facts(of=name[1], snapshot=name[2], outcome=outcome))
            except VirtcephError as error:
                log.warning("late snapshot? %s", facts(of=name[1], snapshot=name[2], reason=error))


def after_all(count: int, act: Then) -> Then:
    """A function whose call number `count` calls `act`."""
    lock, calls = threading.Lock(), 0

    def called() -> None:
        nonlocal calls
        with lock:
            calls += 1
            last = calls == count
        if last:
            act()

    return called
