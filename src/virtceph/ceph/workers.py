"""The daemon's side of worker processes: kept ready, lent to one user at a time, killed when late."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from virtceph.ceph import wire
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.errors import CephPermissionDenied, CephUnavailable, KeyRejected, VirtcephError
from virtceph.log import facts

log = logging.getLogger(__name__)

# Importing librados and connecting takes about 0.2 s; a cluster that does not answer `op_timeout_s`.
_START_S = 10.0
_CLOSED = "the storage domain was disconnected"


@dataclass(frozen=True)
class Call:
    """One operation on one image."""

    operation: str
    pool: PoolSpec
    arguments: dict[str, Any]


class NoReply(Exception):
    """The worker gave no answer in time, or died; it is killed by now, and the outcome unknown.

    `begun` is False only when it is known that nothing had been asked of the cluster yet.
    """

    def __init__(self, begun: bool = True) -> None:
        super().__init__()
        self.begun = begun


Outcome = Any | VirtcephError | NoReply


class WorkerProcess:
    """One running worker. Used by one thread at a time."""

    def __init__(self, spec: ClusterSpec, dead: set[int] | None = None) -> None:
        # Shared with the pool: the clients of workers that were killed.
        self._dead = set() if dead is None else dead
        self.client_id = 0
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "virtceph.ceph.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=worker_environment(),
            )
        self._lines = self._channel.makefile("rb")
        self._next_id = 0
        try:
            self._channel.sendall(wire.dump_spec(spec))
            self._started(time.monotonic() + _START_S + spec.op_timeout_s)
        except BaseException:
            self.kill()
            raise

    def _started(self, deadline_s: float) -> None:
        reply = self._read(deadline_s)
        if "error" in reply:
            raise wire.load_error(reply["error"])
        self.client_id = int(reply.get("result") or 0)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def run(self, calls: list[Call], deadline_s: float) -> list[Outcome]:
        """Run all calls at once; for each its result, its error, or NoReply. Blocks until the last
        answer or `deadline_s` (monotonic, may be `inf`); a worker that is late is killed."""
        ids = {}
        outcomes: list[Outcome] = [NoReply(c.operation not in wire.ANNOUNCED) for c in calls]
        try:
            for index, call in enumerate(calls):
                self._next_id += 1
                ids[self._next_id] = index
                self._channel.sendall(
                    wire.dump(
                        {
                            "id": self._next_id,
                            "operation": call.operation,
                            "pool": call.pool.pool,
                            "namespace": call.pool.namespace,
                            "arguments": call.arguments,
                            "dead": sorted(self._dead),
                        }
                    )
                )
            while ids:
                reply = self._read(deadline_s)
                if "begun" in reply:
                    outcomes[ids[reply["id"]]] = NoReply(begun=True)
                    continue
                index = ids.pop(reply["id"])
                error = reply.get("error")
                outcomes[index] = wire.load_error(error) if error else reply.get("result")
        except (NoReply, OSError):
            self.kill()
        return outcomes

    def _read(self, deadline_s: float) -> dict[str, Any]:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise NoReply
        self._channel.settimeout(None if left_s == float("inf") else left_s)
        try:
            # An empty line is the end of the worker; ValueError comes of a channel that `kill`
            # closed in another thread, and of half a line.
            return wire.load(self._lines.readline(wire.MAX_LINE_BYTES))
        except (OSError, ValueError) as error:
            raise NoReply from error

    def kill(self) -> None:
        """End the process at once. What it had asked an image's owner for is dropped with it."""
        self._process.kill()
        self._process.wait()
        if self.client_id:
            self._dead.add(self.client_id)
        self._lines.close()
        self._channel.close()


def worker_environment() -> dict[str, str]:
    """What a process that holds a key is told of ours."""
    keep = ("PATH", "PYTHONPATH", "LANG", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in keep if name in os.environ}


def _may_have_begun(outcome: Outcome) -> bool:
    return not isinstance(outcome, NoReply) or outcome.begun


class WorkerPool:
    """Workers of one cluster connection, some kept ready so that a frozen guest waits for none."""

    def __init__(self, spec: ClusterSpec, ready: int) -> None:
        self._spec, self._ready = spec, ready
        self.dead: set[int] = set()
        self._idle: list[WorkerProcess] = []
        self._busy: set[WorkerProcess] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._refill()

    @contextlib.contextmanager
    def worker(self) -> Iterator[WorkerProcess]:
        """A worker of one's own. Blocks while one starts when none is ready.

        Raises:
            CephUnavailable, CephPermissionDenied (the key was changed or removed)
        """
        worker = self._take()
        try:
            yield worker
        finally:
            self._give_back(worker)

    def run(self, calls: list[Call], timeout_s: float) -> list[Outcome]:
        """Run calls side by side in one worker; see WorkerProcess.run. Blocks up to `timeout_s`.

        When the worker dies before any of them began, another takes them up.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            with self.worker() as worker:
                outcomes = worker.run(calls, deadline_s)
            over = self._closed or time.monotonic() >= deadline_s
            if over or any(map(_may_have_begun, outcomes)):
                return outcomes

    def clients(self) -> set[int]:
        """The numbers by which the cluster knows the workers of this pool."""
        with self._lock:
            return {w.client_id for w in (*self._idle, *self._busy)}

    def pids(self) -> list[int]:
        """The processes of this pool."""
        with self._lock:
            return [w.pid for w in (*self._idle, *self._busy)]

    def close(self) -> None:
        """Kill every worker."""
        with self._lock:
            self._closed = True
            workers = [*self._idle, *self._busy]
            self._idle.clear()
        for worker in workers:
            worker.kill()

    def _take(self) -> WorkerProcess:
        with self._lock:
            if self._closed:
                raise CephUnavailable(_CLOSED)
            while self._idle:
                worker = self._idle.pop()
                if worker.alive():
                    self._busy.add(worker)
                    return worker
        worker = self._start()
        with self._lock:
            if not self._closed:
                self._busy.add(worker)
                return worker
        worker.kill()
        raise CephUnavailable(_CLOSED)

    def _start(self) -> WorkerProcess:
        try:
            return WorkerProcess(self._spec, self.dead)
        except (NoReply, OSError) as error:
            raise CephUnavailable("a worker process could not connect in time") from error
        except KeyRejected as error:
            # Good when the storage domain was connected, so it was changed in the cluster since.
            user, key = self._spec.user, "a key that the cluster still accepts"
            raise CephPermissionDenied(user, "connect", key) from error

    def _give_back(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._busy.discard(worker)
            keep = not self._closed and worker.alive() and len(self._idle) < self._ready
            if keep:
                self._idle.append(worker)
        if not keep:
            worker.kill()
        self._refill()

    def _refill(self) -> None:
        """Start what is missing, in the background: nobody waits for it."""
        with self._lock:
            if self._closed or len(self._idle) >= self._ready:
                return
        threading.Thread(target=self._fill, name="worker-refill", daemon=True).start()

    def _fill(self) -> None:
        while True:
            with self._lock:
                if self._closed or len(self._idle) >= self._ready:
                    return
            try:
                worker = self._start()
            except VirtcephError as error:
                log.warning("no worker %s", facts(reason=str(error)))
                return
            with self._lock:
                keep = not self._closed and len(self._idle) < self._ready
                if keep:
                    self._idle.append(worker)
            if not keep:
                worker.kill()
