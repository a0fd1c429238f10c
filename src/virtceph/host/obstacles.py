"""What stands in the way of deleting an image, in the order in which it has to go, and by which command.

Nothing is asked here: what Ceph and libvirt told is put into words.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from virtceph.ceph.clones import Clone
from virtceph.ceph.imageinfo import ImageInfo
from virtceph.ceph.parts import PART_PREFIX
from virtceph.ceph.snapshotlist import SnapshotState, set_note_of
from virtceph.ceph.spec import PoolSpec
from virtceph.host.setnotes import read_note
from virtceph.host.storage import StorageDomain, StorageDomains
from virtceph.host.users import VolumeVM, Watcher, active, lock, watchers
from virtceph.schema import wire

# Groups that this daemon makes for sets of snapshots; images are their members only while those are made.
_OUR_GROUPS = "virtceph-"


@wire("DeletionStep")
@dataclass(frozen=True)
class Obstacle:
    """One thing that stands in the way. `forced`: Volume.delete with force clears it away by itself."""

    obstacle: str
    what: str
    command: str
    forced: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.command}"


@dataclass(frozen=True)
class Known:
    """An image, and what is to be known to delete it. `vms` is None when libvirt could not be asked."""

    storage: StorageDomains
    domain: StorageDomain
    info: ImageInfo
    clones: list[Clone]
    vms: list[VolumeVM] | None

    @property
    def path(self) -> str:
        """`pool/[namespace/]image`, as `rbd` has it."""
        return f"{self.domain.pool}/{self.info.name}"

    def forced_snapshots(self) -> list[int]:
        """The numbers of the snapshots that force removes: the image's own, without clones, unprotected."""
        cloned = {clone.snap_id for clone in self.clones}
        own = (s for s in self.info.snapshots if s.kind == "user" and not s.protected)
        return [snap.id for snap in own if snap.id not in cloned]

    def is_in_our_group(self) -> bool:
        """Whether it is a member of a group that a set of ours left."""
        return (self.info.group or "").startswith(_OUR_GROUPS)


def obstacles(known: Known) -> list[Obstacle]:
    """Everything in the way, in the order in which it has to go."""
    return [
        *_users(known),
        *_locks(known),
        *_migration(known),
        *_mirroring(known),
        *_membership(known),
        *_group_snapshots(known),
        *_clones(known),
        *_snapshots(known),
    ]


def virtceph(known: Known, method: str, **more: Any) -> str:
    """The command for a verb on the image."""
    ids = {"storageDomainID": known.domain.settings.storage_domain_id}
    return command(f"Volume {method}", **ids, volumeName=known.info.name, **more)


def command(verb: str, **arguments: Any) -> str:
    """A command of `virtceph`."""
    words = (shlex.quote(f"{name}={value}") for name, value in arguments.items())
    return " ".join(["virtceph", verb, *words])


def _users(known: Known) -> Iterator[Obstacle]:
    for watcher in watchers(known.domain, known.info.watchers, known.vms):
        what = f"client {watcher.client} at {watcher.address} has it open"
        yield Obstacle("watcher", *_user(known, watcher, what))


def _user(known: Known, watcher: Watcher, what: str) -> tuple[str, str]:
    if watcher.ours:
        return f"{what}: this daemon, at work on it", command("Host getJobs")
    for vm in active(known.vms or []):
        if vm.vm_id == watcher.vm_id:
            what = f"{what}: the VM {vm.name}, as its disk {vm.disk}"
            return what, command("VM hotunplugDisk", vmID=vm.vm_id, disk=vm.disk)
    here = ", ".join(vm.name for vm in active(known.vms or []))
    what += f"; VMs of this host that use it: {here}" if here else ""
    what += "; stop what uses it there (who died is forgotten after 30 s)"
    return what, virtceph(known, "getInfo")


def _locks(known: Known) -> Iterator[Obstacle]:
    info = known.info
    held = lock(known.domain, info.lock, info.watchers, known.vms)
    if held is None or held.watches or held.client in known.domain.workers.dead:
        return
    what = f"client {held.client} at {held.address} holds its lock, and is dead or stalled"
    stalled = active(known.vms or [])
    if stalled:
        name = stalled[0].name
        destroy = f"virsh destroy {shlex.quote(name)}"
        yield Obstacle("lock", f"{what}: the VM {name} uses it here", destroy)
    else:
        yield Obstacle("lock", what, virtceph(known, "evict", client=held.client))


