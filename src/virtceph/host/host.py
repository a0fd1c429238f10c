"""The host: everything a verb works with, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from virtceph.host.clones import Clones
from virtceph.host.copies import Copies
from virtceph.host.deletion import Deletions
from virtceph.host.diffjobs import DiffJobs
from virtceph.host.eviction import Evictions
from virtceph.host.exports import Exports
from virtceph.host.extending import Extending
from virtceph.host.flattens import Flattens
from virtceph.host.jobs import Jobs
from virtceph.host.leases import Leases
from virtceph.host.plugging import Disks
from virtceph.host.secrets import Secrets
from virtceph.host.sets import SnapshotSets
from virtceph.host.snapshots import Snapshots
from virtceph.host.storage import StorageDomains
from virtceph.host.trash import Trash
from virtceph.host.vms import VMs
from virtceph.host.volumeinfo import VolumeInfos
from virtceph.host.volumes import Volumes
from virtceph.host.volumesnapshots import VolumeSnapshots
from virtceph.virt.node import Node


@dataclass
class Host:
    """The parts that verbs call. `verbs` and `lanes` tell what the daemon offers (set by its root)."""

    node: Node
    vms: VMs
    secrets: Secrets
    storage: StorageDomains
    volumes: Volumes
    volume_infos: VolumeInfos
    volume_snapshots: VolumeSnapshots
    clones: Clones
    deletions: Deletions
    trash: Trash
    evictions: Evictions
    leases: Leases
    snapshots: Snapshots
    sets: SnapshotSets
    jobs: Jobs
    copies: Copies
    exports: Exports
    flattens: Flattens
    diffs: DiffJobs
    disks: Disks
    extending: Extending
    verbs: list[str] = field(default_factory=list)
    lanes: Callable[[], dict[str, Any]] = dict
