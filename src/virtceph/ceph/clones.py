"""The clones of an image's snapshots, and what an image is itself a clone of. Every function blocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import rbd

from virtceph.ceph.classrbd import CloneRef, clones_of, trash_of
from virtceph.ceph.cluster import Cluster
from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import ParentSpec, parent_of
from virtceph.ceph.snapshotlist import SnapshotState, state_of
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import CephPermissionDenied, NoSuchPool

# librbd opens the parents of an image with it, so a longer chain could not be used either.
_MAX_DEPTH = 64


@dataclass(frozen=True)
class Clone:
    """A clone of a snapshot. `image` is None when its pool may not be read, or it is just being removed."""

    snap_id: int
    pool: str
    namespace: str
    image: str | None
    image_id: str
    in_trash: bool

    def __str__(self) -> str:
        place = PoolSpec(self.pool, self.namespace)
        where = " (in the trash)" if self.in_trash else ""
        return (
            f"{place}/{self.image}{where}" if self.image else f"{place}, image id {self.image_id}"
        )


@dataclass(frozen=True)
class Ancestry:
    """The snapshot an image is a clone of, and how many parents there are above each other."""

    parent: ParentSpec
    snapshot: str
    deleted: bool
    depth: int


def clones(
    cluster: Cluster, pool: PoolSpec, image: rbd.Image, snapshots: Iterable[SnapshotState]
) -> list[Clone]:
    """Every clone of an open image's snapshots, by snapshot and name.

    Those of format 2 are asked for all at once: `rbd_list_children3` asks for each snapshot in each pool,
    which takes seconds where there are thousands. Those of format 1 need a protected snapshot, and stand
    nowhere but in the pools. Source: cls_rbd children_list, rbd_list_children3.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    known = list(snapshots)
    refs = clones_of(cluster, pool, image.id(), [snap.id for snap in known])
    found = _named(cluster, refs)
    for snap in known:
        if snap.protected:
            found |= _listed(cluster, image, snap)
    return sorted(found, key=lambda clone: (clone.snap_id, str(clone)))


def _listed(cluster: Cluster, image: rbd.Image, snap: SnapshotState) -> set[Clone]:
    with ceph_faults("list the clones", cluster.spec.user):
        image.set_snap_by_id(snap.id)
        try:
            children = list(image.list_children2())
        finally:
            image.set_snap(None)
    return {
        Clone(snap.id, c["pool"], c["pool_namespace"], c["image"], c["id"], c["trash"])
        for c in children
    }


def _named(cluster: Cluster, refs: dict[int, list[CloneRef]]) -> set[Clone]:
    places: dict[tuple[int, str], tuple[PoolSpec, dict[str, str], dict[str, str]]] = {}
    for ref in (ref for many in refs.values() for ref in many):
        place = ref.pool_id, ref.namespace
        if place not in places:
            spec = PoolSpec(cluster.pool_name(ref.pool_id), ref.namespace)
            places[place] = (spec, *_names_in(cluster, spec))
    found = set()
    for snap_id, many in refs.items():
        for ref in many:
            spec, images, trash = places[ref.pool_id, ref.namespace]
            in_trash = ref.image_id in trash
            name = images.get(ref.image_id, trash.get(ref.image_id))
            found.add(Clone(snap_id, spec.pool, spec.namespace, name, ref.image_id, in_trash))
    return found


def _names_in(cluster: Cluster, spec: PoolSpec) -> tuple[dict[str, str], dict[str, str]]:
    """The names of a pool's images, and of what is in its trash, by their ids."""
    try:
        with ceph_faults("list images", cluster.spec.user):
            images = {e["id"]: e["name"] for e in rbd.RBD().list2(cluster.ioctx(spec))}
        return images, {entry.id: entry.name for entry in trash_of(cluster, spec)}
    except (CephPermissionDenied, NoSuchPool):
        return {}, {}


def ancestry(cluster: Cluster, image: rbd.Image) -> Ancestry | None:
    """Where an open image comes from. None for one that is no clone, or whose parents may not be read.

    Raises:
        CephUnavailable, CephFailed
    """
    spec = first = parent_of(image)
    if first is None:
        return None
    depth, snapshot, deleted = 0, first.snapshot, False
    try:
        while spec is not None and depth < _MAX_DEPTH:
            depth += 1
            place = PoolSpec(spec.pool, spec.namespace)
            with ceph_faults("read the image's parents", cluster.spec.user):
                # By id: it may be in the trash.
                ioctx, ident = cluster.ioctx(place), spec.image_id
                with rbd.Image(ioctx, image_id=ident, read_only=True) as above:
                    if depth == 1:
                        snapshot, deleted = _original(cluster, above, first.snapshot)
                    spec = parent_of(above)
    except (CephPermissionDenied, NoSuchPool):
        return None
    return Ancestry(first, snapshot, deleted, depth)


def _original(cluster: Cluster, parent: rbd.Image, snapshot: str) -> tuple[str, bool]:
    """What a snapshot is called, or was before it was deleted, and whether it was."""
    for snap in parent.list_snaps():
        if snap["name"] == snapshot:
            state = state_of(cluster, parent, snap)
            return state.name, state.kind == "deleted"
    return snapshot, False
