"""The trash of a pool: volumes put away, and brought back or purged later."""

from __future__ import annotations

import datetime
import logging
import time
from dataclasses import dataclass
from uuid import UUID

from virtceph import errors, request
from virtceph.ceph.trashlist import TrashEntry
from virtceph.ceph.workers import NoReply
from virtceph.host.deletion import Deletions, gone_again, refusal
from virtceph.host.obstacles import obstacles
from virtceph.host.oneimage import MARGIN_S, full_told, run
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts
from virtceph.schema import wire

log = logging.getLogger(__name__)

wire("TrashEntry")(TrashEntry)

# A volume in the trash keeps its snapshots, and its clones their parent.
_NOT_IN_THE_WAY = {
    "snapshot",
    "protected-snapshot",
    "deleted-snapshot",
    "group-snapshot",
    "clone",
}
# A volume whose removal was begun can only be removed.
_PURGEABLE = ("user", "removing")
_HELD = {
    "migration": "it is the source of a migration; commit or abort that",
    "mirroring": "rbd-mirror put it there, and removes it",
}


@wire("KeptEntry")
@dataclass(frozen=True)
class KeptEntry:
    id: str
    volume_name: str
    reason: str


@wire("PurgeResult")
@dataclass(frozen=True)
class PurgeResult:
    purged: list[str]
    kept: list[KeptEntry]


class Trash:
    """Every method blocks, and raises NoSuchStorageDomain, PoolFull, CephUnavailable, CephFailed and
    CephPermissionDenied beside what it names."""

    def __init__(
        self, storage: StorageDomains, deletions: Deletions, owner_timeout_s: float
    ) -> None:
        self._storage, self._deletions = storage, deletions
        self._owner_timeout_s = owner_timeout_s

    def entries(self, storage_domain_id: UUID) -> list[TrashEntry]:
        """Everything in the trash, the oldest first."""
        domain = self._storage.get(storage_domain_id)
        return domain.images.trash()

    def put(self, storage_domain_id: UUID, name: str, delay_s: int) -> None:
        """Put an image that nobody has open into the trash, to be kept there for `delay_s`; or find it there.

        Raises:
            NoSuchVolume, VolumeInUse, VolumeNotDeletable
        """
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            try:
                known = self._deletions.look_at(domain, name)
            except errors.NoSuchVolume:
                put = _put(domain, name, delay_s)
                if put is None:
                    raise
                self._run(domain, "end_half_moving", entry_id=put.id)
                return
            # Mirroring, a group or a migration would be broken by it; librbd does so without a word.
            found = [o for o in obstacles(known) if o.obstacle not in _NOT_IN_THE_WAY]
            if found:
                raise refusal(known, found)
            try:
                self._run(domain, "move_to_trash", name=name, delay_s=delay_s)
            except errors.LockOwnerStalled as error:  # it had no lock a moment ago
                raise gone_again(error) from error
        log.info("put into the trash %s", facts(image=known.path, id=known.info.id))
        domain.changed("trashed", name)

    def take(
        self, storage_domain_id: UUID, entry_id: str | None, name: str | None, new_name: str | None
    ) -> None:
        """Restore an image by its id, or by the name it had; or find it restored, by its id.

        Raises:
            InvalidParameter, NotInTrash, VolumeExists
            OperationNotSupported: it is not a user that put it there.
        """
        if (entry_id is None) == (name is None):
            raise errors.InvalidParameter("id", "an id or a volumeName, and not both")
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            try:
                entry = _find(domain, entry_id, name)
            except errors.NotInTrash:
                if entry_id is None or not _is_taken(domain, entry_id, new_name):
                    raise
                return
            if entry.source != "user":
                what = f"to restore what a {entry.source} put into the trash"
                raise errors.OperationNotSupported(what, "an entry of the source user")
            to = new_name or entry.name
            self._run(domain, "take_from_trash", entry_id=entry.id, new_name=to)
        log.info("restored %s", facts(image=f"{domain.pool}/{to}", id=entry.id))
        domain.changed("restored", to, from_volume=entry.name)

    def purge(self, storage_domain_id: UUID, entry_id: str | None, force: bool) -> PurgeResult:
        """Remove one entry for good; without an id, all that are due.

        Raises, with an id:
            InvalidParameter, NotInTrash, TrashDeferred, VolumeInUse, LockOwnerStalled, VolumeNotDeletable
        """
        if force and entry_id is None:
            raise errors.InvalidParameter("force", "an id with it")
        domain = self._storage.get(storage_domain_id)
        with full_told(domain):
            if entry_id is None:
                return _purge_due(domain)
            entry = _find(domain, entry_id, None)
            _purge(domain, entry, force)
        return PurgeResult([entry.id], [])

    def _run(self, domain: StorageDomain, operation: str, **arguments: object) -> None:
        outcome = run(domain, operation, self._owner_timeout_s, **arguments)
        if isinstance(outcome, NoReply):
            raise errors.CephUnavailable("the trash did not change in time; ask again")


