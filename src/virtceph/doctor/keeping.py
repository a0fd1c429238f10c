"""Where the key of an adopted secret is kept from then on: in a file, as a credential, or nowhere."""

from __future__ import annotations

import contextlib
import grp
import os
import shlex
import subprocess
from pathlib import Path
from typing import Protocol
from uuid import UUID

from virtceph.sensitive import Sensitive

DAEMON_GROUP = "virtceph"
_ENCRYPT_S = 60.0


class KeepingFailed(Exception):
    """The key could not be kept; the text says why. Nothing is left."""


class Keeping(Protocol):
    """A place for a key. `key_file` is what virtcephd.toml says of it; None: no key is kept."""

    key_file: str | None

    def keep(self, key: Sensitive) -> None:
        """Keep it. Blocks on the disk. Raises KeepingFailed."""

    def take_back(self) -> None:
        """Remove what `keep` has made. Blocks on the disk."""

    def hints(self) -> list[str]:
        """What else has to be done for the daemon to find it."""

    def set_value(self, uuid: UUID) -> str:
        """The command that gives the key to a secret again."""


class InFile:
    """The key in base64, for root and the daemon's group."""

    def __init__(self, path: Path) -> None:
        self._path, self._made = path, False
        self.key_file: str | None = str(path)

    def keep(self, key: Sensitive) -> None:
        text = key.reveal_base64().encode()
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            with contextlib.suppress(OSError):
                if self._path.read_bytes().strip() == text:
                    return
            raise KeepingFailed(
                f"{self._path} is there already, with something else in it"
            ) from None
        except OSError as error:
            raise KeepingFailed(f"{self._path}: {error.strerror}") from error
        self._made = True
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(fd)
                with contextlib.suppress(KeyError):
                    os.fchown(fd, -1, grp.getgrnam(DAEMON_GROUP).gr_gid)
                    os.fchmod(fd, 0o640)
        except OSError as error:
            self.take_back()
            raise KeepingFailed(f"{self._path}: {error.strerror}") from error

    def take_back(self) -> None:
        if self._made:
            self._path.unlink(missing_ok=True)

    def hints(self) -> list[str]:
        return []

    def set_value(self, uuid: UUID) -> str:
        return f"virsh secret-set-value {uuid} --file {shlex.quote(str(self._path))}"


class AsCredential:
    """Encrypted by systemd with the host's own key, for LoadCredentialEncrypted=."""

    def __init__(self, path: Path) -> None:
        self._path, self._made = path, False
        self.key_file: str | None = path.name

    def keep(self, key: Sensitive) -> None:
        if self._path.exists():
            raise KeepingFailed(f"{self._path} is there already")
        argv = ["systemd-creds", "encrypt", f"--name={self._path.name}", "-", str(self._path)]
        try:
            done = subprocess.run(
                argv, input=key.reveal_base64().encode(), capture_output=True, timeout=_ENCRYPT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KeepingFailed(f"systemd-creds: {error}") from error
        if done.returncode:
            # Its own words; it never shows what it was given.
            raise KeepingFailed(f"systemd-creds: {done.stderr.decode(errors='replace').strip()}")
        self._made = True

    def take_back(self) -> None:
        if self._made:
            self._path.unlink(missing_ok=True)

    def hints(self) -> list[str]:
        return [
            "the daemon has to be given the credential: systemctl edit virtcephd.service",
            "    [Service]",
            f"    LoadCredentialEncrypted={self.key_file}:{self._path}",
        ]

    def set_value(self, uuid: UUID) -> str:
        path = shlex.quote(str(self._path))
        decrypt = f"systemd-creds decrypt --name={shlex.quote(self._path.name)} {path} -"
        return f"{decrypt} | virsh secret-set-value {uuid} --file /dev/stdin"


class Nowhere:
    """Not kept: an engine registers it, or somebody has it."""

    key_file: str | None = None

    def __init__(self, user: str) -> None:
        self._user = user

    def keep(self, key: Sensitive) -> None:
        pass

    def take_back(self) -> None:
        pass

    def hints(self) -> list[str]:
        return []

    def set_value(self, uuid: UUID) -> str:
        ask = f"ceph auth get-key client.{shlex.quote(self._user)}"
        return f"{ask} | virsh secret-set-value {uuid} --file /dev/stdin"
