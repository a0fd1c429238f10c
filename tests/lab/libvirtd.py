"""A libvirtd of our own: private namespaces and folders, nothing of the host's libvirt touched."""

import contextlib
import os
import platform
import shutil
import signal
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import libvirt

from tests.lab import secret, user
from tests.lab.errors import NotReady
from tests.lab.processes import ProcessRecord, spawn, wait_until
from tests.lab.state import cache_folder, end_inhabitants

# Our folder for each one that libvirtd has compiled in.
FOLDERS = {
    "run": "/run/libvirt",
    "etc": "/etc/libvirt",
    "lib": "/var/lib/libvirt",
    "cache": "/var/cache/libvirt",
    "log": "/var/log/libvirt",
}
# Runs in the new namespaces: a host name of its own (migration refuses to go to the same host),
# our folders over libvirt's. `exec` keeps the pid.
ENTER = """
set -e
hostname "$1"; folder=$2; shift 2
while [ "$1" != -- ]; do [ -e "$2" ] || mkdir -p "$2"; mount --bind "$folder/$1" "$2"; shift 2; done
shift; exec "$@"
"""
QEMU_CONF = """
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """
auth_unix_rw = "none"
auth_unix_ro = "none"
unix_sock_group = "{group}"
unix_sock_rw_perms = "0770"
unix_sock_ro_perms = "0770"
host_uuid = "{host_uuid}"
log_outputs = "2:file:{folder}/log/libvirtd.log"
log_filters = "3:*"
max_clients = 500
"""


@dataclass
class PrivateLibvirtd:
    """A running libvirtd. `folder` lies in a state folder, whose record knows its process."""

    folder: Path
    process: ProcessRecord

    @classmethod
    def start(
        cls, folder: Path, name: str = "h1", *, hidden: Sequence[str] = ()
    ) -> "PrivateLibvirtd":
        """Start one in the new folder `folder` of a state folder; `name` is its host name. Blocks.

        Takes 0.3 s, or 4 s if QEMU's capabilities are not in the lab's cache. The files `hidden` are
        empty for it: a host on which a program is missing.
        """
        user.ensure()
        _lay_out(folder, name)
        (folder / "nothing").touch()
        (folder / "hidden").write_text("\n".join(hidden))
        cached = _capabilities_cache()
        warm = any(cached.iterdir())
        target = folder / "cache/qemu/capabilities"
        target.parent.mkdir(mode=0o755)
        shutil.copytree(cached, target)
        libvirtd = cls(folder, _spawn(folder))
        libvirtd.wait_until_ready()
        if not warm:
            libvirtd._save_capabilities(cached)
        return libvirtd

    @classmethod
    def attach(cls, folder: Path, records: list[ProcessRecord]) -> "PrivateLibvirtd":
        """The libvirtd that another process started in `folder`. Does not block."""
        # The newest: a restart adds a record.
        return cls(folder, [r for r in records if r.name == f"libvirtd {folder.name}"][-1])

    @property
    def socket(self) -> Path:
        """Its socket: group `virtceph` may use it."""
        return self.folder / "run/libvirt-sock"

    @property
    def uri(self) -> str:
        """How libvirt's clients reach it."""
        return f"qemu+unix:///system?socket={self.socket}"

    def log_text(self) -> str:
        """Its log so far. Does not block."""
        path = self.folder / "log/libvirtd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @contextlib.contextmanager
    def connection(self) -> Iterator[libvirt.virConnect]:
        """A connection of its own. Blocks."""
        connection = libvirt.open(self.uri)
        try:
            yield connection
        finally:
            with contextlib.suppress(libvirt.libvirtError):
                connection.close()

    def secret_usages(self) -> list[str]:
        """The usage ids of the secrets that it has. Blocks."""
        with self.connection() as connection:
            return secret.all_usages(connection)

    def wait_until_ready(self, timeout_s: float = 20) -> None:
        """Wait until it accepts a connection. Blocks."""
        log = self.folder / "log/libvirtd.out"
        wait_until(self._answers, "libvirtd", timeout_s, process=self.process, log=log)

    def kill(self) -> None:
        """SIGKILL, as a crash would be; guests run on. Blocks until it is gone."""
        self.process.send(signal.SIGKILL)
        self.process.wait(10)

    def terminate(self) -> None:
        """SIGTERM, as an upgrade would be; guests run on. Blocks until it is gone."""
        self.process.end()

    def restart(self) -> None:
        """Start it again in the same folders; it finds its guests. Ends it first if it runs. Blocks."""
        if self.process.alive:
            self.terminate()
        # The socket of a killed libvirtd would make us wait for a connection it never accepts.
        self.socket.unlink(missing_ok=True)
        self.process = _spawn(self.folder)
        self.wait_until_ready()

    def suspend(self) -> None:
        """SIGSTOP: connections hang from now on. Does not block."""
        self.process.send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT. Does not block."""
        self.process.send(signal.SIGCONT)

    def stop(self) -> None:
        """End it and all its guests, by pid. Blocks."""
        self.process.end()
        end_inhabitants(self.folder.parent, self.folder.name)

    def _answers(self) -> bool:
        # libvirt's own retry would start a daemon for us if the socket were missing.
        if not self.socket.exists():
            return False
        with contextlib.suppress(libvirt.libvirtError), self.connection() as connection:
            return bool(connection.isAlive())
        return False

    def _save_capabilities(self, cached: Path) -> None:
        with self.connection() as connection:
            # Makes libvirtd ask each QEMU what it can, and keep the answers in its cache.
            connection.getCapabilities()
            connection.getDomainCapabilities(None, "x86_64", "q35", "qemu")
        made = self.folder / "cache/qemu/capabilities"
        if not any(made.glob("*.xml")):
            raise NotReady("libvirt's QEMU capabilities", 0)
        for path in made.glob("*.xml"):
            # Renamed into place: another lab may be reading.
            temporary = cached.with_name(f"{path.name}.{os.getpid()}")
            shutil.copyfile(path, temporary)
            temporary.rename(cached / path.name)


def quiet_errors() -> None:
    """Keep libvirt from printing each error to stderr, besides raising it. Does not block."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)


