"""virtceph-guard: thaws overdue guests when the daemon does not.

A small process apart from the daemon. It reads the lease records and does nothing else until one is
overdue; then it asks the guest to thaw, again and again, until the guest itself says that it is thawed or
is gone, and removes the record. It holds no key and loads no librbd.

The daemon thaws its own leases at their deadline. The guard comes a moment later, so that it acts only for
a daemon that is gone or stuck; two thaws of one guest do no harm.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

from virtceph import config, errors, systemd
from virtceph import log as logs
from virtceph.host.records import FOLDER, LeaseRecord, LeaseRecords
from virtceph.host.rescue import thaw_guest
from virtceph.log import facts
from virtceph.process import DAEMON_LOCK, THERE_IS_ONE, hold_lock
from virtceph.virt.agent import Agent, DomainLocks
from virtceph.virt.connection import ConnectionPool, start_event_loop

log = logging.getLogger("virtceph.guard")

# How long after its deadline a lease is left to the daemon, how often the records are read, and how
# long one attempt to thaw may take.
GRACE_S = 0.75
PERIOD_S = 0.25
_CALL_S = 2.0
_THREADS = 8
GUARD_LOCK = "guard.lock"


class Guard:
    """Watches the records of one folder."""

    def __init__(self, records: LeaseRecords, agent: Agent) -> None:
        self._records, self._agent = records, agent
        self._threads = ThreadPoolExecutor(_THREADS, "thaw")
        self._busy: set[UUID] = set()

    def look(self) -> int:
        """Begin to thaw what is overdue; how many records there are. Does not wait for a guest."""
        records = self._records.load()
        for record in records:
            if record.left_s() < -GRACE_S and record.vm_id not in self._busy:
                self._busy.add(record.vm_id)
                self._threads.submit(self._thaw, record)
        return len(records)

    def _thaw(self, record: LeaseRecord) -> None:
        try:
            if self._is_thawed(record.vm_id):
                log.warning(
                    "thawed what the daemon had not %s",
                    facts(vm=record.vm_id, window=record.window_id, late_s=-record.left_s()),
                )
                self._records.remove(record.vm_id)
        except errors.VirtcephError as error:
            log.warning("not thawed yet %s", facts(vm=record.vm_id, reason=error))
        except Exception:
            log.exception("thaw broke %s", facts(vm=record.vm_id))
        finally:
            self._busy.discard(record.vm_id)

    def _is_thawed(self, vm_id: UUID) -> bool:
        try:
            thaw_guest(self._agent, vm_id, _CALL_S)
            return not self._agent.is_frozen(vm_id, _CALL_S)
        except (errors.NoSuchVM, errors.VMDown):
            return True


def _daemon_runs(folder: Path) -> bool:
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


def _watch(settings: config.Config, folder: Path, stop: threading.Event, with_daemon: bool) -> None:
    start_event_loop()
    pool = ConnectionPool(settings.libvirt.uri, connections=2, calls_each=4, lane="rescue")
    guard = Guard(LeaseRecords(folder / FOLDER), Agent(pool, DomainLocks()))
    systemd.notify("READY=1")
    log.info("guarding %s", facts(pid=os.getpid()))
    while not stop.wait(PERIOD_S):
        systemd.notify("WATCHDOG=1")
        if not guard.look() and with_daemon and not _daemon_runs(folder):
            return


def run() -> None:
    """Run `main` and end at once: a thread that waits for a guest must not hold up the end."""
    status = main()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    run()
