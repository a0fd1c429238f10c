"""qcow2 in and out, by `qemu-img`: between a file that the daemon opened and an image.

It is given descriptors and never a path, the key by a pipe of memory, and no file of configuration but ours.
Before it sees a file from outside, the file's header is read here: a qcow2 that names other files would have
them opened, and so exported (tried).
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import resource
import selectors
import signal
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from virtceph.ceph.sources import Place
from virtceph.ceph.spec import ClusterSpec
from virtceph.ceph.workers import worker_environment
from virtceph.errors import BadImageFile, CephUnavailable, ConversionFailed, FileFailed

_PROGRAM = "qemu-img"
_MAGIC = b"QFI\xfb"
# Magic, version, backing file's offset and size, cluster bits, size, encryption, L1 size, table offsets,
# snapshots; from version 3 on the incompatible features. Source: QEMU's docs/interop/qcow2.txt.
_HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
_FEATURES = struct.Struct(">Q")
_CORRUPT, _DATA_FILE = 2, 4
# The exit status of `qemu-img check` where some space is only lost.
_ONLY_LEAKS = 3
# 1 PiB, the largest volume.
_MAX_BYTES = 1 << 50
# Far above what it needs, and a bound for what a damaged file may make it take.
_MEMORY_BYTES = 8 << 30
_STOP_S = 1.0
_LOOK_S = 0.2
# Far more than the wake-ups and keep-alives of a client that waits come to between two such steps.
_WORK_BYTES = 256 << 10
_PERCENT = re.compile(rb"\((\d+(?:\.\d+)?)/100%\)")
_STDERR_BYTES = 4096

Told = Callable[[float], None]


class ConversionStopped(Exception):
    """It was stopped before its end."""


@dataclass(frozen=True)
class Image:
    """An RBD image as qemu-img is told of it."""

    spec: ClusterSpec
    place: Place
    snapshot: str | None = None


def qcow2_size(fd: int, path: str) -> int:
    """The size of the disk in a qcow2 file that needs no other file and no key. Blocks.

    Raises:
        BadImageFile: it is no qcow2, damaged, encrypted, larger than any volume, or names another file.
    """
    raw = os.pread(fd, _HEADER.size + _FEATURES.size, 0)
    if len(raw) < _HEADER.size or raw[:4] != _MAGIC:
        raise BadImageFile(path, "it is no qcow2 file")
    header = _HEADER.unpack_from(raw)
    version, backing_offset, cluster_bits = header[1], header[2], header[4]
    size_bytes, encryption = header[5], header[6]
    if version not in (2, 3):
        raise BadImageFile(path, f"it is qcow2 of the unknown version {version}")
    if backing_offset:
        raise BadImageFile(path, "it needs a backing file")
    if encryption:
        raise BadImageFile(path, "it is encrypted")
    if not 9 <= cluster_bits <= 21 or not 0 < size_bytes <= _MAX_BYTES:
        raise BadImageFile(path, "its header is damaged")
    if version == 3:
        if len(raw) < _HEADER.size + _FEATURES.size:
            raise BadImageFile(path, "its header is cut short")
        (features,) = _FEATURES.unpack_from(raw, 72)
        if features & _DATA_FILE:
            raise BadImageFile(path, "its data lie in another file")
        if features & _CORRUPT:
            raise BadImageFile(path, "it is marked as corrupt")
    return int(size_bytes)


def export_qcow2(image: Image, fd: int, path: str, told: Told, stop: threading.Event) -> None:
    """Write an image to an open, empty file as qcow2. Blocks until done; `told` hears percents.

    Raises:
        ConversionStopped, ConversionFailed, FileFailed (no room), CephUnavailable (it stalled)
    """
    with _options(image) as (options, key, fds):
        words = [
            "convert", "-p", "-W", "-m", "8", "-T", "none", "-t", "writeback",
            "--object", key, "--image-opts", options, "-O", "qcow2", f"/proc/self/fd/{fd}",
        ]  # fmt: skip
        _run(words, [fd, *fds], path, image.spec.op_timeout_s, told, stop)


def import_qcow2(image: Image, fd: int, path: str, told: Told, stop: threading.Event) -> None:
    """Fill an image that is there, and as large, with the disk in a qcow2 file. Blocks until done.

    Raises:
        ConversionStopped, BadImageFile, ConversionFailed, CephUnavailable (it stalled)
    """
    _check(fd, path, image.spec.op_timeout_s, stop)
    with _options(image) as (options, key, fds):
        words = [
            "convert", "-p", "-n", "-W", "-m", "8", "-t", "none", "--target-is-zero",
            "--object", key, "--image-opts", _qcow2(fd), "--target-image-opts", options,
        ]  # fmt: skip
        _run(words, [fd, *fds], path, image.spec.op_timeout_s, told, stop)


def _check(fd: int, path: str, stall_s: float, stop: threading.Event) -> None:
    """Raise BadImageFile where a qcow2 file contradicts itself: of one that was cut short `convert` would
    make zeros of what is missing. Blocks."""
    words = ["check", "-q", "--image-opts", _qcow2(fd)]
    try:
        _run(words, [fd], path, stall_s, lambda _percent: None, stop, good=(0, _ONLY_LEAKS))
    except ConversionFailed as error:
        raise BadImageFile(path, error.reason) from error


def _qcow2(fd: int) -> str:
    """A qcow2 file by its descriptor, as qemu-img takes it. Nobody else writes to it: no lock is needed."""
    return f"driver=qcow2,file.driver=file,file.filename=/proc/self/fd/{fd},file.locking=off"


@contextlib.contextmanager
def _options(image: Image) -> Iterator[tuple[str, str, list[int]]]:
    """The image and its key as qemu-img takes them, and the descriptors that they name."""
    spec, place = image.spec, image.place
    conf = _memory("conf", _configuration(spec).encode())
    key = _memory("key", base64.b64encode(spec.key.reveal()))
    words = {
        "driver": "rbd",
        "pool": place.pool,
        "image": place.name,
        "user": spec.user,
        "conf": f"/proc/self/fd/{conf}",
        "key-secret": "key",
    }
    if place.namespace:
        words["namespace"] = place.namespace
    if image.snapshot is not None:
        words["snapshot"] = image.snapshot
    try:
        yield (
            ",".join(f"{name}={value}" for name, value in words.items()),
            f"secret,id=key,format=base64,file=/proc/self/fd/{key}",
            [conf, key],
        )
    finally:
        os.close(conf)
        os.close(key)


def _configuration(spec: ClusterSpec) -> str:
    timeout = f"{spec.op_timeout_s:g}"
    options = {
        "mon_host": spec.mon_host(),
        "client_mount_timeout": timeout,
        "rados_mon_op_timeout": timeout,
        "rados_osd_op_timeout": timeout,
        "admin_socket": "",
        "log_file": "",
        "log_to_stderr": "false",
        "err_to_stderr": "false",
    }
    return "[global]\n" + "".join(f"{name} = {value}\n" for name, value in options.items())


def _memory(name: str, content: bytes) -> int:
    fd = os.memfd_create(name)
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _run(
    words: Sequence[str],
    fds: list[int],
    path: str,
    stall_s: float,
    told: Told,
    stop: threading.Event,
    good: Sequence[int] = (0,),
) -> None:
    try:
        process = subprocess.Popen(
            [_PROGRAM, *words],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=worker_environment(),
        )
    except FileNotFoundError:
        raise ConversionFailed(path, "there is no qemu-img: install qemu-utils") from None
    with process:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        try:
            said = _follow(process, stall_s, told, stop)
        finally:
            process.kill()
        status = process.wait()
    if stop.is_set():
        raise ConversionStopped
    if status not in good:
        raise _failure(path, said, status)


def _follow(
    process: subprocess.Popen[bytes], stall_s: float, told: Told, stop: threading.Event
) -> bytes:
    """Hear how far it is until it ends; what it said on stderr. Raises CephUnavailable when it stalls."""
    assert process.stdout is not None
    assert process.stderr is not None
    said, moved, stop_by_s = b"", _Moved(process.pid), float("inf")
    with selectors.DefaultSelector() as pipes:
        for pipe in (process.stdout, process.stderr):
            pipes.register(pipe, selectors.EVENT_READ)
        while pipes.get_map():
            for key, _events in pipes.select(_LOOK_S):
                part = os.read(key.fd, 1 << 12)
                if not part:
                    pipes.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    said = (said + part)[-_STDERR_BYTES:]
                elif found := _PERCENT.findall(part):
                    told(float(found[-1]))
                    moved.to(float(found[-1]))
            now_s = time.monotonic()
            if stop.is_set() and stop_by_s == float("inf"):
                process.send_signal(signal.SIGTERM)
                stop_by_s = now_s + _STOP_S
            if now_s >= stop_by_s:
                break
            if moved.seen_since_s() > stall_s:
                raise CephUnavailable(f"qemu-img: nothing was done for {stall_s:g} s")
    return said


class _Moved:
    """When a qemu-img last got on. Its percents alone do not tell: a hundredth of one is 1 GiB of a disk of
    10 TiB, which takes longer than the stall time-out allows."""

    def __init__(self, pid: int) -> None:
        self._io, self._percent = f"/proc/{pid}/io", -1.0
        self._bytes, self._at_s = 0, time.monotonic()

    def to(self, percent: float) -> None:
        """It told how far it is."""
        if percent != self._percent:
            self._percent, self._at_s = percent, time.monotonic()

    def seen_since_s(self) -> float:
        """How long it has done nothing. Blocks for moments."""
        bytes_ = self._bytes_now()
        if bytes_ - self._bytes >= _WORK_BYTES:
            self._bytes, self._at_s = bytes_, time.monotonic()
        return time.monotonic() - self._at_s

    def _bytes_now(self) -> int:
        """What it read and wrote by system calls, from sockets too. Source: proc(5), rchar and wchar."""
        try:
            with open(self._io) as file:
                return sum(int(line.split()[1]) for line in list(file)[:2])
        except (OSError, ValueError, IndexError):
            return 0


def _failure(path: str, said: bytes, status: int) -> Exception:
    """The error that qemu-img told in words."""
    text = said.decode(errors="replace").strip().replace("\n", "; ")
    lines = text.replace(f"{_PROGRAM}: ", "")
    if "No space left on device" in text:
        return FileFailed(path, "no room is left there")
    if "Connection timed out" in text or "error connecting" in text:
        return CephUnavailable(f"qemu-img: {lines}")
    if "/proc/self/fd" in text or "qcow2" in text.lower():
        return BadImageFile(path, re.sub(r"/proc/self/fd/\d+", "the file", lines))
    return ConversionFailed(path, lines or f"qemu-img ended with status {status}")
