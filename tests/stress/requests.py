"""What the callers of the stress ask for: few volumes and few names, so that they get in each other's way."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from virtceph.units import MiB

VOLUMES = tuple(f"stress-{number}" for number in range(4))
SNAPSHOTS = ("s1", "s2", "s3")
# These answer at once and go on as a job.
JOBS = frozenset(
    {
        "Volume.copy",
        "Volume.flatten",
        "Volume.move",
        "VM.createConsistentSnapshot",
        "VM.deleteConsistentSnapshot",
    }
)
# Creating is as likely as all that removes, so that there are volumes.
_TIMES = {"Volume.create": 4, "Volume.createSnapshot": 3, "Volume.getInfo": 2, "VM.thaw": 2}


@dataclass(frozen=True)
class Place:
    """Where the requests go: a storage domain, and a VM with its disks in it."""

    storage_domain_id: str
    vm_id: str
    disks: tuple[str, ...]


def random_request(chance: random.Random, place: Place) -> tuple[str, dict[str, Any]]:
    """A verb and its parameters, without a job's number."""
    asked = _requests(chance, place)
    weights = [_TIMES.get(verb, 1) for verb in asked]
    (verb,) = chance.choices(list(asked), weights)
    return verb, dict(asked[verb])


def _requests(chance: random.Random, place: Place) -> Mapping[str, Mapping[str, Any]]:
    domain = {"storageDomainID": place.storage_domain_id}
    volume = {**domain, "volumeName": chance.choice(VOLUMES)}
    used = {**domain, "volumeName": chance.choice(VOLUMES + place.disks)}
    snapshot = {"snapshotName": chance.choice(SNAPSHOTS)}
    other = {"newName": chance.choice(VOLUMES)}
    vm = {"vmID": place.vm_id}
    return {
        "Host.getJobs": {},
        "VM.createConsistentSnapshot": {**vm, **snapshot},
        "VM.deleteConsistentSnapshot": {**vm, **snapshot},
        "VM.freeze": {**vm, "timeout": 5},
        "VM.getFreezeStatus": vm,
        "VM.getInfo": vm,
        "VM.listConsistentSnapshots": vm,
        "VM.thaw": vm,
        "Volume.clone": {**volume, **snapshot, **other},
        "Volume.copy": {**used, **other, "withSnapshots": chance.random() < 0.3},
        "Volume.create": {**volume, "size": 8 * MiB},
        "Volume.createSnapshot": {**used, **snapshot},
        "Volume.delete": {**volume, "force": chance.random() < 0.5},
        "Volume.deleteSnapshot": {**used, **snapshot},
        "Volume.explainDelete": volume,
        "Volume.extendSize": {**volume, "newSize": (8 + chance.randrange(8)) * MiB},
        "Volume.flatten": volume,
        "Volume.getInfo": used,
        "Volume.list": domain,
        "Volume.listSnapshots": used,
        "Volume.listTrash": domain,
        "Volume.move": {**volume, **other},
        "Volume.rename": {**volume, **other},
        "Volume.rollback": {**volume, **snapshot},
        "Volume.setQos": {**volume, "qos": {}},
        "Volume.trash": volume,
    }
