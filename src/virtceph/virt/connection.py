"""Connections to libvirt: one that is watched and comes back by itself, and pools for agent calls."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

import libvirt

from virtceph.errors import LaneBusy, LibvirtUnavailable, VirtcephError
from virtceph.log import facts
from virtceph.virt.faults import reason_of

log = logging.getLogger(__name__)

_RETRY_S = 0.1
# A libvirtd that answers no keep-alive for this long is given up: calls in flight then fail.
_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT = 5, 3
_event_loop_started = threading.Lock()


def start_event_loop() -> None:
    """Run libvirt's event loop in a thread of its own; once per process, before any connection."""
    if not _event_loop_started.acquire(blocking=False):
        return
    libvirt.registerErrorHandler(lambda _ctx, _error: None, None)  # errors reach us as exceptions
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()

    threading.Thread(target=run, name="libvirt-events", daemon=True).start()


def _open(uri: str) -> libvirt.virConnect:
    connection = libvirt.open(uri)
    connection.setKeepAlive(_KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT)
    return connection


def _close(connection: libvirt.virConnect) -> None:
    # A registered callback holds a reference, and while it does `close` closes nothing. Closing what
    # libvirtd has already lost raises; there is nothing left to do then.
    for step in (connection.unregisterCloseCallback, connection.close):
        with contextlib.suppress(libvirt.libvirtError):
            step()


class Connection:
    """The daemon's watched connection. When libvirtd goes away it tries again until it is back, and
    calls `on_back` before anybody may use it: that is where the secrets are put back; `on_returned` hears
    afterwards how long it was away. `on_closing` is called before a connection is closed, lost or not:
    callbacks left behind would keep it open."""

    def __init__(
        self,
        uri: str,
        *,
        opener: Callable[[str], libvirt.virConnect] = _open,
        on_lost: Callable[[str], None] = lambda _reason: None,
        on_back: Callable[[libvirt.virConnect], None] = lambda _connection: None,
        on_returned: Callable[[float], None] = lambda _after_s: None,
        on_closing: Callable[[], None] = lambda: None,
    ) -> None:
        self.uri = uri
        self._opener, self._on_lost, self._on_back = opener, on_lost, on_back
        self._on_returned, self._on_closing = on_returned, on_closing
        self._connection: libvirt.virConnect | None = None
        self._ready = threading.Event()
        self._lost = threading.Event()
        self._stopped = threading.Event()
        self._reason = "not connected yet"
        self._number = 0
        self._watcher = threading.Thread(target=self._watch, name="libvirt-watch", daemon=True)

    def open(self, timeout_s: float) -> None:
        """Connect, trying for `timeout_s`. Blocks. Raises LibvirtUnavailable."""
        deadline_s = time.monotonic() + timeout_s
        while not self._try_open():
            if time.monotonic() >= deadline_s:
                raise LibvirtUnavailable(self._reason)
            self._stopped.wait(_RETRY_S)
        self._watcher.start()

    def get(self, wait_s: float = 2.0) -> libvirt.virConnect:
        """The live connection; waits up to `wait_s` while libvirtd restarts. Raises LibvirtUnavailable."""
        connection = self._connection if self._ready.wait(wait_s) else None
        if connection is None:
            raise LibvirtUnavailable(self._reason)
        return connection

    @property
    def is_there(self) -> bool:
        """Whether there is a live connection, as far as is known. Does not block."""
        return self._ready.is_set()

    def close(self) -> None:
        """Close for good. Blocks until the watcher has ended."""
        self._stopped.set()
        self._lost.set()
        if self._watcher.is_alive():
            self._watcher.join(timeout=2)
        self._ready.clear()
        if self._connection is not None:
            self._close(self._connection)
            self._connection = None

    def _close(self, connection: libvirt.virConnect) -> None:
        self._on_closing()
        _close(connection)

    def _try_open(self) -> bool:
        # Before the connection exists: a loss of it is never forgotten, and one of an earlier
        # connection, told late, has another number.
        self._number += 1
        self._lost.clear()
        try:
            connection = self._opener(self.uri)
        except libvirt.libvirtError as error:
            self._reason = reason_of(error)
            return False
        try:
            connection.registerCloseCallback(self._closed, self._number)
            self._on_back(connection)
            alive = bool(connection.isAlive())
        except (libvirt.libvirtError, VirtcephError) as error:
            # Lost again while the secrets were put back.
            self._reason = str(error) if isinstance(error, VirtcephError) else reason_of(error)
            alive = False
        if not alive or self._stopped.is_set():
            self._close(connection)
            return False
        self._connection = connection
        self._ready.set()
        return True

    def _closed(self, _connection: libvirt.virConnect, reason: int, number: object) -> None:
        # Runs in libvirt's event thread: only posts.
        if number == self._number:
            self._reason = f"libvirtd closed the connection (reason {reason})"
            self._lost.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self._lost.wait()
            if self._stopped.is_set():
                return
            self._ready.clear()
            old, self._connection = self._connection, None
            log.warning("libvirt lost %s", facts(reason=self._reason))
            self._on_lost(self._reason)
            if old is not None:
                self._close(old)
            lost_at_s = time.monotonic()
            while not self._try_open():
                if self._stopped.wait(_RETRY_S):
                    return
            away_s = time.monotonic() - lost_at_s
            log.info("libvirt back %s", facts(after_s=away_s))
            self._on_returned(away_s)


class ConnectionPool:
    """Connections for guest agent calls, apart from all others: libvirtd serves five requests of a
    client at a time, so five hung agents on a shared connection would stall everything on it."""

    def __init__(self, uri: str, *, connections: int, calls_each: int, lane: str) -> None:
        self._uri, self._calls_each, self._lane = uri, calls_each, lane
        self._slots: list[_Slot] = [_Slot() for _ in range(connections)]
        self._free = threading.Condition()

    @contextlib.contextmanager
    def connection(self, timeout_s: float) -> Iterator[libvirt.virConnect]:
        """A connection with room for one more call. Blocks up to `timeout_s`.

        Raises:
            LaneBusy: none came free.
            LibvirtUnavailable: libvirtd cannot be reached.
        """
        slot = self._take(timeout_s)
        try:
            yield slot.live(self._uri)
        finally:
            with self._free:
                slot.calls -= 1
                self._free.notify()

    def close(self) -> None:
        """Close every connection; calls in flight fail."""
        for slot in self._slots:
            slot.close()

    def _take(self, timeout_s: float) -> _Slot:
        with self._free:
            if not self._free.wait_for(self._least_busy_is_free, timeout_s):
                raise LaneBusy(self._lane)
            slot = min(self._slots, key=lambda s: s.calls)
            slot.calls += 1
            return slot

    def _least_busy_is_free(self) -> bool:
        return min(slot.calls for slot in self._slots) < self._calls_each


class _Slot:
    def __init__(self) -> None:
        self.calls = 0
        self._lock = threading.Lock()
        self._connection: libvirt.virConnect | None = None

    def live(self, uri: str) -> libvirt.virConnect:
        with self._lock:
            if self._connection is not None and not self._connection.isAlive():
                _close(self._connection)
                self._connection = None
            if self._connection is None:
                try:
                    self._connection = _open(uri)
                except libvirt.libvirtError as error:
                    raise LibvirtUnavailable(reason_of(error)) from error
            return self._connection

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                _close(self._connection)
                self._connection = None
