"""A Debian of the tests' own in a folder, entered by mount namespaces: the host notices nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.lab.errors import LabError, tail
from tests.lab.state import cache_folder

MIRROR = "http://deb.debian.org/debian"
# For names and certificates: the folder's Debian reaches what this host reaches.
_OF_THE_HOST = ("/etc/resolv.conf", "/etc/hosts")
# What a started Debian has. Ends with a line on stdout, then holds the namespace.
_MOUNTS = """
set -e
mount --bind "$1" "$1"; cd "$1"
mount -t proc proc proc; mount --rbind /sys sys; mount --rbind /dev dev
mount -t tmpfs -o mode=0755 tmpfs run; mount -t tmpfs tmpfs tmp; chmod 1777 tmp
echo; exec sleep infinity
"""
_ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


@dataclass
class Chroot:
    """A folder with a Debian in it. Its mounts live as long as this does."""

    root: Path
    _holder: subprocess.Popen[bytes]

    @classmethod
    def make(cls, root: Path, release: str) -> Chroot:
        """A minimal Debian of a release. Blocks: a minute the first time, then seconds."""
        base = _base(release)
        subprocess.run(["cp", "-a", f"{base}/.", str(root)], check=True)
        for path in _OF_THE_HOST:
            shutil.copy(path, root / path[1:])
        # No service starts: there is none to start it.
        policy = root / "usr/sbin/policy-rc.d"
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        argv = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            _MOUNTS,
            "-",
            str(root),
        ]
        holder = subprocess.Popen(argv, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        if holder.stdout.readline() != b"\n":
            raise LabError(f"the mounts of {root} could not be made")
        return cls(root, holder)

    def enter(self, *argv: str) -> list[str]:
        """A command line that runs another in there, as root."""
        return [*self._in_its_mounts, "chroot", str(self.root), *argv]

    @property
    def _in_its_mounts(self) -> list[str]:
        # The root as well: this may itself run in a folder that somebody took for one.
        return ["nsenter", "--mount", "--root", f"--target={self._holder.pid}"]

    def environment(self, **more: str) -> dict[str, str]:
        """What a command in there finds in its environment."""
        return {**_ENVIRONMENT, **more}

    def run(
        self, *argv: str, check: bool = True, timeout_s: float = 300, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in there as root. Blocks. Raises CalledProcessError."""
        done = subprocess.run(
            self.enter(*argv), env=self.environment(**environment), text=True, check=False,
            capture_output=True, timeout=timeout_s, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if check and done.returncode:
            raise LabError(f"{' '.join(argv)}: {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def start(
        self, log: Path, argv: Sequence[str], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a command in there, with its output in a file of the host's. Does not block."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self.enter(*argv), env=self.environment(**environment),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip

    def show(self, source: Path, target: str) -> None:
        """Have a folder of the host's at a place in there. Blocks for moments."""
        (self.root / target[1:]).mkdir(parents=True, exist_ok=True)
        place = str(self.root / target[1:])
        for argv in (["mkdir", "-p", place], ["mount", "--bind", str(source), place]):
            subprocess.run([*self._in_its_mounts, *argv], check=True)

    def reboot(self) -> None:
        """Have what a reboot leaves of /run: nothing of virtceph's. Blocks."""
        self.run("sh", "-c", "rm -rf /run/virtceph")

    def close(self) -> None:
        """Let the mounts go; the folder stays. Blocks for moments."""
        self._holder.kill()
        self._holder.wait()


def _base(release: str) -> Path:
    """The release as debootstrap makes it, from the cache."""
    folder = cache_folder(f"debian-{release}-v1")
    base = folder / "root"
    if not base.exists():
        making, log = folder / f"making-{os.getpid()}", folder / "debootstrap.log"
        argv = ["debootstrap", "--variant=minbase", release, str(making), MIRROR]
        with log.open("wb") as output:
            done = subprocess.run(argv, stdout=output, stderr=output, check=False, timeout=900)
        if done.returncode:
            raise LabError(f"debootstrap {release}: {tail(log)}")
        making.rename(base)
    return base
