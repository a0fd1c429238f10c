"""One snapshot of one image, made by a worker: what was given up is undone should it still appear."""

from __future__ import annotations

from virtceph import errors
from virtceph.ceph.workers import NoReply
from virtceph.host.names import SnapshotNames
from virtceph.host.oneimage import run
from virtceph.host.storage import StorageDomain


def take_snapshot(
    domain: StorageDomain, names: SnapshotNames, name: str, snapshot: str, timeout_s: float
) -> None:
    """Snapshot an image. Blocks up to `timeout_s`.

    Raises:
        NoSuchVolume, SnapshotExists, CephPermissionDenied, CephUnavailable
        LockOwnerStalled: given up before Ceph would cut the image's user off.
    """
    with names.reserve([domain.snapshot_name(name, snapshot)]):
        outcome = run(domain, "create_snapshot", timeout_s, name=name, snapshot=snapshot)
        if not isinstance(outcome, NoReply):
            return
        if not outcome.begun:
            raise errors.CephUnavailable("the image could not be opened in time")
        # Its name was free, so a snapshot that is there now is the one that was asked for.
        if not domain.images.has_snapshot(name, snapshot):
            domain.give_up(names, name, snapshot, timeout_s)
            raise errors.LockOwnerStalled(name, timeout_s)
