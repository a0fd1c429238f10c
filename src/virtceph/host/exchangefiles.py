"""Files of data that verbs write and read: under an exchange directory, or block devices by allow-list.

A file is written under a name of its job's own beside the one asked for, and gets that one when it is whole.
The daemon opens it; whoever fills it has the descriptor and never a path.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from uuid import UUID

from virtceph.errors import FileFailed, NoSuchFile, PathExists, PathNotAllowed
from virtceph.host.paths import Exchange

PART_PREFIX = ".virtceph-"
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_MODE = 0o640


class NewFile:
    """A file under way. `fd` is open for writing; `keep` gives it its name, else it is gone at the end."""

    def __init__(self, path: str, fd: int, folder: int, part: str, name: str) -> None:
        self.path, self.fd = path, fd
        self._folder, self._part, self._name = folder, part, name

    def keep(self) -> None:
        """Have the file on the disk under its name. Blocks. Raises PathExists, FileFailed."""
        try:
            os.fsync(self.fd)
            # A link, since a rename would take the place of a file that came there meanwhile.
            os.link(self._part, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.unlink(self._part, dir_fd=self._folder)
            os.fsync(self._folder)
        except FileExistsError as error:
            raise PathExists(self.path) from error
        except OSError as error:
            raise FileFailed(self.path, error.strerror or "?") from error

    def drop(self) -> None:
        """Close it, and remove it unless it was kept. Blocks."""
        os.close(self.fd)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._part, dir_fd=self._folder)


class Device(NewFile):
    """A block device that is written to: it has its name already, and keeps what was written."""

    def __init__(self, path: str, fd: int) -> None:
        super().__init__(path, fd, -1, "", "")

    def keep(self) -> None:
        """Have what was written on the disk. Blocks. Raises FileFailed."""
        try:
            os.fsync(self.fd)
        except OSError as error:
            raise FileFailed(self.path, error.strerror or "?") from error

    def drop(self) -> None:
        os.close(self.fd)


class DataFiles:
    """Opens what verbs name. `devices` are the block devices that may be named."""

    def __init__(self, exchange: Exchange, devices: Sequence[str]) -> None:
        self._exchange, self._devices = exchange, frozenset(devices)

    def part_paths(self, job_id: UUID, *paths: str) -> tuple[str, ...]:
        """The names under which the new files of a job are written; devices have none."""
        return tuple(
            str(PurePosixPath(path).with_name(_part_name(path, job_id)))
            for path in paths
            if path not in self._devices
        )

    def check_new(self, path: str) -> None:
        """Return if a file of this name, or to this device, may be written. Blocks.

        Raises:
            PathNotAllowed, PathExists
        """
        if path in self._devices:
            os.close(_open_device(path, os.O_RDWR))
            return
        self._exchange.new_file(path)

    @contextmanager
    def new(self, path: str, job_id: UUID) -> Iterator[NewFile]:
        """A new file (or a device), open for writing inside the block. Blocks.

        Raises:
            PathNotAllowed, PathExists
            FileFailed: it cannot be made.
        """
        if path in self._devices:
            made: NewFile = Device(path, _open_device(path, os.O_RDWR))
            try:
                yield made
            finally:
                made.drop()
            return
        self._exchange.new_file(path)
        with self._exchange.folder_of(path) as (folder, name):
            part = _part_name(path, job_id)
            try:
                fd = os.open(part, _NEW, _MODE, dir_fd=folder)
            except FileExistsError as error:
                raise PathExists(path) from error
            except OSError as error:
                raise FileFailed(path, error.strerror or "?") from error
            made = NewFile(path, fd, folder, part, name)
            try:
                yield made
            finally:
                made.drop()

    @contextmanager
    def existing(self, path: str) -> Iterator[int]:
        """A file or device that is there, open for reading inside the block. Blocks.

        Raises:
            PathNotAllowed, NoSuchFile
        """
        fd = _open_device(path, os.O_RDONLY) if path in self._devices else self._open(path)
        try:
            yield fd
        finally:
            os.close(fd)

    def check_existing(self, path: str) -> None:
        """Return if a file or device is there and may be read. Blocks. Raises PathNotAllowed, NoSuchFile."""
        with self.existing(path):
            pass

    def exists(self, path: str) -> bool:
        """Whether there is such a file, that may be read. Blocks. Raises PathNotAllowed."""
        try:
            self.check_existing(path)
        except NoSuchFile:
            return False
        return True

    def remove_part(self, path: str) -> None:
        """Remove what a job left half written. Blocks. Raises PathNotAllowed."""
        with self._exchange.folder_of(path) as (folder, name):
            if not name.startswith(PART_PREFIX):
                raise PathNotAllowed(path, "no file of a job's")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)

    def _open(self, path: str) -> int:
        if self._exchange.existing_file(path) is None:
            raise NoSuchFile(path)
        with self._exchange.folder_of(path) as (folder, name):
            try:
                fd = os.open(name, _OLD, dir_fd=folder)
            except FileNotFoundError:
                raise NoSuchFile(path) from None
            except OSError as error:
                raise PathNotAllowed(path, error.strerror or "?") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise PathNotAllowed(path, "it is no regular file")
        return fd


def _part_name(path: str, job_id: UUID) -> str:
    """One job may write several files into one folder."""
    return f"{PART_PREFIX}{job_id}{PurePosixPath(path).suffix}"


def _open_device(path: str, flags: int) -> int:
    try:
        # With O_EXCL the kernel refuses a device that is mounted or otherwise in use.
        fd = os.open(path, flags | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise PathNotAllowed(path, error.strerror or "?") from error
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        os.close(fd)
        raise PathNotAllowed(path, "it is no block device")
    return fd
