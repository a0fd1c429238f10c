"""A worker process: runs librbd calls that cannot be cancelled, so that they can be killed.

Run as `python -m virtceph.ceph.worker FD`, FD being its end of a socket pair (see `wire`). Requests
run side by side, each in a thread of its own; the process ends when the daemon closes its end.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from virtceph.ceph import wire
from virtceph.ceph.cluster import Cluster
from virtceph.ceph.snapshots import Handles, OwnedImages
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import CephFailed, VirtcephError
from virtceph.process import forbid_core_dumps

# The operations a worker knows, by the name of the method of OwnedImages.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "open_image": OwnedImages.open_image,
    "close_image": OwnedImages.close_image,
    "create_snapshot": OwnedImages.create_snapshot,
    "remove_snapshot": OwnedImages.remove_snapshot,
    "annotate_snapshot": OwnedImages.annotate_snapshot,
    "roll_back": OwnedImages.roll_back,
    "clone": OwnedImages.clone,
    "remove": OwnedImages.remove,
}


class Worker:
    """Serves the daemon's end of `channel` until it is closed."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._handles: Handles = {}

    def serve(self) -> None:
        """Connect, say so, and serve. Blocks for the life of the process."""
        lines = self._channel.makefile("rb")
        spec = wire.load_spec(lines.readline(wire.MAX_LINE_BYTES))
        try:
            cluster = Cluster(spec)
        except VirtcephError as error:
            self._send({"id": 0, "error": wire.dump_error(error)})
            return
        self._send({"id": 0, "result": cluster.client_id})
        while line := lines.readline(wire.MAX_LINE_BYTES):
            request = wire.load(line)
            threading.Thread(target=self._run, args=(cluster, request), daemon=True).start()

    def _run(self, cluster: Cluster, request: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": request["id"]}
        try:
            begun = {"id": request["id"], "begun": True}
            pool = PoolSpec(request["pool"], request["namespace"])
            images = OwnedImages(cluster, pool, self._handles, lambda: self._send(begun))
            images.dead = frozenset(request["dead"])
            reply["result"] = OPERATIONS[request["operation"]](images, **request["arguments"])
        except VirtcephError as error:
            reply["error"] = wire.dump_error(error)
        except Exception as error:  # whatever it is, the asker must not wait for its deadline
            failed = CephFailed(str(request["operation"]), 0, type(error).__name__)
            reply["error"] = wire.dump_error(failed)
        self._send(reply)

    def _send(self, message: dict[str, Any]) -> None:
        with self._sending:
            self._channel.sendall(wire.dump(message))


def main() -> None:
    """The process. The daemon's end of the channel closes when the daemon ends, however it ends; this
    process then goes at once. (PR_SET_PDEATHSIG would not do: it follows the thread that spawned us.)"""
    forbid_core_dumps()
    try:
        Worker(socket.socket(fileno=int(sys.argv[1]))).serve()
    except OSError:
        pass
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