def _find(domain: StorageDomain, entry_id: str | None, name: str | None) -> TrashEntry:
    """The entry of an id, or the only one of a name. Raises NotInTrash, InvalidParameter."""
    known = domain.images.trash()
    found = [e for e in known if e.id == entry_id or (entry_id is None and e.name == name)]
    if not found:
        raise errors.NotInTrash(entry_id or name or "")
    if len(found) > 1:
        ids = ", ".join(entry.id for entry in found)
        raise errors.InvalidParameter("volumeName", f"an id instead, as several have it: {ids}")
    return found[0]


def _put(domain: StorageDomain, name: str, delay_s: int) -> TrashEntry | None:
    """The image of that name that is in the trash, and kept there for as long as is asked for."""
    for entry in domain.images.trash():
        kept_s = entry.kept_until_s - entry.deleted_at_s
        if (entry.name, entry.source) == (name, "user") and abs(kept_s - delay_s) < 1:
            return entry
    return None


def _is_taken(domain: StorageDomain, image_id: str, new_name: str | None) -> bool:
    """Whether an image of that id is out of the trash, under the name that is asked for: ids are for ever."""
    name = domain.images.name_of(image_id)
    return name is not None and new_name in (None, name)


def _purge(domain: StorageDomain, entry: TrashEntry, force: bool) -> None:
    if entry.source not in _PURGEABLE:
        steps = [f"see the trash: rbd trash list --all {domain.pool}"]
        reason = _HELD.get(entry.source, "this version knows nothing of why it is there")
        raise errors.VolumeNotDeletable(entry.name, reason, steps)
    if entry.kept_until_s > time.time():
        raise errors.TrashDeferred(entry.name, entry.id, _iso(entry.kept_until_s))
    left_s = request.current().left_s() - MARGIN_S
    arguments = {"entry_id": entry.id, "name": entry.name, "with_snapshots": force}
    removing = entry.source == "removing"
    outcome = run(domain, "purge", left_s, **arguments, removing=removing)
    if isinstance(outcome, NoReply):
        raise errors.CephUnavailable("purging took too long; repeat it to go on")
    log.info("purged %s", facts(image=f"{domain.pool}/{entry.name}", id=entry.id))
    domain.changed("purged", entry.name)


def _purge_due(domain: StorageDomain) -> PurgeResult:
    purged, kept = [], []
    for entry in domain.images.trash():
        try:
            _purge(domain, entry, force=False)
        except (errors.CallerError, errors.StateError, errors.LockOwnerStalled) as error:
            kept.append(KeptEntry(entry.id, entry.name, error.message))
        else:
            purged.append(entry.id)
    return PurgeResult(purged, kept)


def _iso(moment_s: float) -> str:
    moment = datetime.datetime.fromtimestamp(moment_s, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
