"""Turn an administrator's persistent secret into an ephemeral one: the key proved and kept elsewhere first,
and everything as before when anything fails."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID

from virtceph.ceph.appraising import appraise
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.doctor.bounded import side_by_side
from virtceph.doctor.keyfiles import libvirt_key_files
from virtceph.doctor.monitors import greet
from virtceph.doctor.seen import MonitorSeen
from virtceph.doctor.words import client, several
from virtceph.errors import CephPermissionDenied, LibvirtFailed, VirtcephError
from virtceph.sensitive import Sensitive
from virtceph.virt.inspection import DiskAccess, Inspection, LibvirtRefused, SecretSeen, VMSeen
from virtceph.virt.xml import secret_xml

_GREETING_S, _CEPH_CALL_S = 2.0, 5.0


class AdoptionRefused(Exception):
    """It was not done; the text says why. Nothing has changed."""


class AdoptionFailed(Exception):
    """It was begun and failed; the text says why, and what there is now."""


class Libvirt(Protocol):
    """What is asked of libvirt: `virt.inspection.Inspection`, over a connection that may write."""

    def vms(self) -> Sequence[VMSeen | LibvirtFailed]: ...
    def secrets(self) -> list[SecretSeen]: ...
    def secret_value(self, uuid: UUID) -> Sensitive: ...
    def define_secret(self, xml: str, value: Sensitive) -> None: ...
    def undefine_secret(self, uuid: UUID) -> None: ...


@dataclass(frozen=True)
class Claim:
    """Whose key it should be: a cephx user of the cluster behind these monitors, who uses these pools."""

    user: str
    monitors: tuple[str, ...]
    pools: tuple[PoolSpec, ...] = ()


@dataclass(frozen=True)
class Adoptable:
    """A persistent secret that may be adopted, its key, and the users it is to be proved for."""

    secret: SecretSeen
    key: Sensitive
    claims: tuple[Claim, ...]

    @property
    def user(self) -> str:
        """The first user whose key it is."""
        return self.claims[0].user


def open_libvirt(uri: str) -> Inspection:
    """A connection that may write. Blocks. Raises AdoptionRefused."""
    if os.geteuid() != 0:
        raise AdoptionRefused("only root reads keys")
    try:
        return Inspection(uri, read_only=False)
    except (LibvirtRefused, VirtcephError) as error:
        raise AdoptionRefused(str(error)) from error


def adoptable(libvirt: Libvirt, uuid: UUID, libvirt_folder: Path, claim: Claim | None) -> Adoptable:
    """The secret and its key. `claim` is who the caller says it belongs to, for a secret that no VM names.
    Blocks on libvirt.

    Raises:
        AdoptionRefused
    """
    secret = next((s for s in libvirt.secrets() if s.uuid == uuid), None)
    if secret is None:
        raise AdoptionRefused("libvirt has no such secret")
    if secret.usage_type != "ceph":
        raise AdoptionRefused(f"it is a secret of the type {secret.usage_type!r}, not ceph")
    if secret.ephemeral:
        raise AdoptionRefused("it is ephemeral already: no key of it is on the disk")
    vms = [vm for vm in libvirt.vms() if isinstance(vm, VMSeen)]
    by_usage = [vm.name for vm in vms if any(a.secret == secret.usage_id for a in vm.accesses)]
    if by_usage:
        raise AdoptionRefused(
            f"{several(by_usage)} name it by its usage {secret.usage_id!r}, which changes; let them name its "
            "uuid first (virsh edit)"
        )
    claims = _claims(access for vm in vms for access in vm.accesses if access.secret == uuid)
    claims = claims or ((claim,) if claim is not None else ())
    if not claims:
        raise AdoptionRefused(
            "no VM here names it: say whose key it is, with --user and --monitors"
        )
    return Adoptable(secret, _key(libvirt, secret, libvirt_folder), claims)


def _claims(accesses: Iterable[DiskAccess]) -> tuple[Claim, ...]:
    found: dict[str, tuple[dict[str, None], dict[PoolSpec, None]]] = {}
    for access in accesses:
        if access.user:
            monitors, pools = found.setdefault(access.user, ({}, {}))
            monitors.update(dict.fromkeys(access.source.monitors))
            pools[PoolSpec(access.source.pool, access.source.namespace)] = None
    return tuple(Claim(user, tuple(m), tuple(p)) for user, (m, p) in found.items())


def _key(libvirt: Libvirt, secret: SecretSeen, libvirt_folder: Path) -> Sensitive:
    if not secret.private:
        try:
            return libvirt.secret_value(secret.uuid)
        except VirtcephError as error:
            raise AdoptionRefused(f"its key cannot be read: {error.message}") from error
    files = libvirt_key_files(libvirt_folder)
    path = (files.files or {}).get(secret.uuid)
    if path is None or secret.uuid in files.encrypted:
        raise AdoptionRefused(f"it is private, and its key is not to be read in {files.folder}")
    try:
        return Sensitive(base64.b64decode(path.read_bytes(), validate=True))
    except (OSError, binascii.Error):
        raise AdoptionRefused(f"it is private, and {path} cannot be read") from None


def prove(secret: Adoptable) -> list[str]:
    """Connect to each cluster as each user; one sentence on each. Blocks, some seconds for each user.

    Raises:
        AdoptionRefused: one of them does not know the key, or does not answer.
    """
    proofs = []
    for claim in secret.claims:
        seen = side_by_side(
            {address: _greeting(address) for address in claim.monitors}, 2 * _GREETING_S, at_once=64
        )
        there = tuple(
            resolved
            for monitor in seen.values()
            if not isinstance(monitor, Exception) and monitor.latency_s is not None
            for resolved in monitor.resolved
        )
        if not there:
            names = several(claim.monitors) or "none are named"
            raise AdoptionRefused(f"no monitor of {client(claim.user)} answers ({names})")
        spec = ClusterSpec(there, claim.user, secret.key, _CEPH_CALL_S)
        try:
            appraisal = appraise(spec, claim.pools)
        except VirtcephError as error:
            raise AdoptionRefused(f"as {client(claim.user)}: {error.message}") from error
        for pool, found in appraisal.pools.items():
            if isinstance(found.failure, CephPermissionDenied):
                proofs.append(f"{client(claim.user)} may not use the pool {pool}, whatever its key")
        proofs.append(f"the cluster {appraisal.fsid} knows it as the key of {client(claim.user)}")
    return proofs


def _greeting(address: str) -> Callable[[], MonitorSeen]:
    return lambda: greet(address, _GREETING_S)


def swap(libvirt: Libvirt, secret: Adoptable, register: Callable[[], None]) -> None:
    """Let the persistent secret give way to what `register` makes. A VM that is started in the moment between
    fails to; those that run do not notice. Blocks on libvirt.

    Raises:
        AdoptionFailed: the persistent secret is there again, or the text says that it is not.
    """
    # An ephemeral one defined over it would leave a file behind (libvirt 9.0), and may change neither its
    # usage nor its privacy.
    try:
        libvirt.undefine_secret(secret.secret.uuid)
    except VirtcephError as error:
        raise AdoptionFailed(f"{error.message}; the persistent secret is as it was") from error
    try:
        register()
    except BaseException as error:
        # By the keyboard, too.
        try:
            libvirt.define_secret(secret.secret.xml, secret.key)
        except VirtcephError as lost:
            raise AdoptionFailed(
                f"{error}; and the persistent secret could not be put back: {lost.message}"
            ) from error
        why = str(error) or type(error).__name__
        raise AdoptionFailed(f"{why}; the persistent secret is there again") from error


def define_ephemeral(libvirt: Libvirt, secret: Adoptable, usage_id: str) -> None:
    """Define the ephemeral, private secret in libvirt alone. Blocks. Raises LibvirtFailed."""
    xml = secret_xml(secret.secret.uuid, "ceph", usage_id, client(secret.user))
    libvirt.define_secret(xml, secret.key)