def _migration(known: Known) -> Iterator[Obstacle]:
    if "migrating" in known.info.features:
        what = "it is the target of a migration; commit or abort that"
        yield Obstacle("migration", what, f"rbd migration commit {known.path}")


def _mirroring(known: Known) -> Iterator[Obstacle]:
    if known.info.mirroring is not None:
        what = f"it is mirrored ({known.info.mirroring}); its copies elsewhere would go with it"
        yield Obstacle("mirroring", what, f"rbd mirror image disable {known.path}")


def _membership(known: Known) -> Iterator[Obstacle]:
    info = known.info
    if info.group is None:
        return
    group = f"{PoolSpec(info.group_pool or '', known.domain.pool.namespace)}/{info.group}"
    leave = f"rbd group image remove {group} {known.path}"
    yield Obstacle("group", f"it is in the group {group}", leave, known.is_in_our_group())


def _group_snapshots(known: Known) -> Iterator[Obstacle]:
    for snap in known.info.snapshots:
        if snap.kind == "group":
            what = f"its snapshot {snap.name} is part of one of the group {snap.group}"
            yield Obstacle("group-snapshot", what, _remove_part(known, snap))


def _remove_part(known: Known, snap: SnapshotState) -> str:
    """How a group's snapshot is removed, with the parts that other images have of it."""
    raw = set_note_of(known.info.metadata, known.info.id, snap.id)
    note = None if raw is None else read_note(raw)
    if note is not None:
        verb = "VM deleteConsistentSnapshot"
        return command(verb, vmID=note.vm_id, snapshotName=note.snapshot_name)
    # A group has the namespace of its images.
    place = PoolSpec(snap.group_pool or "", known.domain.pool.namespace)
    return f"rbd group snap remove {place}/{snap.group}@{snap.name}"


def _clones(known: Known) -> Iterator[Obstacle]:
    names = {snap.id: snap.name for snap in known.info.snapshots}
    for clone in known.clones:
        what = f"{clone} is a clone of its snapshot {names[clone.snap_id]}"
        if _is_part(clone):
            what += "; a job is making it, or left it when its host went down"
        yield Obstacle("clone", what, _end_clone(known, clone))


def _end_clone(known: Known, clone: Clone) -> str:
    fsid = str(known.domain.cluster.fsid)
    home = known.storage.find(fsid, clone.pool, clone.namespace)
    place = PoolSpec(clone.pool, clone.namespace)
    if clone.image is None:
        return f"rbd children --all {known.path}"
    if _is_part(clone):
        return f"rbd rm {clone}"
    if home is None:
        in_trash, there = f"rbd trash remove {place}/{clone.image_id}", f"rbd flatten {clone}"
        return in_trash if clone.in_trash else there
    ids = {"storageDomainID": home.settings.storage_domain_id}
    if clone.in_trash:
        return command("Volume purge", **ids, id=clone.image_id)
    return command("Volume flatten", **ids, volumeName=clone.image)


def _is_part(clone: Clone) -> bool:
    return not clone.in_trash and (clone.image or "").startswith(PART_PREFIX)


def _snapshots(known: Known) -> Iterator[Obstacle]:
    cloned, forced = {clone.snap_id for clone in known.clones}, set(known.forced_snapshots())
    for snap in known.info.snapshots:
        if snap.protected:
            unprotect = f"rbd snap unprotect {known.path}@{snap.name}"
            yield Obstacle(
                "protected-snapshot", f"its snapshot {snap.name} is protected", unprotect
            )
        if snap.kind == "user":
            remove = virtceph(known, "deleteSnapshot", snapshotName=snap.name)
            what = f"it has the snapshot {snap.name}"
            yield Obstacle("snapshot", what, remove, snap.id in forced)
        elif snap.kind == "deleted" and snap.id not in cloned:
            what = f"its snapshot {snap.name}, deleted, is kept for clones that cannot be seen from here"
            yield Obstacle("deleted-snapshot", what, f"rbd children --all {known.path}")
