"""libvirt secrets, one call each. What may be done to which is decided in `host.secrets`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import libvirt

from virtceph.sensitive import Sensitive
from virtceph.virt.faults import libvirt_faults
from virtceph.virt.xml import secret_xml

_USAGE_TYPE = {
    libvirt.VIR_SECRET_USAGE_TYPE_CEPH: "ceph",
    libvirt.VIR_SECRET_USAGE_TYPE_VOLUME: "volume",
    libvirt.VIR_SECRET_USAGE_TYPE_ISCSI: "iscsi",
}
# Ours are both; asking so spares the XML of each secret, which costs eight times the usage id.
_PRIVATE_EPHEMERAL = (
    libvirt.VIR_CONNECT_LIST_SECRETS_EPHEMERAL | libvirt.VIR_CONNECT_LIST_SECRETS_PRIVATE
)


# There where libvirt's drivers are processes of their own ("modular"), and only there.
_KEEPER_SOCKET = Path("/run/libvirt/virtsecretd-sock")


def secret_uri(uri: str, stated: str) -> str | None:
    """Where the secrets of the libvirt at `uri` are kept, if that is a process of its own: as `stated`, or
    virtsecretd beside a modular libvirt of this host. None where one libvirtd has it all. Source:
    libvirt.org/daemons.html."""
    if stated:
        return stated
    return "secret:///system" if uri == "qemu:///system" and _KEEPER_SOCKET.is_socket() else None


@dataclass(frozen=True)
class Definition:
    """A secret without its value. `usage_type` is "" for kinds the daemon does not deal in."""

    uuid: UUID
    usage_type: str
    usage_id: str
    description: str = ""


class SecretSession:
    """Secrets of one libvirt, over one connection. Every call blocks, and raises LibvirtUnavailable or
    LibvirtFailed."""

    def __init__(self, connection: libvirt.virConnect) -> None:
        self._connection = connection
        # Listing hands out handles; removing by them spares a look-up each.
        self._handles: dict[UUID, libvirt.virSecret] = {}

    def list_private_ephemeral(self) -> list[Definition]:
        """The secrets that are neither readable nor kept on disk."""
        return self._list(_PRIVATE_EPHEMERAL)

    def list_all(self) -> list[Definition]:
        """Every secret of this libvirt."""
        return self._list(0)

    def _list(self, flags: int) -> list[Definition]:
        with libvirt_faults("list secrets"):
            handles = {UUID(bytes=s.UUID()): s for s in self._connection.listAllSecrets(flags)}
            self._handles.update(handles)
            return [
                Definition(uuid, _USAGE_TYPE.get(secret.usageType(), ""), secret.usageID() or "")
                for uuid, secret in handles.items()
            ]

    def put(self, secret: Definition, value: Sensitive) -> None:
        """Define the secret and set its value; when the second fails the first has happened.

        Source: virSecretDefineXML, virSecretSetValue.
        """
        xml = secret_xml(secret.uuid, secret.usage_type, secret.usage_id, secret.description)
        with libvirt_faults("register the secret"):
            self._connection.secretDefineXML(xml).setValue(value.reveal())

    def remove(self, uuid: UUID) -> None:
        """Undefine the secret, if there is one. Source: virSecretUndefine."""
        with libvirt_faults("remove the secret"):
            try:
                handle = self._handles.get(uuid)
                if handle is None:
                    handle = self._connection.secretLookupByUUIDString(str(uuid))
                handle.undefine()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_SECRET:
                    raise
