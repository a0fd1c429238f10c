"""What is in a pool's trash."""

from __future__ import annotations

from dataclasses import dataclass

from virtceph.ceph.classrbd import sizes_of, trash_of
from virtceph.ceph.cluster import Cluster
from virtceph.ceph.spec import PoolSpec

# By the numbers of cls::rbd::TrashImageSource. The last one is a user's, too: of an image that has clones.
_SOURCES = ("user", "mirroring", "migration", "removing", "user")


@dataclass(frozen=True)
class TrashEntry:
    """An image in the trash. `source` is why it is there: `user`, `mirroring`, `migration` (it is the source
    of one), `removing` (its removal was begun), or `other`. `size_bytes` is None for one that
    is nearly gone."""

    id: str
    name: str
    source: str
    size_bytes: int | None
    deleted_at_s: float
    kept_until_s: float


def trash_entries(cluster: Cluster, pool: PoolSpec) -> list[TrashEntry]:
    """Everything in the trash, the oldest first. Blocks.

    Raises:
        CephPermissionDenied, CephUnavailable, CephFailed
    """
    specs = trash_of(cluster, pool)
    sizes = sizes_of(cluster, pool, [spec.id for spec in specs])
    found = [
        TrashEntry(
            spec.id,
            spec.name,
            _SOURCES[spec.source] if spec.source < len(_SOURCES) else "other",
            sizes.get(spec.id),
            spec.deleted_at_s,
            spec.kept_until_s,
        )
        for spec in specs
    ]
    return sorted(found, key=lambda entry: (entry.deleted_at_s, entry.id))
