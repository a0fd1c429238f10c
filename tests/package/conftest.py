"""A Debian with the package in it, and a libvirt with VMs where the package looks for one."""

from __future__ import annotations

import re
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import libvirt
import pytest

from tests.integration.examined import define_secret
from tests.lab import state, user
from tests.lab.ceph import CephCluster
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.fixtures import *  # noqa: F403
from tests.lab.guest import Guest, boot
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.stack import IMAGE_BYTES, POOL
from tests.lab.template import run_guest
from tests.package.chroot import Chroot
from tests.package.unit import Service

RELEASE = "bookworm"
USER = "web"
RECORD = "var/log/asked"
# In the place of systemctl. It says of every unit that it is enabled and runs: so nothing is left unasked.
_RECORDER = f"""#!/bin/sh
echo "$*" >>/{RECORD}
case "$*" in *is-enabled*) echo enabled ;; esac
"""
_POLICY = """#!/bin/sh
case "$1" in virtceph*) exit 0 ;; esac
exit 101
"""


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Builds the package of this tree with a version. Blocks, about 20 s."""

    def built(version: str) -> Path:
        folder = tmp_path_factory.mktemp("deb")
        argv = ["make", "-s", "deb", f"VERSION={version}", f"BUILD={folder}"]
        done = subprocess.run(
            argv, cwd=state.PROJECT, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (made,) = folder.glob(f"virtceph_{version}-1_*.deb")
        return made

    return built


@pytest.fixture(scope="session")
def package(build: Callable[[str], Path]) -> Path:
    return build("0.1.0")


def steps() -> list[str]:
    """The commands of the quick start's page, block by block."""
    page = (state.PROJECT / "docs/quickstart.md").read_text()
    return re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def install(chroot: Chroot, package: Path) -> None:
    """Install or upgrade the package. Blocks."""
    shutil.copy(package, chroot.root / "root/virtceph.deb")
    options = ["-y", "-qq", "--no-install-recommends", "--allow-downgrades"]
    chroot.run("apt-get", "install", *options, "/root/virtceph.deb")


def record(chroot: Chroot) -> None:
    """Have systemctl write down what it is asked, as if systemd ran there; systemctl.real works. Blocks."""
    options = ["--local", "--rename", "--divert", "/bin/systemctl.real", "--add"]
    chroot.run("dpkg-divert", *options, "/bin/systemctl")
    for path, text in (("bin/systemctl", _RECORDER), ("usr/sbin/policy-rc.d", _POLICY)):
        (chroot.root / path).write_text(text)
        (chroot.root / path).chmod(0o755)
    chroot.run("mkdir", "-p", "/run/systemd/system")


def asked(chroot: Chroot) -> list[str]:
    """What systemctl was asked about this project's units, in order."""
    lines = (chroot.root / RECORD).read_text().splitlines()
    return [line for line in lines if "virtceph" in line]


def enabled(chroot: Chroot) -> list[str]:
    """This project's units that an administrator's systemd starts by itself. Blocks."""
    argv = ["find", "/etc/systemd", "-name", "*virtceph*", "-printf", "%f\\n"]
    return sorted(chroot.run(*argv).stdout.splitlines())


@pytest.fixture(scope="module")
def chroot(lab_state: Path, package: Path) -> Iterator[Chroot]:
    """A clean Debian in which the first step of the quick start was taken."""
    folder = lab_state / f"debian-{uuid.uuid4().hex[:6]}"
    folder.mkdir(mode=0o755)
    made = Chroot.make(folder, RELEASE)
    # The lab's libvirtd runs outside, and looks there for the name of who connects.
    known = user.ensure()
    made.run("groupadd", "--system", "--gid", str(known.gid), user.NAME)
    options = ["--system", "--no-create-home", "--gid", user.NAME, "--uid", str(known.uid)]
    made.run("useradd", *options, "--home-dir", "/var/lib/virtceph", user.NAME)
    record(made)
    made.run("apt-get", "update", "-qq")
    shutil.copy(package, folder / "root" / package.name)
    made.run("bash", "-c", f"cd /root && {steps()[0]}")
    yield made
    made.close()


@dataclass
class Host:
    """A host that ran VMs before: three of them, with one key, which libvirt keeps on the disk. One has an
    agent, one has none, and one's is silent."""

    chroot: Chroot
    libvirtd: PrivateLibvirtd
    ceph: CephCluster
    secret: uuid.UUID
    web01: Guest
    mute: Guest
    silent: Guest
    daemon: Service
    guard: Service

    def expose(self) -> None:
        """Have libvirt's socket open to all, as Debian's libvirtd.socket has it: polkit decides who may."""
        self.libvirtd.socket.chmod(0o666)

    def virtceph(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command line there, as root. Blocks."""
        return self.chroot.run("virtceph", *words, check=check)

    def is_consistent(self, name: str) -> bool:
        """Whether a snapshot of the VM with an agent succeeds, frozen. Blocks."""
        done = self.virtceph("snapshot", self.web01.name, "--name", name, check=False)
        return done.returncode == 0


@pytest.fixture(scope="module")
def host(lab_state: Path, chroot: Chroot, ceph: CephCluster) -> Iterator[Host]:
    libvirtd = PrivateLibvirtd.start(lab_state / "h-package", "package")
    chroot.show(libvirtd.folder / "run", "/run/libvirt")
    chroot.show(libvirtd.folder / "etc", "/etc/libvirt")
    key = ceph.create_user(USER)
    with libvirtd.connection() as connection:
        secret = define_secret(connection, key, ephemeral=False)
        guests = []
        for name in ("web01", "mute", "silent"):
            image = f"package-{name}"
            ceph.create_image(POOL, image, IMAGE_BYTES)
            disk = RbdDisk(POOL, image, ceph.monitors, USER, secret)
            guests.append(started(connection, name, disk, lab_state / "guests"))
        silence(guests[2])
        services = [
            Service(chroot, name, lab_state / f"{name}.log")
            for name in ("virtcephd", "virtceph-guard")
        ]
        made = Host(chroot, libvirtd, ceph, secret, *guests, *services)
        made.expose()
        yield made
    for service in services:
        if service.process is not None:
            service.kill()
    libvirtd.stop()


def started(connection: libvirt.virConnect, name: str, disk: RbdDisk, folder: Path) -> Guest:
    if name == "mute":
        return boot(connection, GuestSpec(name, [disk], agent_channel=False), folder)
    guest = run_guest(connection, GuestSpec(name, [disk]), folder)
    guest.wait_for_agent()
    return guest


def silence(guest: Guest) -> None:
    """Have the guest's agent hang."""
    guest.command("agent-stop")
