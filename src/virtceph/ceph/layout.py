"""What a copy of an image has to know of it before it begins."""

from __future__ import annotations

from dataclasses import dataclass

import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.imageinfo import FEATURES, data_pool_of, has_parent
from virtceph.ceph.images import CREATABLE_FEATURES, Images
from virtceph.ceph.parts import read_made_note
from virtceph.ceph.snapshotlist import is_users
from virtceph.ceph.sources import is_still
from virtceph.errors import NoSuchVolume


@dataclass(frozen=True)
class Layout:
    """`features` are those that a copy can have as well. `snapshots` are the users', with their sizes.
    `still`: its head can be read as one moment without a snapshot. `clones`: whether a snapshot of it has
    any. `made_by`: the job that made it, as was noted."""

    id: str
    size_bytes: int
    object_size_bytes: int
    features: tuple[str, ...]
    stripe_unit: int
    stripe_count: int
    data_pool: str | None
    snapshots: dict[str, int]
    watchers: tuple[str, ...]
    still: bool
    clones: bool
    has_parent: bool
    made_by: str | None

    def size_at(self, snapshot: str | None) -> int:
        """The size at a snapshot; that of the head for None, or for one that is being made."""
        return (
            self.size_bytes if snapshot is None else self.snapshots.get(snapshot, self.size_bytes)
        )


def layout_of(images: Images, name: str) -> Layout:
    """Read it. Blocks. Raises NoSuchVolume, CephPermissionDenied, CephUnavailable, CephFailed."""
    with (
        images.cluster.using(),
        images.opened(name) as image,
        ceph_faults("read the image", images.cluster.spec.user, not_found=NoSuchVolume(name)),
    ):
        stat, mask, ident = image.stat(), image.features(), image.id()
        striped = bool(mask & rbd.RBD_FEATURE_STRIPINGV2)
        note = read_made_note(dict(image.metadata_list()), ident)
        return Layout(
            id=ident,
            size_bytes=stat["size"],
            object_size_bytes=stat["obj_size"],
            features=tuple(f for f in CREATABLE_FEATURES if mask & FEATURES[f]),
            stripe_unit=image.stripe_unit() if striped else 0,
            stripe_count=image.stripe_count() if striped else 0,
            data_pool=data_pool_of(images.cluster, image, mask),
            snapshots={s["name"]: s["size"] for s in image.list_snaps() if is_users(s)},
            watchers=tuple(w["addr"] for w in image.watchers_list()),
            still=is_still(image),
            clones=any(True for _ in image.list_descendants()),
            has_parent=has_parent(image),
            made_by=None if note is None else str(note.get("job")),
        )
