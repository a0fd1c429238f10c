"""A host's libvirt as somebody sees it who only reads: domains, the keys their disks name, secrets."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import libvirt

from virtceph.errors import LibvirtFailed, LibvirtUnavailable, NoSuchVM
from virtceph.sensitive import Sensitive
from virtceph.virt.connection import start_event_loop
from virtceph.virt.domains import status_of
from virtceph.virt.faults import libvirt_faults, reason_of
from virtceph.virt.node import dotted
from virtceph.virt.xml import Domain, RbdSource, rbd_source, read_domain


class LibvirtRefused(Exception):
    """libvirt is there and does not let this user in; the text says why."""


@dataclass(frozen=True)
class DiskAccess:
    """How a disk in RBD is reached. `secret` is the UUID or the usage that its `<auth>` names, None when it
    has none; `config_file` is the ceph.conf that its source names."""

    target: str
    source: RbdSource
    user: str | None
    secret: UUID | str | None
    config_file: str | None


@dataclass(frozen=True)
class VMSeen:
    """A domain: its live XML parsed, and how each of its RBD images is reached, now and by its lasting
    definition."""

    vm_id: UUID
    name: str
    status: str
    domain: Domain
    accesses: tuple[DiskAccess, ...]


@dataclass(frozen=True)
class SecretSeen:
    """A secret without its value. `xml` is libvirt's own, which has no value either."""

    uuid: UUID
    usage_type: str
    usage_id: str
    ephemeral: bool
    private: bool
    xml: str


class Inspection:
    """One connection. Every method blocks, without a bound where libvirtd is stopped, and raises
    LibvirtUnavailable or LibvirtFailed."""

    def __init__(self, uri: str, *, read_only: bool = True) -> None:
        """Open it. Raises LibvirtRefused, LibvirtUnavailable."""
        start_event_loop()
        opener = libvirt.openReadOnly if read_only else libvirt.open
        try:
            self._connection = opener(uri)
        except libvirt.libvirtError as error:
            refused = error.get_error_code() in (
                libvirt.VIR_ERR_AUTH_FAILED,
                libvirt.VIR_ERR_AUTH_UNAVAILABLE,
                libvirt.VIR_ERR_AUTH_CANCELLED,
                libvirt.VIR_ERR_ACCESS_DENIED,
            )
            if refused or "Permission denied" in reason_of(error):
                raise LibvirtRefused(reason_of(error)) from error
            raise LibvirtUnavailable(reason_of(error)) from error

    def uri(self) -> str:
        """The URI that was opened in the end."""
        with libvirt_faults("ask its URI"):
            return str(self._connection.getURI())

    def versions(self) -> dict[str, str]:
        """The versions of libvirt and QEMU. Source: virConnectGetLibVersion, virConnectGetVersion."""
        with libvirt_faults("ask its version"):
            return {
                "libvirt": dotted(self._connection.getLibVersion()),
                "qemu": dotted(self._connection.getVersion()),
            }

    def vms(self) -> list[VMSeen | LibvirtFailed]:
        """Every domain, running or only defined, by its name; then why others could not be read."""
        with libvirt_faults("list domains"):
            domains = self._connection.listAllDomains()
        seen = [vm for vm in map(_vm_or_gone, domains) if vm is not None]
        read = [vm for vm in seen if isinstance(vm, VMSeen)]
        unread = [error for error in seen if isinstance(error, LibvirtFailed)]
        return [*sorted(read, key=lambda vm: vm.name), *unread]

    def secrets(self) -> list[SecretSeen]:
        """Every secret."""
        with libvirt_faults("list secrets"):
            secrets = self._connection.listAllSecrets()
        found = []
        for secret in secrets:
            try:
                with libvirt_faults("read the secret"):
                    found.append(read_secret(secret.XMLDesc()))
            except LibvirtFailed:  # gone since it was listed
                continue
        return found

    def secret_value(self, uuid: UUID) -> Sensitive:
        """A secret's value; only over a connection that may write. Source: virSecretGetValue.

        Raises:
            LibvirtFailed: it is private, has none, or is not there.
        """
        with libvirt_faults("read the secret's value"):
            return Sensitive(self._connection.secretLookupByUUIDString(str(uuid)).value())

    def define_secret(self, xml: str, value: Sensitive) -> None:
        """Define a secret by its XML and set its value. Source: virSecretDefineXML, virSecretSetValue."""
        with libvirt_faults("define the secret"):
            self._connection.secretDefineXML(xml).setValue(value.reveal())

    def undefine_secret(self, uuid: UUID) -> None:
        """Remove a secret, from the disk too. Source: virSecretUndefine."""
        with libvirt_faults("undefine the secret"):
            self._connection.secretLookupByUUIDString(str(uuid)).undefine()

    def close(self) -> None:
        """Close the connection, lost or not."""
        with contextlib.suppress(libvirt.libvirtError):
            self._connection.close()


def read_secret(xml: str) -> SecretSeen:
    """A secret by libvirt's XML."""
    root = ET.fromstring(xml)
    usage = root.find("usage")
    names = [] if usage is None else [child.text or "" for child in usage]
    return SecretSeen(
        UUID(root.findtext("uuid", "")),
        "" if usage is None else usage.get("type", ""),
        names[0] if names else "",
        root.get("ephemeral") == "yes",
        root.get("private") == "yes",
        xml,
    )


def read_accesses(xml: str) -> Iterator[DiskAccess]:
    """How each RBD image behind a domain's disks is reached."""
    for disk in ET.fromstring(xml).iterfind("devices/disk"):
        target, outer = disk.find("target"), disk.find("auth")
        for source in disk.iter("source"):
            if source.get("protocol") != "rbd":
                continue
            auth = source.find("auth")
            if auth is None and source is disk.find("source"):
                auth = outer
            config = source.find("config")
            yield DiskAccess(
                "" if target is None else target.get("dev", ""),
                rbd_source(source),
                None if auth is None else auth.get("username", ""),
                None if auth is None else _named(auth.find("secret")),
                None if config is None else config.get("file"),
            )


def _named(secret: ET.Element | None) -> UUID | str | None:
    if secret is None:
        return None
    uuid = secret.get("uuid")
    return secret.get("usage", "") if uuid is None else UUID(uuid)


def _vm_or_gone(domain: libvirt.virDomain) -> VMSeen | LibvirtFailed | None:
    vm_id = UUID(domain.UUIDString())
    try:
        with libvirt_faults("read the domain", vm_id):
            live = domain.XMLDesc()
            accesses = dict.fromkeys(read_accesses(live))
            if domain.isActive() and domain.isPersistent():
                lasting = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
                accesses.update(dict.fromkeys(read_accesses(lasting)))
            return VMSeen(
                vm_id, domain.name(), status_of(domain), read_domain(live), tuple(accesses)
            )
    except NoSuchVM:  # a transient domain that ended since it was listed
        return None
    except LibvirtFailed as error:  # it was not for this user to read, say
        return error
