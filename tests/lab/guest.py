"""A running lab guest, seen from the host: its agent, its writer's records, its control channel."""

import contextlib
import itertools
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import libvirt
import libvirt_qemu

from tests.lab.domain_xml import GuestPaths, GuestSpec, domain_xml
from tests.lab.errors import GuestCommandFailed, NotReady, tail
from tests.lab.guest_build import guest_files

# Guest agent calls without this block for ever.
AGENT_TIMEOUT_S = 5


@dataclass(frozen=True)
class Ack:
    """A record that all disks of a guest hold on stable storage, by the guest's own clock."""

    number: int
    guest_uptime_s: float


@dataclass
class Guest:
    """A guest that runs, or ran. `connection` must stay open as long as it is used."""

    spec: GuestSpec
    paths: GuestPaths
    domain: libvirt.virDomain
    _ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    @property
    def name(self) -> str:
        """The domain's name."""
        return self.spec.name

    @property
    def uuid(self) -> str:
        """The domain's UUID."""
        return str(self.spec.uuid)

    def wait_for_agent(self, timeout_s: float = 60) -> None:
        """Wait until the guest agent answers. Blocks."""
        wait_for_agent(self.domain, timeout_s, self.paths.console)

    def wait_for_records(self, count: int = 1, timeout_s: float = 30) -> list[Ack]:
        """Wait until the writer has acknowledged `count` more records than now. Blocks."""
        wanted = len(self.acknowledged()) + count
        self._wait(lambda: len(self.acknowledged()) >= wanted, "the writer", timeout_s)
        return self.acknowledged()

    def acknowledged(self) -> list[Ack]:
        """All records acknowledged so far, in order. Does not block."""
        try:
            lines = self.paths.acks.read_text(errors="replace").splitlines(keepends=True)
        except FileNotFoundError:
            return []
        # The last line may be under way.
        words = (line.split() for line in lines if line.endswith("\n"))
        return [Ack(int(number), float(uptime)) for number, uptime in words]

    def console_text(self) -> str:
        """What the guest printed. Does not block."""
        return self.paths.console.read_text(errors="replace") if self.paths.console.exists() else ""

    def command(self, command: str, timeout_s: float = 30) -> str:
        """Have the guest's /init obey `command`; returns its output when it is done. Blocks.

        agent-stop, agent-cont, agent-kill, agent-start, `agent-windows JSON`, writer-on, writer-off, start,
        sync, `size vda`, `fsck vda`, `sh LINE`. Does not go through the guest agent.

        Raises:
            GuestCommandFailed: the guest answered with a status other than 0.
            NotReady: no answer in time. The command may still be carried out.
        """
        ident = str(next(self._ids))
        deadline = time.monotonic() + timeout_s
        with socket.socket(socket.AF_UNIX) as channel:
            self._connect(channel, timeout_s)
            channel.sendall(f"{ident} {command}\n".encode())
            answer = self._answer(channel, ident, deadline, command)
        status, _, text = answer.partition(" ")
        if status != "0":
            raise GuestCommandFailed(command, int(status), text.strip())
        return text.strip()

    def reattach(self, connection: libvirt.virConnect) -> None:
        """Use another connection from now on, as after a restart of libvirtd. Blocks.

        A guest that is gone keeps its old domain.
        """
        with contextlib.suppress(libvirt.libvirtError):
            self.domain = connection.lookupByUUIDString(self.uuid)

    def destroy(self) -> None:
        """End the domain at once, if it still runs. Blocks."""
        with contextlib.suppress(libvirt.libvirtError):
            self.domain.destroy()
        self.paths.control.unlink(missing_ok=True)

    def _connect(self, channel: socket.socket, timeout_s: float) -> None:
        def connected() -> bool:
            try:
                channel.connect(str(self.paths.control))
            except OSError:
                return False
            return True

        self._wait(connected, "the control channel", timeout_s)

    def _answer(self, channel: socket.socket, ident: str, deadline: float, command: str) -> str:
        received = b""
        while True:
            channel.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = channel.recv(65536)
            except TimeoutError:
                raise NotReady(f"answer to {command!r}", 0, tail(self.paths.console)) from None
            if not chunk:
                raise NotReady(
                    f"answer to {command!r}: channel closed", 0, tail(self.paths.console)
                )
            received += chunk
            # An answer to a caller that gave up before comes first; it has another id.
            for line in received.decode(errors="replace").splitlines(keepends=True):
                if line.startswith(f"{ident} ") and line.endswith("\n"):
                    return line[len(ident) + 1 :]

    def _wait(self, ready: Callable[[], bool], what: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            if time.monotonic() >= deadline:
                raise NotReady(f"{what} of {self.name}", timeout_s, tail(self.paths.console))
            time.sleep(0.02)


def boot(
    connection: libvirt.virConnect, spec: GuestSpec, folder: Path, *, paused: bool = False
) -> Guest:
    """Start a guest from its kernel; its channels lie in `folder`. Blocks for the start only.

    Its agent is ready 5 s later. It is transient: gone when it ends.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    paths = GuestPaths.under(folder, spec)
    flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
    domain = connection.createXML(domain_xml(spec, guest_files(), paths), flags)
    return Guest(spec, paths, domain)


def wait_for_agent(
    domain: libvirt.virDomain, timeout_s: float, console: Path | None = None
) -> None:
    """Wait until the guest agent of a domain answers. Blocks.

    Raises:
        NotReady: it did not; carries the console's tail.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(libvirt.libvirtError):
            domain.agentSetResponseTimeout(AGENT_TIMEOUT_S, 0)
            _ask_the_time(domain)
            return
        if time.monotonic() >= deadline:
            what = f"the guest agent of {domain.name()}"
            raise NotReady(what, timeout_s, tail(console) if console else "")
        time.sleep(0.02)


def _ask_the_time(domain: libvirt.virDomain) -> None:
    # A ping would be a command that libvirt does not know, and mark the domain as tainted for good.
    try:
        domain.getTime()
    except libvirt.libvirtError as error:
        # That is an answer, too.
        if "frozen state" not in error.get_error_message():
            raise


def is_frozen(domain: libvirt.virDomain) -> bool:
    """Whether the guest agent says that the file systems are frozen. Blocks, at most 2 s.

    A guest whose agent does not answer counts as thawed: nobody froze it through that agent.
    """
    request = '{"execute":"guest-fsfreeze-status"}'
    with contextlib.suppress(libvirt.libvirtError):
        domain.agentSetResponseTimeout(2, 0)
        return '"frozen"' in libvirt_qemu.qemuAgentCommand(domain, request, 2, 0)
    return False
