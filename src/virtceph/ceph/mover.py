"""A mover: a process that moves the data of one job, and can be stopped or killed at any time.

Run as `python -m virtceph.ceph.mover FD`, FD being its end of a socket pair. The daemon keeps one started
before it is needed. It is sent one task (a line of JSON, with the descriptors of the files it is about),
answers with lines of how far it is, and at last with its result or error. When the daemon says to stop, or
closes its end, the mover ends its requests and closes its images before it goes: a watch or lock that died
with it would count for another 30 s.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from virtceph.ceph import wire
from virtceph.ceph.cluster import Cluster
from virtceph.ceph.copying import copy_image
from virtceph.ceph.diffimport import check_base, import_diff
from virtceph.ceph.diffs import export_diff, merge
from virtceph.ceph.flattening import flatten_image
from virtceph.ceph.moving import Moving, Stopped
from virtceph.ceph.rawfiles import export_raw, import_raw
from virtceph.errors import CephFailed, VirtcephError
from virtceph.process import forbid_core_dumps, trace_crashes

# The operations a mover knows.
OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "copy": copy_image,
    "flatten": flatten_image,
    "export_raw": export_raw,
    "import_raw": import_raw,
    "export_diff": export_diff,
    "check_base": check_base,
    "import_diff": import_diff,
    "merge_diffs": merge,
}
# For streams of data librbd's cache only costs a copy.
_OPTIONS = {"rbd_cache": "false"}
_MAX_FDS = 253  # the kernel's SCM_MAX_FD
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h
_KEEP_BYTES = 1 << 30


class Channel:
    """The mover's end: one task comes in, messages go out, and its end is the word to stop."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._sending = threading.Lock()
        self._stopped = threading.Event()

    def task(self) -> tuple[dict[str, Any], list[int]] | None:
        """The task and its files; None when the daemon has none. Blocks until it comes."""
        line, fds = b"", list[int]()
        while not line.endswith(b"\n"):
            part, control, _, _ = self._end.recvmsg(1 << 16, socket.CMSG_SPACE(_MAX_FDS * 4))
            for level, kind, data in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds += array.array("i", data[: len(data) // 4 * 4]).tolist()
            if not part:
                return None
            line += part
        threading.Thread(target=self._listen, daemon=True).start()
        return json.loads(line), fds

    def _listen(self) -> None:
        # Nothing more is ever sent but the word to stop, and the end says the same.
        with contextlib.suppress(OSError):
            self._end.recv(1)
        self._stopped.set()

    def stopped(self) -> bool:
        """Whether the work is to end."""
        return self._stopped.is_set()

    def send(self, message: dict[str, Any]) -> None:
        """Tell the daemon; one that is gone is told nothing."""
        with self._sending, contextlib.suppress(OSError):
            self._end.sendall(wire.dump(message))


def run(channel: Channel, task: dict[str, Any], fds: list[int]) -> dict[str, Any]:
    """The last message: what came of the task. Blocks for as long as it takes."""
    clusters: list[Cluster] = []
    try:
        for raw in task["clusters"]:
            clusters.append(Cluster(wire.read_spec(raw), _OPTIONS))
        moving = Moving(clusters, fds, channel.send, channel.stopped)
        result = OPERATIONS[task["operation"]](moving, **task["arguments"])
        moving.finish()
        return {"result": result}
    except Stopped:
        return {"stopped": True}
    except VirtcephError as error:
        return {"error": wire.dump_error(error)}
    except Exception as error:  # whatever it is, the job must not wait for its time-out
        reason = f"{type(error).__name__}: {error}"
        return {"error": wire.dump_error(CephFailed(str(task["operation"]), 0, reason))}
    finally:
        for cluster in clusters:
            cluster.close()


def _keep_memory() -> None:
    """Have malloc keep what is freed: pieces of 4 MiB that are mapped anew each time cost more than all the
    copying of them."""
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def main() -> None:
    """The process."""
    forbid_core_dumps()
    trace_crashes()
    _keep_memory()
    # systemd tells every process of a service that ended; the channel tells this one as well.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
    with contextlib.suppress(OSError):
        found = channel.task()
        if found is not None:
            channel.send(run(channel, *found))
    os._exit(0)


if __name__ == "__main__":
    main()
