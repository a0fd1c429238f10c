"""The daemon's side of movers: one kept ready, one for each job that moves data, stopped at will."""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from virtceph.ceph import wire
from virtceph.ceph.spec import ClusterSpec
from virtceph.ceph.workers import worker_environment
from virtceph.errors import CephFailed, CephUnavailable
from virtceph.log import facts

log = logging.getLogger(__name__)

# An abort has to stop all I/O within 2 s.
_STOP_S = 1.5
_LOOK_S = 0.2


class MoverStopped(Exception):
    """The task was stopped before its end."""


@dataclass(frozen=True)
class Task:
    """What one mover is to do. `files` are descriptors of this process that it is lent."""

    operation: str
    arguments: dict[str, Any]
    clusters: Sequence[ClusterSpec]
    files: Sequence[int] = field(default=())

    def dump(self) -> bytes:
        """As one line. It has keys in it."""
        clusters = [wire.write_spec(spec) for spec in self.clusters]
        message = {"operation": self.operation, "arguments": self.arguments, "clusters": clusters}
        return wire.dump(message)


Told = Callable[[int, int], None]


class _Mover:
    """One running process, for one task."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "virtceph.ceph.mover", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=worker_environment(),
            )
        self._unread = b""

    def begin(self, task: Task) -> None:
        """Hand the task over. Blocks for moments. Raises OSError."""
        line = task.dump()
        sent = socket.send_fds(self._channel, [line], list(task.files))
        self._channel.sendall(line[sent:])

    def messages(self, timeout_s: float) -> list[dict[str, Any]] | None:
        """What it said meanwhile; None when it ended. Blocks up to `timeout_s`, until it says something."""
        # Not by select(), which takes no descriptor from 1024 on: a daemon with many connections has those.
        ready = select.poll()
        ready.register(self._channel, select.POLLIN)
        if not ready.poll(timeout_s * 1000):
            return []
        try:
            part = self._channel.recv(1 << 16)
        except OSError:
            return None
        if not part:
            return None
        *lines, self._unread = (self._unread + part).split(b"\n")
        return [json.loads(line) for line in lines]

    def stop(self) -> None:
        """Say that it is to end. Does not block."""
        with contextlib.suppress(OSError):
            self._channel.sendall(b"\n")

    def end(self) -> int:
        """Make sure that it has ended; its exit status. Blocks for moments."""
        self.process.kill()
        status = self.process.wait()
        self._channel.close()
        return status


class Movers:
    """Runs tasks, each in a process of its own. `stall_s`: how long one may do nothing at all."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s
        self._lock = threading.Lock()
        self._spare: _Mover | None = None
        self._running: set[_Mover] = set()
        self._closed = False

    def prepare(self) -> None:
        """Start the mover that the next task will have: importing librbd takes a quarter of a second. Does
        not wait for it."""
        with self._lock:
            if self._closed or self._spare is not None:
                return
            with contextlib.suppress(OSError):
                self._spare = _Mover()

    def run(self, task: Task, told: Told, stop: threading.Event) -> dict[str, Any]:
        """Do a task; its result. Blocks until it is done. `told` hears how many bytes are done, of how many;
        when `stop` is set the mover has 1.5 s to end in order.

        Raises:
            VirtcephError: the task's own.
            CephUnavailable: it did nothing for the stall time-out.
            CephFailed: librbd ended the process.
            MoverStopped
        """
        mover = self._take()
        try:
            return self._follow(mover, task, told, stop)
        finally:
            # Nobody waits for a process to end or to start.
            threading.Thread(target=self._replace, args=(mover,), daemon=True).start()

    def _replace(self, mover: _Mover) -> None:
        mover.end()
        with self._lock:
            self._running.discard(mover)
        self.prepare()

    def _take(self) -> _Mover:
        with self._lock:
            if self._closed:
                raise CephUnavailable("the daemon is stopping")
            mover, self._spare = self._spare, None
            if mover is not None and mover.process.poll() is not None:
                mover.end()
                mover = None
            try:
                mover = mover or _Mover()
            except OSError as error:
                raise CephUnavailable(f"no process could be started: {error.strerror}") from error
            self._running.add(mover)
            return mover

    def _follow(
        self, mover: _Mover, task: Task, told: Told, stop: threading.Event
    ) -> dict[str, Any]:
        try:
            mover.begin(task)
        except OSError as error:
            raise CephUnavailable("the mover process did not take its task") from error
        signs, moved_at_s, stop_by_s = -1, time.monotonic(), float("inf")
        while True:
            messages = mover.messages(_LOOK_S)
            now_s = time.monotonic()
            if messages is None:
                raise _ended(mover, task, stop)
            for message in messages:
                if "done" not in message:
                    return _outcome(message)
                if message["signs"] != signs:
                    signs, moved_at_s = message["signs"], now_s
                told(message["done"], message["total"])
            if stop.is_set() and stop_by_s == float("inf"):
                mover.stop()
                stop_by_s = now_s + _STOP_S
            if now_s >= stop_by_s:
                raise MoverStopped
            if now_s - moved_at_s > self._stall_s:
                stalled = f"{task.operation}: nothing was done for {self._stall_s:g} s"
                raise CephUnavailable(stalled)

    def pids(self) -> list[int]:
        """The processes that run or stand ready."""
        with self._lock:
            movers = [*self._running, *([self._spare] if self._spare else [])]
        return [mover.process.pid for mover in movers]

    def close(self) -> None:
        """End every mover: those at work are told to stop, and those that wait for tasks as well. Does not
        wait for `run`, which ends them."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
            for mover in self._running:
                mover.stop()
        if spare is not None:
            spare.end()


def _outcome(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise wire.load_error(message["error"])
    if "result" not in message:
        raise MoverStopped
    return dict(message["result"])


def _ended(mover: _Mover, task: Task, stop: threading.Event) -> Exception:
    """The error of a mover that ended without a word."""
    status = mover.end()
    if stop.is_set():
        return MoverStopped()
    log.error("mover ended %s", facts(operation=task.operation, status=status))
    return CephFailed(task.operation, 0, f"the process that did it ended with status {status}")
