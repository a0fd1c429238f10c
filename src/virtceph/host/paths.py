"""Files that a caller names: only under an exchange directory, and through no link.

libvirt and QEMU open the path again, libvirtd as root and following links. So it is not enough to look
once: every folder on the way must belong to us or root and be writable by nobody else, and then
nobody can put a link there afterwards.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from virtceph.errors import PathExists, PathNotAllowed

# Control characters, and what XML 1.0 has no place for: libvirt would refuse it only when the VM is
# paused already.
_UNSPEAKABLE = re.compile("[\\x00-\\x1f\\x7f-\\x9f\\ud800-\\udfff\\ufffe\\uffff]")
_MAX_PATH_BYTES = 4095  # PATH_MAX, less the NUL at its end

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Exchange:
    """The exchange directories of the configuration."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [PurePosixPath(folder) for folder in folders]

    def new_file(self, path: str) -> str:
        """Check that a file of this name may be made; the path to give to libvirt. Blocks.

        Raises:
            PathNotAllowed: outside, through a link, in a folder that others may write to, or no
                name that the kernel and libvirt take.
            PathExists: there is something of this name already.
        """
        target, found = self._look(path)
        if found is not None:
            raise PathExists(path)
        return str(target)

    def existing_file(self, path: str) -> str | None:
        """Check that nobody else can write to a file or put another in its place; the path to give to
        libvirt, or None when there is no such file. Blocks.

        Raises:
            PathNotAllowed: as `new_file` says; or it is no regular file, or others can write to it.
        """
        target, found = self._look(path)
        if found is None:
            return None
        if not stat.S_ISREG(found.st_mode):
            raise PathNotAllowed(path, f"{target.name} is no regular file")
        if not _is_ours(found):
            raise PathNotAllowed(path, f"{target.name} can be written to by others")
        return str(target)

    @contextmanager
    def folder_of(self, path: str) -> Iterator[tuple[int, str]]:
        """The open folder that a path lies in, and its name there. Blocks. Raises PathNotAllowed."""
        folder, relative = self._split(path)
        parent = self._open_folders(path, folder, relative.parts[:-1])
        try:
            yield parent, relative.name
        finally:
            os.close(parent)

    def _look(self, path: str) -> tuple[PurePosixPath, os.stat_result | None]:
        """The path below its exchange directory, and what is there: None when nothing is."""
        folder, relative = self._split(path)
        with self.folder_of(path) as (parent, name):
            try:
                return folder / relative, os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return folder / relative, None
            except OSError as error:
                raise PathNotAllowed(path, f"{name}: {error.strerror}") from error

    def _split(self, path: str) -> tuple[PurePosixPath, PurePosixPath]:
        if _UNSPEAKABLE.search(path):
            raise PathNotAllowed(path, "expected no control characters")
        if len(os.fsencode(path)) > _MAX_PATH_BYTES:
            raise PathNotAllowed(path, f"expected at most {_MAX_PATH_BYTES} bytes")
        asked = PurePosixPath(path)
        if not asked.is_absolute() or ".." in asked.parts:
            raise PathNotAllowed(path, "expected an absolute path without `..`")
        for folder in self._folders:
            if asked == folder:
                reason = "expected a file below it: it is the exchange directory itself"
                raise PathNotAllowed(path, reason)
            if asked.is_relative_to(folder):
                return folder, asked.relative_to(folder)
        allowed = ", ".join(map(str, self._folders))
        raise PathNotAllowed(path, f"expected a path under {allowed}")

    def _open_folders(self, path: str, folder: PurePosixPath, parts: tuple[str, ...]) -> int:
        try:
            current = os.open(folder, _OPEN_FOLDER)
        except OSError as error:
            raise PathNotAllowed(path, f"{folder}: {error.strerror}") from error
        walked = folder
        _require_ours(path, current, walked)
        for part in parts:
            walked /= part
            try:
                below = os.open(part, _OPEN_FOLDER, dir_fd=current)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    raise PathNotAllowed(path, f"{part}: {error.strerror}") from error
                # ELOOP or ENOTDIR for a link: with O_DIRECTORY the kernel may say either.
                raise PathNotAllowed(path, f"{walked} is no folder, or a link") from error
            finally:
                os.close(current)
            current = below
            _require_ours(path, current, walked)
        return current


def _require_ours(path: str, fd: int, folder: PurePosixPath) -> None:
    if not _is_ours(os.fstat(fd)):
        os.close(fd)
        raise PathNotAllowed(path, f"{folder} can be written to by others")


def _is_ours(found: os.stat_result) -> bool:
    """Whether only root and this daemon's account may write to it."""
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (0, os.geteuid()) and not others_write
