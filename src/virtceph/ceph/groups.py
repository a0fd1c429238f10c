"""Snapshots of several images at one instant, as RBD groups make them. Worker only.

Each set has a group of its own, whose members its images are only while the snapshot is made: an image is in
one group at a time, and a member can be neither removed nor put into another. What was made stays in the
group without them, follows an image that is renamed, and goes with the group (seen with librbd 16.2).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import rbd

from virtceph.ceph.faults import ceph_faults
from virtceph.ceph.proxied import forget
from virtceph.ceph.snapshotlist import number_of
from virtceph.ceph.snapshots import OwnedImages
from virtceph.ceph.spec import PoolSpec
from virtceph.errors import (
    NoSuchSnapshot,
    NoSuchVolume,
    OperationNotSupported,
    VolumeExists,
)

# The pool and the name of each image of a group. Their namespace is the group's.
Members = list[tuple[str, str]]


class GroupedImages(OwnedImages):
    """Images, with what a worker does to several of them at once. A group lies in the pool of `self`."""

    def join_group(self, group: str, snapshot: str, members: Members) -> None:
        """Make a group of these images for `make_group_snapshot`. Source: rbd_group_image_add.

        Raises:
            NoSuchVolume, SnapshotExists, LockOwnerStalled, CephUnavailable
            OperationNotSupported: an image is in a group already.
        """
        self._on_each(members, lambda images, name: images.require_ready(name, snapshot))
        self._on_each(members, lambda images, name: images.require_ungrouped(name))
        with ceph_faults("make the group", self._user):
            rbd.RBD().group_create(self._ioctx, group)
        for pool, name in members:
            self._join(group, pool, name)

    def make_group_snapshot(self, group: str, snapshot: str, members: Members) -> None:
        """Make the snapshot of a group. This client takes the exclusive lock of each image, so that nobody
        writes to any of them meanwhile, and gives it back. `on_begin` is called when everybody who has one of
        them open has answered, just before. Source: rbd_group_snap_create.

        Raises:
            NoSuchVolume, SnapshotExists, LockOwnerStalled, CephUnavailable
        """
        self._on_each(members, lambda images, name: images.require_ready(name, snapshot))
        self._on_begin()
        with ceph_faults("make the snapshot of the group", self._user):
            rbd.Group(self._ioctx, group).create_snap(snapshot)

    def annotate_group(
        self,
        group: str,
        snapshot: str,
        members: Members,
        consistency: str,
        set_note: dict[str, Any] | None,
    ) -> None:
        """Let the images leave the group, and note on each how consistent its part of the group's snapshot is
        and the set it belongs to.

        Raises:
            NoSuchVolume, NoSuchSnapshot, LockOwnerStalled, CephUnavailable
        """
        for pool, name in members:
            with ceph_faults("take the image out of the group", self._user):
                rbd.Group(self._ioctx, group).remove_image(self._in(pool)._ioctx, name)
        self._on_each(
            members,
            lambda images, name: images.annotate_snapshot(
                name, snapshot, consistency, set_note, group
            ),
        )

    def remove_group(self, group: str, snapshot: str, members: Members) -> None:
        """Remove a group, its snapshot and what was noted of it. What is gone already is removed.
        Source: rbd_group_remove.

        Raises:
            LockOwnerStalled, CephUnavailable
        """
        if not self.has_group(group):
            return  # nobody needs to be asked: it never came to that
        numbers = self._on_each(members, lambda images, name: images.part_of(group, snapshot, name))
        with ceph_faults("remove the group", self._user):
            rbd.RBD().group_remove(self._ioctx, group)
        for (pool, name), number in zip(members, numbers, strict=True):
            if number is not None:
                with self._in(pool).opened(name, read_only=False) as image:
                    forget(image, number)

    def roll_back_group(self, group: str, snapshot: str, members: Members) -> None:
        """Bring images that nobody else has open back to a group's snapshot. Its length has no bound; each
        request to the cluster has. Source: rbd_group_snap_rollback.

        Raises:
            NoSuchVolume, NoSuchSnapshot, VolumeInUse, LockOwnerStalled, CephUnavailable
        """
        for pool, name in members:
            images = self._in(pool)
            with images.opened(name) as image:
                images.require_unused(image, name)
        missing = NoSuchSnapshot(members[0][1], snapshot)
        with ceph_faults("roll the group back", self._user, not_found=missing):
            made = rbd.Group(self._ioctx, group)
            try:
                made.rollback_to_snap(snapshot)
            except rbd.InvalidArgument:
                # librbd from 17.2.8 and 18.2.5 on wants the group to have the members that it had then.
                with self._members_again(group, members):
                    made.rollback_to_snap(snapshot)

    @contextlib.contextmanager
    def _members_again(self, group: str, members: Members) -> Iterator[None]:
        """Inside the block the images are in the group. Whoever is killed there leaves them in it; that
        stands in the way of nothing of ours, and ends with the set or the next rollback."""
        try:
            for pool, name in members:
                self._join(group, pool, name)
            yield
        finally:
            for pool, name in members:
                with contextlib.suppress(rbd.Error):
                    rbd.Group(self._ioctx, group).remove_image(self._in(pool)._ioctx, name)

    def copy_snapshot(
        self, name: str, snapshot: str, snap_id: int, group: str, part: str, new_name: str
    ) -> None:
        """Make an image in the same pool that holds what a part of a group's snapshot holds: librbd 16 cannot
        clone it. It is called `part`, a name of this request's own, until it is whole; `on_begin` is called
        before it gets its own. Its length has no bound. Source: rbd_copy4.

        Raises:
            NoSuchVolume, NoSuchSnapshot, VolumeExists, VolumeInUse, CephUnavailable
        """
        self.require_no_image(new_name)
        with self.opened(name) as image, ceph_faults("copy the snapshot", self._user):
            if number_of(image, snapshot, group) != snap_id:
                raise NoSuchSnapshot(name, snapshot)
            # Reads through an open handle; rbd_deep_copy aborts the process on a group's snapshot.
            image.set_snap_by_id(snap_id)
            data_pool = self._data_pool(image, image.features())
            with self.removed_if_not_whole(part):
                image.copy(self._ioctx, part, data_pool=data_pool)
                self._on_begin()
                with ceph_faults("name the copy", self._user, exists=VolumeExists(new_name)):
                    rbd.RBD().rename(self._ioctx, part, new_name)

    def _join(self, group: str, pool: str, name: str) -> None:
        taken = OperationNotSupported(
            f"to snapshot {name} in a group, as it is in another one", "method=parallel"
        )
        missing = NoSuchVolume(name)
        with ceph_faults(
            "put the image into the group", self._user, exists=taken, not_found=missing
        ):
            rbd.Group(self._ioctx, group).add_image(self._in(pool)._ioctx, name)

    def require_ungrouped(self, name: str) -> None:
        """Return if an image is in no group. Raises NoSuchVolume, OperationNotSupported."""
        with self.opened(name) as image, ceph_faults("look for its group", self._user):
            group = image.group()["name"]
        if group:
            what = f"to put {name} into a group, as it is in the group {group}"
            raise OperationNotSupported(what, "method=parallel")

    def part_of(self, group: str, snapshot: str, name: str) -> int | None:
        """The number of an image's part of a group's snapshot, if the image is there and has one.

        Raises:
            LockOwnerStalled, CephUnavailable: not everybody who has the image open answers.
        """
        try:
            with self.opened(name) as image, ceph_faults("list snapshots", self._user):
                found = number_of(image, snapshot, group)
            self.require_answers(name)
        except NoSuchVolume:
            return None
        return found

    def _in(self, pool: str) -> GroupedImages:
        images = GroupedImages(self.cluster, PoolSpec(pool, self.pool.namespace))
        images.dead = self.dead
        return images

    def _on_each(self, members: Members, act: Callable[[GroupedImages, str], Any]) -> list[Any]:
        """`act` for each image, all side by side: a frozen guest may wait for it."""
        with ThreadPoolExecutor(len(members), "group-members") as threads:
            return list(threads.map(lambda member: act(self._in(member[0]), member[1]), members))
