"""The daemon's care for its guard, where no service manager runs one."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from pathlib import Path

from virtceph.log import facts
from virtceph.process import THERE_IS_ONE

log = logging.getLogger(__name__)

# systemd(1): there while it is the system's manager.
_SYSTEMD = Path("/run/systemd/system")
_PERIOD_S, _LOOK_AGAIN_S = 0.5, 5.0


class GuardKeeper:
    """Starts the guard and starts it again when it ends. It outlives this process: it is a session of
    its own, and nobody's child once we are gone. Under systemd it is a service, and nothing is done."""

    def __init__(self, config_path: Path | None) -> None:
        self._config_path = config_path
        self._stopped = threading.Event()
        if not _SYSTEMD.is_dir():
            threading.Thread(target=self._keep, name="guard-keeper", daemon=True).start()

    def stop(self) -> None:
        """Start no more guards. The one that runs ends when no lease is left."""
        self._stopped.set()

    def _keep(self) -> None:
        while not self._stopped.is_set():
            guard = self._start()
            while guard.poll() is None:
                if self._stopped.wait(_PERIOD_S):
                    return
            if guard.returncode == THERE_IS_ONE:
                # That of a daemon before this one; it may end at any time.
                self._stopped.wait(_LOOK_AGAIN_S)
                continue
            log.warning("the guard ended %s", facts(status=guard.returncode))
            self._stopped.wait(_PERIOD_S)

    def _start(self) -> subprocess.Popen[bytes]:
        config = [] if self._config_path is None else ["--config", str(self._config_path)]
        return subprocess.Popen(
            [sys.executable, "-m", "virtceph.guard", "--with-daemon", *config],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env=_environment(),
        )


def _environment() -> dict[str, str]:
    # What a service manager says to the daemon is not for the guard: its READY=1 would pass for ours.
    ours = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")
    return {name: value for name, value in os.environ.items() if name not in ours}
