"""A service started as its unit says, by whoever is no systemd: its user, groups, rights and view of files.

What of the sandbox needs systemd itself (system call filters and the like) is checked by `systemd-analyze`.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.daemon import NotifyListener
from tests.lab.errors import NotReady, tail
from tests.package.chroot import Chroot

UNITS = "lib/systemd/system"
# A view of the file system as ProtectSystem=strict, ProtectHome= and PrivateTmp= make it.
_VIEW = """
set -e
mount --make-rprivate /
mount -o remount,bind,ro /
mount -t tmpfs -o mode=0755,ro tmpfs /root
mount -t tmpfs -o mode=1777 tmpfs /tmp
exec "$@"
"""


def settings(path: Path) -> dict[str, list[str]]:
    """Each `Key=` of a unit with its values, an empty one having cleared those before it."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text().splitlines():
        key, is_setting, value = line.partition("=")
        if not is_setting or line.startswith(("#", ";")):
            continue
        if value:
            found[key].append(value)
        else:
            found[key] = [""]
    return found


def with_rights(says: dict[str, list[str]], command: list[str]) -> list[str]:
    """A command line with a unit's rights: no capabilities, its user and groups, files read-only."""
    (user,), (group,) = says["User"], says["Group"]
    assert says["NoNewPrivileges"] == ["yes"]
    assert says["CapabilityBoundingSet"] == [""]
    assert says["ProtectSystem"] == ["strict"]
    (umask,) = says["UMask"]
    # The groups that the account has are those that systemd gives: SupplementaryGroups= adds to them.
    rights = ["setpriv", f"--reuid={user}", f"--regid={group}", "--init-groups"]
    rights += ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    inner = f"umask {umask}; exec {shlex.join([*rights, *command])}"
    folders = ["/var/notify", "/var/lib/virtceph", *(f"/run/{n}" for n in says["RuntimeDirectory"])]
    binds = "".join(f"mount --bind {folder} {folder}; " for folder in folders)
    return ["unshare", "--mount", "sh", "-c", binds + _VIEW, "-", "sh", "-c", inner]


def run_once(chroot: Chroot, template: str, instance: str) -> None:
    """Run a oneshot service of a template to its end. Blocks. Raises LabError."""
    says = settings(chroot.root / UNITS / template)
    variables = dict(assignment.strip('"').split("=", 1) for assignment in says["Environment"])
    words: list[str] = []
    for word in says["ExecStart"][0].split():
        # `${NAME}` is one word, `$NAME` as many as it holds. Source: systemd.service(5).
        name = word.strip("${}")
        one, many = word.startswith("${"), word.startswith("$")
        words += [variables[name]] if one else variables[name].split() if many else [word]
    words = [word.replace("%i", instance) for word in words]
    (folder,), (user,) = says["RuntimeDirectory"], says["User"]
    chroot.run("install", "-d", "-m", "0755", "-o", user, "-g", user, f"/run/{folder}")
    environment = {**variables, "RUNTIME_DIRECTORY": f"/run/{folder}"}
    chroot.run(*with_rights(says, words), **environment)


@dataclass
class Service:
    """A service of an installed package, run in a chroot."""

    chroot: Chroot
    name: str
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    _listener: NotifyListener | None = None

    def __post_init__(self) -> None:
        self.says = settings(self.chroot.root / UNITS / f"{self.name}.service")

    def start(self, timeout_s: float = 30) -> None:
        """Start it by its command, and wait for READY=1. Blocks. Raises NotReady."""
        (user,), (group,) = self.says["User"], self.says["Group"]
        # What tells the daemon that a service manager runs the guard.
        self.chroot.run("mkdir", "-p", "/run/systemd/system")
        for folder, mode in (("/run/virtceph", "0755"), ("/var/lib/virtceph", "0711")):
            # As RuntimeDirectory= and StateDirectory= do.
            self.chroot.run("install", "-d", "-m", mode, "-o", user, "-g", group, folder)
        shared = self.chroot.root / "var/notify"
        shared.mkdir(mode=0o755, exist_ok=True)
        self._listener = NotifyListener(shared / self.name)
        environment = {**self.environment, "NOTIFY_SOCKET": f"/var/notify/{self.name}"}
        (command,) = self.says["ExecStart"]
        self.process = self.chroot.start(self.log, self.as_unit(command), environment)
        end_s = time.monotonic() + timeout_s
        while "READY=1" not in self._listener.received:
            if self.process.poll() is not None or time.monotonic() > end_s:
                raise NotReady(self.name, timeout_s, tail(self.log))
            time.sleep(0.02)

    def as_unit(self, command: str) -> list[str]:
        """A command line with the unit's rights."""
        return with_rights(self.says, shlex.split(command))

    def stop(self) -> int:
        """SIGTERM it, wait, and do what the unit does afterwards; its exit status. Blocks."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def kill(self) -> int:
        """SIGKILL it, and do what the unit does afterwards. Blocks."""
        assert self.process is not None
        self.process.kill()
        return self._ended()

    def _ended(self) -> int:
        assert self.process is not None
        assert self._listener is not None
        status = self.process.wait(60)
        self.process = None
        self._listener.close()
        for command in self.says["ExecStopPost"]:
            self.chroot.run(*self.as_unit(command.lstrip("-")), check=not command.startswith("-"))
        return status
