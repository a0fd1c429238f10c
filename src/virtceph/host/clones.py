"""Clones of a volume's snapshots: new volumes that begin as the snapshot, in any pool of the cluster."""

from __future__ import annotations

import logging
from uuid import UUID, uuid4

from virtceph import errors, request
from virtceph.ceph.images import PART
from virtceph.ceph.workers import NoReply
from virtceph.host.cloning import remove_images
from virtceph.host.intents import Intents, Planned, new_intent
from virtceph.host.names import SnapshotNames
from virtceph.host.oneimage import MARGIN_S, full_told, run
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts

log = logging.getLogger(__name__)

# An intent names the VM it is for; a clone is for none.
_NO_VM = UUID(int=0)


class Clones:
    """Makes them. What a killed worker or daemon left of one is removed, now or at the next connect."""

    def __init__(self, storage: StorageDomains, intents: Intents) -> None:
        self._storage, self._intents = storage, intents
        self._names = SnapshotNames()

    def clone(
        self,
        storage_domain_id: UUID,
        name: str,
        snapshot: str,
        new_name: str,
        new_storage_domain_id: UUID | None,
    ) -> None:
        """Make an image that begins as a snapshot, or find it made so. Blocks.

        Raises:
            NoSuchStorageDomain, NoSuchVolume, NoSuchSnapshot, VolumeExists, PoolFull,
            CephPermissionDenied, CephUnavailable, CephFailed
            OperationNotSupported: the other storage domain lies in another cluster; or what may be left
            after a crash cannot be recorded.
        """
        domain = self._storage.get(storage_domain_id)
        to = self._storage.get(new_storage_domain_id or storage_domain_id)
        if to.cluster.fsid != domain.cluster.fsid:
            expected = "a storage domain of the same cluster"
            raise errors.OperationNotSupported("to clone into another cluster", expected)
        with full_told(to):
            snap_id = domain.images.snapshot_id(name, snapshot)
            if to.images.exists(new_name):
                if _is_made(domain, name, snap_id, to, new_name):
                    return
                raise errors.VolumeExists(new_name)
            self._make(domain, name, snapshot, snap_id, to, new_name)
        log.info("cloned %s", facts(image=f"{domain.pool}/{name}", to=f"{to.pool}/{new_name}"))
        made_of = {"from_volume": name, "from_storage_domain_id": storage_domain_id}
        to.changed("cloned", new_name, snapshot_name=snapshot, **made_of)

    def _make(
        self,
        domain: StorageDomain,
        name: str,
        snapshot: str,
        snap_id: int,
        to: StorageDomain,
        new_name: str,
    ) -> None:
        ident = uuid4()
        part = f"{PART}{ident}"
        self._record(ident, to, part)
        left = [(to, part)]
        try:
            outcome = run(
                domain,
                "clone_whole",
                request.current().left_s() - MARGIN_S,
                name=name,
                snapshot=snapshot,
                snap_id=snap_id,
                part=part,
                new_name=new_name,
                place=[to.pool.pool, to.pool.namespace],
            )
            if isinstance(outcome, NoReply):
                raise errors.CephUnavailable("cloning took too long; ask again")
            left = []
        finally:
            remove_images(left, self._names, lambda: self._intents.remove(ident))

    def _record(self, ident: UUID, to: StorageDomain, part: str) -> None:
        planned = Planned(to.cluster.fsid, to.pool.pool, to.pool.namespace, part, "")
        try:
            self._intents.put(new_intent(ident, _NO_VM, (planned,), is_set=False))
        except OSError as error:
            what = f"to clone what cannot be recorded ({error.strerror})"
            raise errors.OperationNotSupported(what, "room in the runtime directory") from error


def _is_made(
    domain: StorageDomain, name: str, snap_id: int, to: StorageDomain, new_name: str
) -> bool:
    """Whether an image is a clone of that snapshot, by what its parent knows of its clones."""
    wanted = snap_id, to.pool.pool, to.pool.namespace, new_name
    return any(
        (c.snap_id, c.pool, c.namespace, c.image) == wanted and not c.in_trash
        for c in domain.images.clones(name)
    )
