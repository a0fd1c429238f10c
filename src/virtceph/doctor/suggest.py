"""The configuration that would serve a host: a `[[secret]]` for each key its disks use, and a
`[[storage_domain]]` for each pool. Pure, and without any key."""

from __future__ import annotations

import json
import re
from uuid import UUID, uuid5

from virtceph.config import Secrets
from virtceph.doctor.clusters import addresses_for_qemu, appraisal_of
from virtceph.doctor.keys import find_secret
from virtceph.doctor.seen import HostSeen, Login
from virtceph.doctor.words import several

KEY_FOLDER = "/etc/virtceph"
# What is no part of a file's name, or of a usage.
_NO_NAME = re.compile(r"[^A-Za-z0-9._-]")
# A secret, and a pool and namespace that are reached with it.
Place = tuple[UUID, str, str]
# The same host is given the same ids whenever it asks.
_NAMESPACE = UUID("6c1e3a4e-7f0b-5d9a-8d57-5a1c0b6f2e11")
_HEAD = """\
# For virtcephd.toml: what serves the VMs of this host. Each key_file has to be made, readable by the
# daemon's user and nobody else; virtceph adopt-secret makes it of a secret that libvirt has.
"""


def suggestion(host: HostSeen) -> str:
    """The TOML. Disks without a user, without a secret that is there or without known monitors are told as
    comments."""
    blocks = [_HEAD]
    secrets: dict[UUID, str] = {}
    domains: dict[Place, str] = {}
    for login, using in host.logins().items():
        uuid, user = _uuid(host, login), login[1]
        if uuid is None or not user:
            disks = several(f"{vm.name} {access.target}" for vm, access in using)
            blocks.append(
                f"# Left out: {disks}, which name no user, or a secret that is not there.\n"
            )
            continue
        if uuid not in secrets:
            secrets[uuid] = user
            blocks.append(_secret(uuid, user, list(secrets.values())))
        # One secret that is named in two ways makes two logins of one.
        found = _domains(host, login, uuid, user)
        blocks += [text for place, text in found.items() if place not in domains]
        domains |= found
    return "\n".join(blocks)


def secret_table(uuid: UUID, user: str, usage: str, key_file: str) -> str:
    """One `[[secret]]`."""
    options = {"uuid": str(uuid), "usage_id": usage, "description": f"client.{user}"}
    return _table("secret", {**options, "key_file": key_file})


def usage_id(stem: str) -> str:
    """A usage of the daemon's own, by the name of a user."""
    return f"{Secrets().usage_prefix}{_NO_NAME.sub('_', stem)}"


def _secret(uuid: UUID, user: str, users: list[str]) -> str:
    """The table of a secret; `users` are those of all before it and itself, as two clusters may have a user
    of the same name."""
    stem = f"{user}-{str(uuid)[:8]}" if users.count(user) > 1 else user
    return secret_table(uuid, user, usage_id(stem), f"{KEY_FOLDER}/{_NO_NAME.sub('_', stem)}.key")


def _uuid(host: HostSeen, login: Login) -> UUID | None:
    if login[0] is None:
        return None
    secret = find_secret(host, login[0])
    if secret is not None:
        return secret.uuid
    return login[0] if isinstance(login[0], UUID) else None


def _domains(host: HostSeen, login: Login, uuid: UUID, user: str) -> dict[Place, str]:
    """The tables of the pools that a login reaches."""
    using = host.logins()[login]
    appraisal = appraisal_of(host, login)
    named = dict.fromkeys(a for _, access in using for a in access.source.monitors)
    monitors = list(named) if appraisal is None else addresses_for_qemu(appraisal.monitors)
    cluster = ",".join(sorted(named)) if appraisal is None else str(appraisal.fsid)
    pools = dict.fromkeys((a.source.pool, a.source.namespace) for _, a in using)
    found = {}
    for pool, namespace in pools:
        ident = uuid5(_NAMESPACE, "\n".join([cluster, user, pool, namespace]))
        options: dict[str, str | list[str]] = {
            "uuid": str(ident),
            "monitors": monitors,
            "pool": pool,
            "namespace": namespace,
            "user": user,
            "secret": str(uuid),
        }
        if not monitors:
            found[uuid, pool, namespace] = (
                f"# Left out: the pool {json.dumps(pool)}, as no disk in it names a monitor.\n"
            )
            continue
        known = {k: v for k, v in options.items() if v or k != "namespace"}
        found[uuid, pool, namespace] = _table("storage_domain", known)
    return found


def _table(name: str, options: dict[str, str] | dict[str, str | list[str]]) -> str:
    # JSON's notation of text and of lists of it is also TOML's, but for the characters beyond Unicode's first
    # 65536, which stand for themselves.
    rows = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in options.items()]
    return f"[[{name}]]\n{''.join(rows)}"
