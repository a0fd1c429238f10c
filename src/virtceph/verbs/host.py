"""Host.*: the daemon, its secrets, its jobs."""

from __future__ import annotations

from uuid import UUID

from virtceph.host.capabilities import Capabilities, capabilities
from virtceph.host.host import Host
from virtceph.host.job import JobInfo
from virtceph.host.secrets import RegisteredSecret, SecretInfo
from virtceph.host.vms import VMSummary
from virtceph.verbs.registry import verb


@verb("Host.ping2")
def ping2(host: Host) -> None:
    """Say that the daemon is alive. Never waits."""


@verb("Host.echo")
def echo(host: Host, message: str) -> str:
    """Answer the message. Never waits."""
    return message


@verb("Host.getCapabilities")
def get_capabilities(host: Host) -> Capabilities:
    """Versions and abilities. Blocks. Source: virConnectGetCapabilities, ceph_version_to_str."""
    return capabilities(host.node, host.verbs, host.lanes())


@verb("Host.getVMList")
def get_vm_list(
    host: Host, full_status: bool, vm_list: list[UUID], only_uuid: bool
) -> list[VMSummary]:
    """The VMs of this host. Blocks. Source: virConnectListAllDomains."""
    return host.vms.summaries(vm_list)


@verb("Host.getJobs")
def get_jobs(host: Host, job_type: str | None, job_ids: list[UUID]) -> dict[str, JobInfo]:
    """How jobs stand. Never waits."""
    return host.jobs.describe(job_type, job_ids)


@verb("Host.registerSecrets")
def register_secrets(host: Host, secrets: list[SecretInfo], clear: bool) -> None:
    """Register all of them or none. Blocks. Source: virSecretDefineXML, virSecretSetValue.

    Raises:
        BadSecretRequest, SecretUsageTaken, ForeignSecret: nothing was touched.
        SecretRegistrationFailed: what was there before is there again.
    """
    host.secrets.register(secrets, clear)


@verb("Host.unregisterSecrets")
def unregister_secrets(host: Host, uuids: list[UUID]) -> None:
    """Remove secrets; unknown ones are skipped. Blocks. Source: virSecretUndefine.

    Raises:
        ForeignSecretKept: nothing was removed.
        SecretUnregistrationFailed: those before it are removed.
    """
    host.secrets.unregister(uuids)


@verb("Host.listSecrets")
def list_secrets(host: Host) -> list[RegisteredSecret]:
    """The registered secrets, without their values. Never waits for libvirt."""
    return host.secrets.registered()
