"""Intents: which snapshots a job is about to make, on disk before the guest is frozen.

A job that ends with its daemon leaves half a set. The keys die with the daemon too, so what it left is
removed when the pool is connected again (`leftovers`).
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
from virtceph.log import facts

log = logging.getLogger(__name__)

# Their folder in the state directory.
FOLDER = "snapshots"
_SUFFIX = ".json"


@dataclass(frozen=True)
class Planned:
    """One RBD snapshot that a job is about to make; without `snapshot`, an image."""

    fsid: UUID
    pool: str
    namespace: str
    image: str
    snapshot: str

    def lies_in(self, fsid: UUID, pool: PoolSpec) -> bool:
        """Whether its image lies in this pool and namespace of this cluster."""
        return (self.fsid, self.pool, self.namespace) == (fsid, pool.pool, pool.namespace)


@dataclass(frozen=True)
class Intent:
    """The RBD snapshots of one job; `at_s` (since 1970) is just before the first is made.

    `id` is the set's, where they are to become one: it is noted on every image when all is well. `group` is
    the RBD group that makes all of them; it lies in the pool of the first.
    """

    id: UUID
    vm_id: UUID
    at_s: float
    is_set: bool
    snapshots: tuple[Planned, ...]
    group: str | None = None

    def part_in(self, fsid: UUID, pool: PoolSpec) -> Intent:
        """What is to be done about it when a pool is connected: its snapshots there; all of a group, with
        the group's pool."""
        there = tuple(s for s in self.snapshots if s.lies_in(fsid, pool))
        if self.group is not None:
            there = self.snapshots if self.snapshots[0].lies_in(fsid, pool) else ()
        return replace(self, snapshots=there)


def new_intent(
    intent_id: UUID,
    vm_id: UUID,
    snapshots: tuple[Planned, ...],
    *,
    is_set: bool,
    group: str | None = None,
) -> Intent:
    """An intent of this moment."""
    return Intent(intent_id, vm_id, time.time(), is_set, snapshots, group)


class Intents:
    """The intents in one folder: those of this daemon, and what one before it left unfinished."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        # Read once: what comes later is this daemon's own, and under way.
        self._left = {intent.id: intent for intent in self._load()}

    def put(self, intent: Intent) -> None:
        """Have an intent on the disk, whole or not at all. Blocks. Raises OSError."""
        write_whole(self._path(intent.id), json.dumps(asdict(intent), default=str))

    def remove(self, intent_id: UUID) -> None:
        """The job has ended, well or undone. Blocks on the disk. What cannot be removed is logged."""
        try:
            self._path(intent_id).unlink(missing_ok=True)
        except OSError as error:
            log.error("intent not removed %s", facts(intent=intent_id, reason=error.strerror))

    def left_in(self, fsid: UUID, pool: PoolSpec) -> list[Intent]:
        """What a daemon before this one left unfinished, as far as it is of a pool (`Intent.part_in`)."""
        with self._lock:
            found = [intent.part_in(fsid, pool) for intent in self._left.values()]
        return [intent for intent in found if intent.snapshots]

    def settled(self, part: Intent) -> None:
        """Nothing is left to do about these snapshots of an intent. Blocks on the disk."""
        with self._lock:
            intent = self._left.get(part.id)
            if intent is None:
                return
            rest = tuple(s for s in intent.snapshots if s not in part.snapshots)
            if rest:
                self._left[part.id] = replace(intent, snapshots=rest)
                self._rewrite(self._left[part.id])
            else:
                del self._left[part.id]
                self.remove(part.id)

    def _rewrite(self, intent: Intent) -> None:
        try:
            self.put(intent)
        except OSError as error:
            # The longer one stays: what it names is looked for once more, and not found.
            log.error("intent not renewed %s", facts(intent=intent.id, reason=error.strerror))

    def _load(self) -> list[Intent]:
        found = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                found.append(_read(json.loads(path.read_text())))
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                log.error("no intent %s", facts(path=path.name, reason=error))
        return found

    def _path(self, intent_id: UUID) -> Path:
        return self._folder / f"{intent_id}{_SUFFIX}"


def _read(raw: dict[str, Any]) -> Intent:
    return Intent(
        UUID(raw["id"]),
        UUID(raw["vm_id"]),
        float(raw["at_s"]),
        bool(raw["is_set"]),
        tuple(
            Planned(**{**planned, "fsid": UUID(planned["fsid"])}) for planned in raw["snapshots"]
        ),
        None if raw.get("group") is None else str(raw["group"]),
    )
