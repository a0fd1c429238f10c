"""A worker process: runs librbd calls that cannot be cancelled, so that they can be killed.

Run as `python -m virtceph.ceph.worker FD`, FD being its end of a socket pair (see `wire`). Requests
run side by side, each in a thread of its own. The process ends when the daemon closes its end, after it has
given back what others would have to wait for: an exclusive lock or a watch that dies with its owner counts
for another 30 s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import rbd

from virtceph.ceph import changes, eviction, trashing, wire
from virtceph.ceph.cluster import Cluster
from virtceph.ceph.growing import grow
from virtceph.ceph.halfmade import remove_half_made
from virtceph.ceph.halfmoved import end_half_moving
from virtceph.ceph.partimages import PartImages
from virtceph.ceph.snapshots import Handles
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import CephFailed, VirtcephError
from virtceph.process import forbid_core_dumps, trace_crashes

# The operations a worker knows: methods of PartImages, and functions that take one.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "open_image": PartImages.open_image,
    "close_image": PartImages.close_image,
    "create_snapshot": PartImages.create_snapshot,
    "remove_snapshot": PartImages.remove_snapshot,
    "annotate_snapshot": PartImages.annotate_snapshot,
    "roll_back": PartImages.roll_back,
    "clone": PartImages.clone,
    "remove": PartImages.remove,
    "join_group": PartImages.join_group,
    "make_group_snapshot": PartImages.make_group_snapshot,
    "annotate_group": PartImages.annotate_group,
    "remove_group": PartImages.remove_group,
    "roll_back_group": PartImages.roll_back_group,
    "copy_snapshot": PartImages.copy_snapshot,
    "grow": grow,
    "finish_part": PartImages.finish_part,
    "discard_part": PartImages.discard_part,
    "trash_moved": PartImages.trash_moved,
    "restore_moved": PartImages.restore_moved,
    "purge_moved": PartImages.purge_moved,
    "rename_unused": PartImages.rename_unused,
    "roll_part_back": PartImages.roll_part_back,
    "note_made": PartImages.note_made,
    "clone_whole": changes.clone_whole,
    "rename": changes.rename,
    "limit": changes.limit,
    "remove_snapshots": changes.remove_snapshots,
    "leave_group": changes.leave_group,
    "move_to_trash": trashing.move_to_trash,
    "take_from_trash": trashing.take_from_trash,
    "purge": trashing.purge,
    "end_half_moving": end_half_moving,
    "remove_half_made": remove_half_made,
    "require_silent": eviction.require_silent,
    "evict": eviction.evict,
}


# How long a request may go on without a daemon. Most take milliseconds; what takes longer waits for an owner,
# or is as long as its image.
_GOES_ON_S = 2.0
# This one takes the locks of a VM's images. Cut off in between, it would keep the VM from writing, even what
# a thaw writes. Not for ever either: librbd would break the lock of an owner that stalls for 30 s.
_LONGER_S = {"make_group_snapshot": 10.0}
_CLOSE_S = 2.0


class Worker:
    """Serves the daemon's end of `channel` until it is closed."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._sending = threading.Lock()
        self._handles: Handles = {}
        # Each request under way, and how long it may go on without a daemon.
        self._under_way: dict[threading.Thread, float] = {}

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
            thread = threading.Thread(target=self._run, args=(cluster, request), daemon=True)
            self._under_way = {t: s for t, s in self._under_way.items() if t.is_alive()}
            self._under_way[thread] = _LONGER_S.get(request["operation"], _GOES_ON_S)
            thread.start()

    def finish(self) -> None:
        """Let requests end that are about to, then close the images. Blocks for some seconds."""
        began_s = time.monotonic()
        for thread, at_most_s in self._under_way.items():
            thread.join(max(0.0, began_s + at_most_s - time.monotonic()))
        if any(thread.is_alive() for thread in self._under_way):
            return  # its image cannot be closed under it
        closing = threading.Thread(target=self._close_images, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)

    def _close_images(self) -> None:
        for image in self._handles.values():
            with contextlib.suppress(rbd.Error):
                image.close()

    def _run(self, cluster: Cluster, request: dict[str, Any]) -> None:
        reply: dict[str, Any] = {"id": request["id"]}
        try:
            begun = {"id": request["id"], "begun": True}
            pool = PoolSpec(request["pool"], request["namespace"])
            images = PartImages(cluster, pool, self._handles, lambda: self._send(begun))
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
    process then goes too. (PR_SET_PDEATHSIG would not do: it follows the thread that spawned us.)"""
    forbid_core_dumps()
    trace_crashes()
    # systemd tells every process of a service that ended; the channel tells this one as well.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Worker(socket.socket(fileno=int(sys.argv[1])))
    try:
        worker.serve()
    except OSError:
        pass
    finally:
        worker.finish()
        os._exit(0)


if __name__ == "__main__":
    main()
