"""Flattening: a clone gets what it still has from its parent, and needs it no more."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from uuid import UUID

from virtceph.ceph.layout import layout_of
from virtceph.ceph.movers import Task
from virtceph.ceph.sources import Place
from virtceph.host.datajobs import DataJobs, TransferResult, Watch, Work
from virtceph.host.job import Job
from virtceph.host.storage import StorageDomain, StorageDomains


@dataclass(frozen=True)
class FlattenRequest:
    """The arguments of Volume.flatten; equal ones under one job id are one job."""

    storage_domain_id: UUID
    volume_name: str


class Flattens:
    """Starts the jobs of Volume.flatten."""

    def __init__(self, storage: StorageDomains, data: DataJobs) -> None:
        self._storage, self._data = storage, data

    def start(self, asked: FlattenRequest, job_uuid: UUID | None) -> UUID:
        """Start it; a volume without a parent is flat already. Blocks on the cluster for what can be checked
        at once.

        Raises:
            NoSuchStorageDomain, NoSuchVolume, JobExists, CephPermissionDenied, CephUnavailable,
            CephFailed
        """

        def prepare(_job_id: UUID) -> Work:
            domain = self._storage.get(asked.storage_domain_id)
            layout_of(domain.images, asked.volume_name)
            return lambda job: self._flatten(job, asked, domain)

        return self._data.start(job_uuid, asked, "flatten_volume", prepare)

    def _flatten(self, job: Job, asked: FlattenRequest, domain: StorageDomain) -> TransferResult:
        watch = Watch()
        place = Place(0, domain.pool.pool, domain.pool.namespace, asked.volume_name)
        arguments = {"target": asdict(place), "dead": sorted(domain.workers.dead)}
        task = Task("flatten", arguments, [self._data.spec(domain)])
        # Half flattened is as good as before: there is nothing to undo, and a repeat goes on from there.
        with self._data.recorded(job):
            done = self._data.move(job, task, "flattening", domain)
        domain.changed("flattened", asked.volume_name)
        return TransferResult(
            done["size_bytes"],
            done["transferred_bytes"],
            watch.elapsed_s(),
            storage_domain_id=asked.storage_domain_id,
            volume_name=asked.volume_name,
        )
