"""The snapshots of an open image, and what is noted of them in its metadata."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import rbd

from virtceph.ceph.cluster import Cluster

# What is noted of a snapshot in its image's metadata: how consistent it is, and the set it belongs to.
CONSISTENCY_KEY = "virtceph.snapshot.{id}.consistency"
SET_KEY = "virtceph.snapshot.{id}.set"

_GROUP_PREFIX = "virtceph-"

_USER, _GROUP, _DELETED = 0, 1, 2
_KINDS = {_USER: "user", _GROUP: "group", _DELETED: "deleted", 3: "mirror"}


@dataclass(frozen=True)
class Snapshot:
    """One snapshot; `set_note` is what was noted of the set it belongs to, as JSON has it. One that was made
    of a group of images has that `group`, and the name that it has there."""

    name: str
    id: int
    size_bytes: int
    created_at_s: float
    consistency: str | None
    set_note: dict[str, Any] | None = None
    group: str | None = None
    protected: bool = False


@dataclass(frozen=True)
class SnapshotState:
    """A snapshot of any `kind`: `user`, `group`, `mirror`, or `deleted`, which is there for its clones.
    `name` is what it is called in its group, or was before it was deleted; `group` lies in the pool
    `group_pool`."""

    name: str
    id: int
    kind: str
    protected: bool
    group: str | None = None
    group_pool: str | None = None


def state_of(cluster: Cluster, image: rbd.Image, snap: dict[str, Any]) -> SnapshotState:
    """Of what kind a snapshot is, and whether it is protected: all of that is known since the image was
    opened."""
    kind = _KINDS.get(snap.get("namespace", _USER), "other")
    name = snap["trash"]["original_name"] if kind == "deleted" else name_of(snap)
    protected = kind == "user" and bool(image.is_protected_snap(snap["name"]))
    pool = cluster.pool_name(snap["group"]["pool"]) if kind == "group" else None
    return SnapshotState(name, snap["id"], kind, protected, group_of(snap), pool)


def snapshots_of(image: rbd.Image, *, of_groups: bool = False) -> list[Snapshot]:
    """Oldest first. Those of groups are left out unless `of_groups`, those in the trash (deleted, with
    clones left) always. Blocks."""
    image_id, metadata = image.id(), dict(image.metadata_list())
    return [
        Snapshot(
            name=name_of(snap),
            id=snap["id"],
            size_bytes=snap["size"],
            created_at_s=epoch_s(image.get_snap_timestamp(snap["id"])),
            consistency=metadata.get(CONSISTENCY_KEY.format(id=snap["id"])),
            set_note=set_note_of(metadata, image_id, snap["id"]),
            group=group_of(snap),
            protected=is_users(snap) and bool(image.is_protected_snap(snap["name"])),
        )
        for snap in sorted(image.list_snaps(), key=lambda s: s["id"])
        if is_users(snap) or (of_groups and group_of(snap) is not None)
    ]


def number_of(image: rbd.Image, snapshot: str, group: str | None) -> int | None:
    """The number of the snapshot of that name, of that group or of none. Blocks."""
    for snap in image.list_snaps():
        named = name_of(snap) == snapshot and group_of(snap) == group
        if named and (is_users(snap) or group is not None):
            return int(snap["id"])
    return None


def name_of(snap: dict[str, Any]) -> str:
    """Its name, or the one it has in its group. (librbd names the image's part of it by numbers.)"""
    return str(snap["group"]["snap_name"] if group_of(snap) is not None else snap["name"])


def group_of(snap: dict[str, Any]) -> str | None:
    """The group whose snapshot it is part of."""
    return str(snap["group"]["name"]) if snap.get("namespace", _USER) == _GROUP else None


def group_name(set_id: UUID) -> str:
    """The group that holds the snapshots of a set."""
    return f"{_GROUP_PREFIX}{set_id}"


def takes_name(snap: dict[str, Any], name: str) -> bool:
    """Whether no other snapshot or set may have that name: those of groups of other programs may."""
    ours = (group_of(snap) or _GROUP_PREFIX).startswith(_GROUP_PREFIX)
    return ours and name_of(snap) == name


def is_users(snap: dict[str, Any]) -> bool:
    """Whether it is neither of a group nor in the trash."""
    return bool(snap.get("namespace", _USER) == _USER)


def epoch_s(moment: datetime.datetime) -> float:
    """Seconds since 1970: the binding gives naive UTC times."""
    return moment.replace(tzinfo=datetime.UTC).timestamp()


def set_note_of(metadata: dict[str, str], image_id: str, snap_id: int) -> dict[str, Any] | None:
    """The note of a snapshot's set, if it is its own: librbd hands metadata on to copies and clones."""
    try:
        note = json.loads(metadata[SET_KEY.format(id=snap_id)])
        own = (note["imageID"], note["snapID"]) == (image_id, snap_id)
    except (KeyError, TypeError, ValueError):
        return None
    return note if own else None
