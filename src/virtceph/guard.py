"""virtceph-guard: thaws overdue guests, and lets paused VMs run again, when the daemon does not.

A small process apart from the daemon. It reads the records and does nothing else until one is overdue; then
it asks the guest to thaw, again and again, until the guest itself says that it is thawed or is gone, and
removes the record. It holds no key and loads no librbd.

The daemon thaws its own leases at their deadline. The guard comes a moment later, so that it acts only for
a daemon that is gone or stuck; two thaws of one guest do no harm. A VM that was paused for its memory to be
saved runs again as soon as no daemon is there to finish the work.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

from virtceph import config, errors, systemd
from virtceph import log as logs
from virtceph.host.pauses import resume
from virtceph.host.records import (
    EXPIRED,
    LEASES,
    PAUSES,
    RAN_OUT,
    ExpiredLeases,
    LeaseRecord,
    LeaseRecords,
)
from virtceph.host.rescue import thaw_guest
from virtceph.log import facts
from virtceph.process import DAEMON_LOCK, THERE_IS_ONE, hold_lock
from virtceph.virt.agent import Agent, DomainLocks
from virtceph.virt.connection import ConnectionPool, start_event_loop
from virtceph.virt.domains import Domains

log = logging.getLogger("virtceph.guard")

# How long after its deadline a lease is left to the daemon, how often the records are read, how long one
# attempt to thaw may take, and how long the guest is left alone after one that failed.
GRACE_S = 0.75
PERIOD_S = 0.25
_CALL_S, _CALL_MAX_S = 2.0, 10.0
_BACKOFF_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
_THREADS = 8
GUARD_LOCK = "guard.lock"


class Watch:
    """Ends what one folder's records tell of, once it is overdue: `end` does it,
    given how often it was tried, and says if it is done."""

    def __init__(self, records: LeaseRecords, end: Callable[[LeaseRecord, int], bool]) -> None:
        self._records, self._end = records, end
        self._threads = ThreadPoolExecutor(_THREADS, "keep")
        self._busy: set[UUID] = set()
        # By window: how often it was tried, and when it may be tried again (monotonic).
        self._tries: dict[UUID, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def look(self, now: bool = False) -> int:
        """Begin to end what is overdue (`now`: everything); how many records there are. Does not wait."""
        records = self._records.load()
        for record in records:
            if (now or record.left_s() < -GRACE_S) and self._may_try(record):
                self._begin(record)
        windows = {record.window_id for record in records}
        with self._lock:
            for window in self._tries.keys() - windows:
                del self._tries[window]
        return len(records)

    def _begin(self, record: LeaseRecord) -> None:
        self._busy.add(record.vm_id)
        try:
            self._threads.submit(self._try, record)
        except RuntimeError as error:
            # The host has no thread for us just now.
            self._busy.discard(record.vm_id)
            log.error("not begun %s", facts(vm=record.vm_id, reason=error))

    def _may_try(self, record: LeaseRecord) -> bool:
        with self._lock:
            _, next_s = self._tries.get(record.window_id, (0, 0.0))
        return record.vm_id not in self._busy and time.monotonic() >= next_s

    def _tried(self, record: LeaseRecord) -> None:
        with self._lock:
            tries, _ = self._tries.get(record.window_id, (0, 0.0))
            pause_s = _BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)]
            self._tries[record.window_id] = tries + 1, time.monotonic() + pause_s

    def _try(self, record: LeaseRecord) -> None:
        told = {"vm": record.vm_id, "window": record.window_id}
        try:
            if self._end(record, self._tries.get(record.window_id, (0, 0.0))[0]):
                late_s = -record.left_s()
                log.warning("ended what the daemon had not %s", facts(**told, late_s=late_s))
                self._remove(record)
        except errors.VirtcephError as error:
            log.warning("not ended yet %s", facts(**told, reason=error))
        except Exception:
            log.exception("it broke %s", facts(**told))
        finally:
            self._tried(record)
            self._busy.discard(record.vm_id)

    def _remove(self, record: LeaseRecord) -> None:
        # A daemon that was stuck may have gone on meanwhile, and frozen the guest anew.
        if record.window_id in {left.window_id for left in self._records.load()}:
            self._records.remove(record.vm_id)


class Guard:
    """Watches the leases and pauses in one runtime directory."""

    def __init__(self, folder: Path, agent: Agent, domains: Domains) -> None:
        self._folder, self._agent, self._domains = folder, agent, domains
        self._expired = ExpiredLeases(folder / EXPIRED)
        self._leases = Watch(LeaseRecords(folder / LEASES), self._is_thawed)
        self._pauses = Watch(LeaseRecords(folder / PAUSES), self._runs)

    def look(self) -> int:
        """Begin to end what is overdue; how many records there are. Does not wait for a guest."""
        paused = self._pauses.look()
        if paused and not _daemon_runs(self._folder):
            self._pauses.look(now=True)
        return self._leases.look() + paused

    def _is_thawed(self, record: LeaseRecord, tries: int) -> bool:
        limit_s = min(_CALL_S * (1 + tries), _CALL_MAX_S)
        self._expired.add(record.vm_id, RAN_OUT)
        try:
            thaw_guest(self._agent, record.vm_id, limit_s)
            return not self._agent.is_frozen(record.vm_id, limit_s)
        except (errors.NoSuchVM, errors.VMDown):
            self._expired.forget(record.vm_id)
            return True

    def _runs(self, record: LeaseRecord, _tries: int) -> bool:
        resume(self._domains, record.vm_id, abort=True)
        return True


def _daemon_runs(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    lock = hold_lock(folder / DAEMON_LOCK)
    if lock is None:
        return True
    os.close(lock)
    return False


def main() -> int:
    """The command `virtceph-guard`. Runs until it is told to stop; with `--with-daemon` it ends by
    itself when no daemon runs and no lease is left."""
    parser = argparse.ArgumentParser(prog="virtceph-guard", description=__doc__)
    parser.add_argument("--config", type=Path, help="the daemon's configuration file")
    parser.add_argument(
        "--with-daemon", action="store_true", help="end when no daemon runs and no lease is left"
    )
    options = parser.parse_args()
    try:
        settings = config.load_or_default(options.config)
    except config.ConfigError as error:
        print(f"virtceph-guard: {error}", file=sys.stderr)
        return 1
    logs.set_up(settings.log.level, settings.log.target)
    folder = Path(settings.daemon.runtime_dir)
    if hold_lock(folder / GUARD_LOCK) is None:
        return THERE_IS_ONE
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    _watch(settings, folder, stop, options.with_daemon)
    return 0


class _Pooled:
    """A pool's connection where a watched one is expected: the guard needs it once in a blue moon."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool

    def get(self) -> Any:
        """A live connection. Blocks. Raises LibvirtUnavailable."""
        with self._pool.connection(_CALL_S) as connection:
            return connection


def _watch(settings: config.Config, folder: Path, stop: threading.Event, with_daemon: bool) -> None:
    start_event_loop()
    pool = ConnectionPool(settings.libvirt.uri, connections=2, calls_each=4, lane="rescue")
    guard = Guard(folder, Agent(pool, DomainLocks()), Domains(_Pooled(pool)))
    systemd.notify("READY=1")
    log.info("guarding %s", facts(pid=os.getpid()))
    while not stop.wait(PERIOD_S):
        try:
            left = guard.look()
            if not left and with_daemon and not _daemon_runs(folder):
                return
        except Exception:
            # When the daemon is gone nobody may be there to start another guard.
            log.exception("look broke")
            continue
        systemd.notify("WATCHDOG=1")


def run() -> None:
    """Run `main` and end at once: a thread that waits for a guest must not hold up the end."""
    status = main()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
