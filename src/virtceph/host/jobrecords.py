"""Records of jobs that move data: on disk before anything is made, so that whatever ends the daemon, or the
host, what a job left half done is known.

The cluster outlives a reboot, so these lie in the state directory. Keys die with the daemon: what was left in
a pool is removed when the pool is connected again (`jobleftovers`).
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from virtceph.ceph.spec import PoolSpec
from virtceph.files import write_whole
from virtceph.host.job import Job
from virtceph.log import facts

log = logging.getLogger(__name__)

FOLDER = "jobs"
_SUFFIX = ".json"

# What is to be done about a leftover: remove an image or a snapshot; give an image its name again, after
# bringing it back to a snapshot; bring an image back out of the trash, or remove it there.
IMAGE, SNAPSHOT, RENAMED, ROLLBACK = "image", "snapshot", "renamed", "rollback"
TRASHED, PURGED = "trashed", "purged"


@dataclass(frozen=True)
class Leftover:
    """Something that a job has to undo in a pool if it does not come to its end.

    `image`: remove it, unless the directory has it as `name` by now. `snapshot`: remove `image@snapshot`.
    `renamed`: `image` is the volume `name`, taken out of reach. `rollback`: it is so, and under way to become
    what its snapshot `made` will be; `snapshot` is what it was. `trashed`: `image` is the id of the volume
    `name`, which may lie in the trash while its copy takes its place: it is brought back unless `heir` (fsid,
    pool, namespace, name) was made by this very job. `purged`: the volume of the id `image` is to be removed
    from the trash.
    """

    kind: str
    fsid: UUID
    pool: str
    namespace: str
    image: str
    snapshot: str = ""
    name: str = ""
    made: str = ""
    heir: tuple[str, ...] = ()

    def lies_in(self, fsid: UUID, pool: PoolSpec) -> bool:
        """Whether it lies in this pool and namespace of this cluster."""
        return (self.fsid, self.pool, self.namespace) == (fsid, pool.pool, pool.namespace)


@dataclass(frozen=True)
class JobRecord:
    """A job under way. `at_s` is when it began, since 1970; `files` are those it writes, by their temporary
    names."""

    id: UUID
    arguments: str
    description: str
    job_type: str
    at_s: float
    leftovers: tuple[Leftover, ...] = ()
    files: tuple[str, ...] = ()
    # It has ended, or was told as failed: only what it left is still to be removed.
    is_over: bool = False

    def job(self) -> Job:
        """The job as a daemon after the one that began it knows it."""
        job = Job(self.id, None, self.description, self.job_type)
        job.arguments, job.began_at_s = self.arguments, self.at_s
        return job


def record_of(job: Job, leftovers: tuple[Leftover, ...], files: tuple[str, ...] = ()) -> JobRecord:
    """The record of a job that is about to make something."""
    return JobRecord(
        job.uuid, job.arguments, job.description, job.job_type, time.time(), leftovers, files
    )


class JobRecords:
    """The records in one folder. Every method blocks on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._left = {record.id: record for record in self._load()}

    def put(self, record: JobRecord) -> None:
        """Have a record on the disk, whole or not at all. Raises OSError."""
        write_whole(self._path(record.id), json.dumps(asdict(record), default=str))

    def remove(self, job_id: UUID) -> None:
        """Nothing is left to undo of a job. What cannot be removed is logged."""
        with self._lock:
            self._left.pop(job_id, None)
        try:
            self._path(job_id).unlink(missing_ok=True)
        except OSError as error:
            log.error("record not removed %s", facts(job=job_id, reason=error.strerror))

    def unfinished(self) -> list[JobRecord]:
        """What a daemon before this one left, as it stands."""
        with self._lock:
            return list(self._left.values())

    def told(self, record: JobRecord) -> None:
        """An unfinished job was told as failed, and its files are gone: remember only what it left."""
        rest = replace(record, files=(), is_over=True)
        if not rest.leftovers:
            self.remove(record.id)
            return
        with self._lock:
            self._left[record.id] = rest
        self._rewrite(rest)

    def interrupted(self, record: JobRecord) -> None:
        """A job stops with the daemon, its files gone: the next one tells it as failed, whatever is left."""
        rest = replace(record, files=())
        with self._lock:
            self._left[record.id] = rest
        self._rewrite(rest)

    def left_in(self, fsid: UUID, pool: PoolSpec) -> list[tuple[UUID, Leftover]]:
        """What daemons before this one left in a pool."""
        with self._lock:
            return [
                (record.id, leftover)
                for record in self._left.values()
                for leftover in record.leftovers
                if leftover.lies_in(fsid, pool)
            ]

    def settled(self, job_id: UUID, leftover: Leftover) -> None:
        """Nothing is left to do about one of them."""
        with self._lock:
            record = self._left.get(job_id)
            if record is None:
                return
            rest = tuple(one for one in record.leftovers if one != leftover)
            left = self._left[job_id] = replace(record, leftovers=rest)
        if rest or not record.is_over:
            self._rewrite(left)
        else:
            self.remove(job_id)

    def _rewrite(self, record: JobRecord) -> None:
        try:
            self.put(record)
        except OSError as error:
            # The longer one stays: what it names is looked for once more, and not found.
            log.error("record not renewed %s", facts(job=record.id, reason=error.strerror))

    def _load(self) -> list[JobRecord]:
        found = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                found.append(_read(json.loads(path.read_text())))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                log.error("no job record %s", facts(path=path.name, reason=error))
        return found

    def _path(self, job_id: UUID) -> Path:
        return self._folder / f"{job_id}{_SUFFIX}"


def _read(raw: dict[str, Any]) -> JobRecord:
    leftovers = tuple(
        Leftover(**{**one, "fsid": UUID(one["fsid"]), "heir": tuple(one["heir"])})
        for one in raw["leftovers"]
    )
    known = {"id": UUID(raw["id"]), "leftovers": leftovers, "files": tuple(raw["files"])}
    return JobRecord(**{**raw, **known})
