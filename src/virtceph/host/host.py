"""The host: everything a verb works with, put together once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from virtceph.host.jobs import Jobs
from virtceph.host.leases import Leases
from virtceph.host.secrets import Secrets
from virtceph.host.sets import SnapshotSets
from virtceph.host.snapshots import Snapshots
from virtceph.host.storage import StorageDomains
from virtceph.host.vms import VMs
from virtceph.host.volumes import Volumes
from virtceph.virt.node import Node


@dataclass
class Host:
    """The parts that verbs call. `verbs` and `lanes` tell what the daemon offers (set by its root)."""

    node: Node
    vms: VMs
    secrets: Secrets
    storage: StorageDomains
    volumes: Volumes
    leases: Leases
    snapshots: Snapshots
    sets: SnapshotSets
    jobs: Jobs
    verbs: list[str] = field(default_factory=list)
    lanes: Callable[[], dict[str, Any]] = dict
