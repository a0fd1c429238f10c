"""Job.*: what is done to jobs. How they stand is told by Host.getJobs."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.host import Host
from virtceph.verbs.registry import verb


@verb("Job.abort")
def abort(host: Host, job_uuid: UUID) -> None:
    """Tell a job to stop. Does not wait for it.

    Raises:
        NoSuchJob, JobNotActive, JobNotAbortable: as they say.
    """
    host.jobs.abort(job_uuid)


@verb("Job.delete")
def delete(host: Host, job_uuid: UUID) -> None:
    """Forget a job that has ended. Does not block.

    Raises:
        NoSuchJob, JobNotDone: as they say.
    """
    host.jobs.delete(job_uuid)
