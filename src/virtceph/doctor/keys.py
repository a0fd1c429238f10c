"""How the keys of a host's disks are kept."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from virtceph.doctor.catalogue import Finding, found
from virtceph.doctor.seen import HostSeen
from virtceph.doctor.words import client, several
from virtceph.virt.inspection import SecretSeen, VMSeen


def judge_keys(host: HostSeen) -> Iterator[Finding]:
    """What there is to say of secrets and of keys in files."""
    for secret in host.secrets or ():
        yield from _secret(host, secret)
    yield from _named(host)
    if host.secrets is not None and host.key_files is not None and host.key_files.files:
        known = {secret.uuid for secret in host.secrets}
        for uuid, path in host.key_files.files.items():
            if uuid not in known:
                yield found("key-left", f"secret {uuid}", path=path)
    if host.admin is not None:
        yield found("admin-keyring", "host", path=host.admin.keyring)


def find_secret(host: HostSeen, named: UUID | str) -> SecretSeen | None:
    """The secret that a disk names by its UUID or its usage."""
    for secret in host.secrets or ():
        if named == secret.uuid or (secret.usage_type == "ceph" and named == secret.usage_id):
            return secret
    return None


def key_words(host: HostSeen, vm: VMSeen) -> list[str]:
    """How the keys of a VM's disks are kept: `ephemeral`, `persistent`, `missing`, `none` or `unknown`."""
    words = [_word(host, access.secret) for access in vm.accesses]
    return list(dict.fromkeys(words))


def _word(host: HostSeen, named: UUID | str | None) -> str:
    if named is None:
        return "none"
    if host.secrets is None:
        return "unknown"
    secret = find_secret(host, named)
    return "missing" if secret is None else "ephemeral" if secret.ephemeral else "persistent"


def _secret(host: HostSeen, secret: SecretSeen) -> Iterator[Finding]:
    if secret.usage_type != "ceph":
        return
    subject = f"secret {secret.uuid}"
    if not secret.ephemeral:
        files = host.key_files
        is_encrypted = files is not None and secret.uuid in files.encrypted
        code = "secret-encrypted" if is_encrypted else "secret-persistent"
        yield found(code, subject, where=_where(host, secret.uuid), uuid=secret.uuid)
    elif not secret.private:
        yield found("secret-readable", subject)


def _where(host: HostSeen, uuid: UUID) -> str:
    """Where libvirt keeps the value of a persistent secret."""
    files = host.key_files
    if files is None or files.files is None:
        return "as libvirt keeps persistent secrets; its folder could not be looked at"
    path = files.files.get(uuid)
    return f"no file of it was seen in {files.folder}" if path is None else str(path)


def _named(host: HostSeen) -> Iterator[Finding]:
    users: dict[UUID | str, list[str]] = {}
    without: list[str] = []
    for (named, user), using in host.logins().items():
        if named is None:
            without += [f"{vm.name} {access.target}" for vm, access in using]
            continue
        users.setdefault(named, []).append(client(user))
        if host.secrets is not None and find_secret(host, named) is None:
            yield found(
                "secret-missing", f"secret {named}", vms=several(vm.name for vm, _ in using)
            )
    for named, names in users.items():
        if len(names) > 1:
            yield found("secret-shared", f"secret {named}", users=several(names))
    if without:
        yield found("auth-missing", "host", disks=several(without))
