"""What a job that moves data left half done: undone at its end, or when the pool is connected again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from uuid import UUID

from virtceph import errors
from virtceph.ceph.layout import layout_of
from virtceph.ceph.workers import Call, NoReply
from virtceph.host.exchangefiles import DataFiles
from virtceph.host.jobrecords import (
    IMAGE,
    PURGED,
    RENAMED,
    SNAPSHOT,
    TRASHED,
    JobRecord,
    JobRecords,
    Leftover,
)
from virtceph.host.jobs import Jobs
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.log import facts

log = logging.getLogger(__name__)

# A killed mover counts as the user of its image for 30 s: until then nothing can be removed.
_AGAIN_S = 2.0
# So long the job itself waits for that, and is not told as ended.
_PATIENCE_S = 45.0
# What is in the way for longer than that may be there for days.
_SELDOM_S = 30.0
# As long as it takes: the removal of an image grows with it.
_NO_END_S = float("inf")
# A request that an image's owner has to answer.
_OWNER_S = 12.0

_GONE = (errors.NoSuchVolume,)
_SNAPSHOT_GONE = (errors.NoSuchVolume, errors.NoSuchSnapshot)

Then = Callable[[], None]


class JobLeftovers:
    """Undoes what jobs of this daemon, or of one before it, left."""

    def __init__(self, records: JobRecords, storage: StorageDomains, files: DataFiles) -> None:
        self._records, self._storage, self._files = records, storage, files
        # What was begun and waits for its next try.
        self._lock = threading.Lock()
        self._waiting: set[tuple[UUID, Leftover]] = set()

    def adopt(self, jobs: Jobs) -> None:
        """Tell the jobs that a daemon before this one did not finish as failed, and remove the files they
        were writing. Blocks on the disk."""
        for record in self._records.unfinished():
            if not record.is_over:
                jobs.adopt(record.job(), errors.JobInterrupted(record.description))
            for path in record.files:
                self._remove_file(path)
            self._records.told(record)

    def connected(self, domain: StorageDomain) -> None:
        """A pool can be reached: undo in the background what was left in it. Does not wait."""
        for job_id, leftover in self._records.left_in(domain.cluster.fsid, domain.pool):
            self._later(job_id, leftover)

    def undo(self, record: JobRecord, *, told: bool = True) -> None:
        """Undo what a job of this daemon's left. Blocks up to 45 s, for what a killed mover holds; what takes
        longer is undone as soon as that can be done. Unless it was `told` how the job ended, the next daemon
        tells it as interrupted."""
        if told:
            self._records.told(record)
        else:
            self._records.interrupted(record)
        end_s = time.monotonic() + _PATIENCE_S
        for leftover in record.leftovers:
            while not self._is_undone(record.id, leftover):
                if time.monotonic() >= end_s or not self._is_connected(leftover):
                    self._later(record.id, leftover)
                    break
                time.sleep(_AGAIN_S)

    def _is_undone(self, job_id: UUID, leftover: Leftover) -> bool:
        """Undo one. False when it has to be tried again."""
        domain = self._storage.find(str(leftover.fsid), leftover.pool, leftover.namespace)
        if domain is None:
            return False
        told = facts(job=job_id, kind=leftover.kind, image=leftover.image)
        try:
            inherited = self._is_inherited(job_id, leftover)
            for call, timeout_s in _steps(domain, leftover, inherited):
                (outcome,) = domain.workers.run([call], timeout_s)
                if isinstance(outcome, NoReply):
                    log.warning("not undone yet %s", told)
                    return False
                if isinstance(outcome, errors.VirtcephError):
                    raise outcome
        except errors.VirtcephError as error:
            # A volume without the snapshot that it was to be brought back to is hidden still, and needs
            # somebody's help.
            if not isinstance(error, _SNAPSHOT_GONE if leftover.kind == SNAPSHOT else _GONE):
                log.warning("not undone yet %s reason=%s", told, error)
                return False
        log.info("undone %s", told)
        self._records.settled(job_id, leftover)
        return True

    def _is_inherited(self, job_id: UUID, leftover: Leftover) -> bool:
        """Whether the copy of a volume took its place. Raises CephUnavailable when it cannot be told."""
        if not leftover.heir:
            return False
        fsid, pool, namespace, name = leftover.heir
        heirs = self._storage.find(fsid, pool, namespace)
        if heirs is None:
            raise errors.CephUnavailable(f"the storage domain of {name} is not connected")
        try:
            heir = layout_of(heirs.images, name)
            # By the directory: a part that was being renamed may have a second name, and lose it.
            return heir.made_by == str(job_id) and heirs.images.name_of(heir.id) == name
        except errors.NoSuchVolume:
            return False

    def _later(self, job_id: UUID, leftover: Leftover) -> None:
        key = job_id, leftover
        with self._lock:
            if key in self._waiting:
                return
            self._waiting.add(key)

        def again() -> None:
            patient_s = time.monotonic() + _PATIENCE_S
            try:
                # Without its storage domain nothing can be done before the next connect.
                while not self._is_undone(job_id, leftover) and self._is_connected(leftover):
                    time.sleep(_AGAIN_S if time.monotonic() < patient_s else _SELDOM_S)
            finally:
                with self._lock:
                    self._waiting.discard(key)

        threading.Thread(target=again, name="undo-job", daemon=True).start()

    def _is_connected(self, leftover: Leftover) -> bool:
        found = self._storage.find(str(leftover.fsid), leftover.pool, leftover.namespace)
        return found is not None

    def _remove_file(self, path: str) -> None:
        try:
            self._files.remove_part(path)
        except (errors.PathNotAllowed, OSError) as error:
            log.error("file not removed %s", facts(path=path, reason=error))


def _steps(domain: StorageDomain, leftover: Leftover, inherited: bool) -> list[tuple[Call, float]]:
    """The requests that undo it, in their order, and how long each may take."""
    image, pool = leftover.image, domain.pool
    if leftover.kind == IMAGE:
        return [(Call("discard_part", pool, {"name": image, "new_name": leftover.name}), _NO_END_S)]
    if leftover.kind == SNAPSHOT:
        arguments = {"name": image, "snapshot": leftover.snapshot}
        return [(Call("remove_snapshot", pool, arguments), _OWNER_S)]
    if leftover.kind == PURGED or inherited:
        return [(Call("purge_moved", pool, {"image_id": image}), _NO_END_S)]
    if leftover.kind == TRASHED:
        arguments = {"name": leftover.name, "image_id": image}
        return [(Call("restore_moved", pool, arguments), _OWNER_S)]
    named = Call("finish_part", pool, {"part": image, "name": leftover.name})
    if leftover.kind == RENAMED:
        return [(named, _OWNER_S)]
    to = {"snapshot": leftover.snapshot, "made": leftover.made}
    back = Call("roll_part_back", pool, {"name": image, **to})
    return [(back, _NO_END_S), (named, _OWNER_S)]
