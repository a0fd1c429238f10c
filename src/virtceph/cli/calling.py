"""Calling one verb for a person: a VM may be named, a freeze has a short lease, a job is waited for."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from virtceph.cli.values import is_uuid
from virtceph.client import FREEZE_LEASE_S, Client, ServerError, connect
from virtceph.schema.spec import VerbSpec

_NO_SUCH_VM = 1
# Vdsm's number for it.
_ABORTED = 443


def call(verb: VerbSpec, params: dict[str, Any], path: str, timeout_s: float) -> Any:
    """The verb's result. Blocks. Raises ServerError, ConnectionFailed, TimedOut."""
    params = dict(params)
    if verb.name == "VM.freeze":
        params.setdefault("timeout", FREEZE_LEASE_S)
    with connect(path, timeout_s=timeout_s) as client:
        vm = params.get("vmID")
        if isinstance(vm, str) and not is_uuid(vm):
            params["vmID"] = vm_called(client, vm)
        return client.request(verb.name, params)


class Interrupted(KeyboardInterrupt):
    """The person stopped waiting; the job goes on."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the job goes on; to stop it: virtceph Job abort jobUUID={job_id}")


def call_and_wait(verb: VerbSpec, params: dict[str, Any], path: str, timeout_s: float) -> Any:
    """The result of the job that a verb starts. Blocks up to `timeout_s` for its end, and meanwhile shows
    on a terminal how far it is.

    Raises:
        ServerError: the verb's, or the job's. ConnectionFailed, TimedOut, NoSuchJob
        Interrupted: by the keyboard.
    """
    from virtceph.cli.progress import progress_line

    params = {"jobUUID": str(uuid4()), **params}
    call(verb, params, path, timeout_s)
    line = progress_line()
    try:
        with connect(path, timeout_s=timeout_s) as client:
            told = None if line is None else line.show
            job = client.wait_for_job(params["jobUUID"], timeout_s, told)
    except KeyboardInterrupt:
        raise Interrupted(params["jobUUID"]) from None
    finally:
        if line is not None:
            line.clear()
    error = job.get("error")
    if error is not None:
        raise ServerError(error["code"], error["message"], error.get("data"))
    if job["status"] == "aborted":
        raise ServerError(_ABORTED, "Job was aborted: nothing of it is left")
    return job.get("result")


def starts_a_job(verb: VerbSpec) -> bool:
    """Whether a verb answers at once and goes on as a job."""
    return any(param.name == "jobUUID" for param in verb.params)


def vm_called(client: Client, name: str) -> str:
    """The UUID of the one VM of this name. Blocks. Raises ServerError where there is not one."""
    found = [vm["vmId"] for vm in client.call("Host.getVMList") if vm["name"] == name]
    if len(found) == 1:
        return str(found[0])
    if found:
        message = f"Several virtual machines have this name: {{'name': {name!r}, 'vmIds': {found}}}"
    else:
        message = f"Virtual machine does not exist: {{'name': {name!r}}}"
    raise ServerError(_NO_SUCH_VM, message)