def _capabilities_cache() -> Path:
    # libvirt checks each file against the times of both programs, the kernel and the CPU by itself;
    # the key only keeps the files of different versions apart.
    parts = []
    for program in ("/usr/sbin/libvirtd", "/usr/bin/qemu-system-x86_64"):
        stat = Path(program).stat()
        parts.append(f"{int(stat.st_ctime)}-{stat.st_size}")
    return cache_folder("capabilities-" + "-".join([platform.release(), *parts]) + "/files")


def _lay_out(folder: Path, name: str) -> None:
    folder.mkdir(mode=0o755)
    for part in FOLDERS:
        (folder / part).mkdir(mode=0o755)
    (folder / "name").write_text(name)
    (folder / "etc/qemu").mkdir()
    (folder / "etc/qemu.conf").write_text(QEMU_CONF)
    text = LIBVIRTD_CONF.format(group=user.NAME, host_uuid=uuid.uuid4(), folder=folder)
    (folder / "etc/libvirtd.conf").write_text(text)


def _spawn(folder: Path) -> ProcessRecord:
    binds = [word for part in FOLDERS.items() for word in part]
    binds += [w for path in (folder / "hidden").read_text().split() for w in ("nothing", path)]
    program = ["libvirtd", "-p", f"{folder}/libvirtd.pid"]
    name = (folder / "name").read_text()
    shell = ["sh", "-c", ENTER, "enter", name, str(folder), *binds, "--", *program]
    argv = ["unshare", "--mount", "--uts", *shell]
    return spawn(folder.parent, f"libvirtd {folder.name}", argv, folder / "log/libvirtd.out")
