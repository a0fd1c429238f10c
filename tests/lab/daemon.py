"""The product's daemon, started as production does: own user, no capabilities, never root."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.lab import user
from tests.lab.errors import NotReady, tail
from tests.lab.processes import ProcessRecord, plain_environment, spawn, wait_until
from tests.lab.state import PROJECT

# Runs in a mount namespace of its own, where the project lies read-only at a folder that the
# daemon's user can reach: the clone may lie under /root. `exec` keeps the pid.
ENTER = """
set -e
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
shift 2
exec "$@"
"""
START_TIMEOUT_S = 20.0

# Tables by their names; several of one name in a list.
Settings = Mapping[str, Any]


@dataclass
class Daemon:
    """A started daemon. `folder` lies in a state folder, whose record knows its process."""

    folder: Path
    process: ProcessRecord
    _listener: "NotifyListener | None" = field(default=None, repr=False)

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        libvirt_uri: str,
        exchange: Path,
        overrides: Settings | None = None,
        launcher: Sequence[str] = (),
        command: Sequence[str] = ("-m", "virtceph.daemon"),
        python: str | None = None,
        project: Path = PROJECT,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = START_TIMEOUT_S,
    ) -> "Daemon":
        """Start a daemon with its files in `folder`, and wait until it says READY=1. Blocks.

        A second start in the same folder finds the state of the first. `overrides` is merged into
        the configuration, section by section. `python` defaults to the project's virtual
        environment, else to our own interpreter. `environment` is added to the daemon's own. `launcher`
        is a program with arguments that the daemon's user runs it by.

        Raises:
            NotReady: it ended, or was not ready in time; carries its log's tail. It is ended.
        """
        account = user.ensure()
        _lay_out(folder, exchange, account)
        config = folder / "virtcephd.toml"
        config.write_text(toml(merged(_settings(folder, libvirt_uri, exchange), overrides or {})))
        code = folder.parent / "code"
        code.mkdir(mode=0o755, exist_ok=True)
        argv = _as_daemon_user(project, code)
        argv += [*launcher, python or _interpreter(project, code), *command]
        argv += ["--config", str(config)]
        listener = NotifyListener(folder / "notify")
        variables = {**_environment(code, listener.path), **(environment or {})}
        name = f"daemon {folder.name}"
        process = spawn(folder.parent, name, argv, folder / "log", env=variables)
        daemon = cls(folder, process, listener)
        try:
            daemon._wait_until_ready(timeout_s)
        except NotReady:
            daemon.kill()
            raise
        return daemon

    @classmethod
    def attach(cls, folder: Path, records: list[ProcessRecord]) -> "Daemon | None":
        """The daemon that another process started in `folder`, if one was. Does not block."""
        found = [record for record in records if record.name == f"daemon {folder.name}"]
        return cls(folder, found[-1]) if found else None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def socket(self) -> Path:
        """Its UNIX socket."""
        return self.folder / "run/virtcephd.sock"

    @property
    def notifications(self) -> list[str]:
        """What it told its service manager so far, one string per assignment. Does not block."""
        return list(self._listener.received) if self._listener else []

    def log_text(self) -> str:
        """What it logged so far. Does not block."""
        return (self.folder / "log").read_text(errors="replace")

    def stop(self, timeout_s: float = 30) -> int | None:
        """SIGTERM it and wait; returns its exit status. Blocks.

        Raises:
            NotReady: it did not end in time. It still runs.
        """
        self.process.send(signal.SIGTERM)
        if not self.process.wait(timeout_s):
            raise NotReady("end of the daemon", timeout_s, tail(self.folder / "log"))
        self._forget()
        return self.process.exit_code

    def kill(self) -> None:
        """SIGKILL it, as a crash would be. Blocks until it is gone."""
        self.process.send(signal.SIGKILL)
        self.process.wait(10)
        self._forget()

    def suspend(self) -> None:
        """SIGSTOP it. Does not block."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT it. Does not block."""
        self.process.send(signal.SIGCONT)

    def _wait_until_ready(self, timeout_s: float) -> None:
        wait_until(
            lambda: "READY=1" in self.notifications,
            "the daemon",
            timeout_s,
            process=self.process,
            log=self.folder / "log",
        )

    def _forget(self) -> None:
        if self._listener:
            self._listener.close()


class NotifyListener:
    """The service manager's end of NOTIFY_SOCKET; a thread collects what arrives."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self.path = path
        self.received: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._thread = threading.Thread(target=self._collect, name="notify", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        # Nothing is what a socket that was shut down gives.
        while message := self._socket.recv(65536):
            self.received.extend(message.decode(errors="replace").splitlines())

    def close(self) -> None:
        """Stop listening; what was received stays. Blocks for a moment."""
        # Closing it would not wake the thread. (A datagram to the path would go to the next one's socket.)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
        self.path.unlink(missing_ok=True)


def merged(base: Settings, overrides: Settings) -> dict[str, Any]:
    """Two configurations in one: the second wins, option by option. Does not block."""
    tables = {name: one for name, one in overrides.items() if not isinstance(one, list)}
    both = {name: {**base.get(name, {}), **tables.get(name, {})} for name in {**base, **tables}}
    return {**both, **{name: one for name, one in overrides.items() if isinstance(one, list)}}


def toml(settings: Settings) -> str:
    """A configuration of sections with strings, numbers, booleans and lists as TOML. Does not block."""
    text = ""
    for name, table in settings.items():
        several = isinstance(table, list)
        for options in table if several else [table]:
            # JSON's notation of these values is also TOML's.
            rows = (f"{key} = {json.dumps(value)}\n" for key, value in options.items())
            text += (f"[[{name}]]\n" if several else f"[{name}]\n") + "".join(rows) + "\n"
    return text


def _settings(folder: Path, libvirt_uri: str, exchange: Path) -> Settings:
    return {
        "daemon": {
            "state_dir": f"{folder}/state",
            "runtime_dir": f"{folder}/run",
            "exchange_dirs": [str(exchange)],
        },
        "http": {"socket": f"{folder}/run/virtcephd.sock", "socket_group": user.NAME},
        "libvirt": {"uri": libvirt_uri},
        "secrets": {"usage_prefix": "ovirt/"},
        "log": {"level": "debug", "target": "stderr"},
    }


def _lay_out(folder: Path, exchange: Path, account: user.DaemonUser) -> None:
    folder.mkdir(mode=0o755, exist_ok=True)
    # As systemd would: state is the daemon's alone, the socket's folder is open to its callers.
    for path, mode in ((folder / "state", 0o700), (folder / "run", 0o755), (exchange, 0o700)):
        path.mkdir(exist_ok=True)
        os.chown(path, account.uid, account.gid)
        path.chmod(mode)


def _as_daemon_user(project: Path, code: Path) -> list[str]:
    enter = ["unshare", "--mount", "sh", "-c", ENTER, "enter", str(project), str(code)]
    drop = ["setpriv", "--reuid", user.NAME, "--regid", user.NAME, "--clear-groups"]
    return [*enter, *drop, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]


def _environment(code: Path, notify: Path) -> dict[str, str]:
    return plain_environment(
        PYTHONPATH=f"{code}/src",
        PYTHONDONTWRITEBYTECODE="1",
        NOTIFY_SOCKET=str(notify),
        HOME="/nonexistent",
    )


def _interpreter(project: Path, code: Path) -> str:
    if (project / ".venv/bin/python").exists():
        return f"{code}/.venv/bin/python"
    return shutil.which(sys.executable) or "/usr/bin/python3"
