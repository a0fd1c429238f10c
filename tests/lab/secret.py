"""libvirt secrets for the lab's guests, defined without the daemon."""

import base64
import contextlib
import uuid
from uuid import UUID
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import libvirt

USAGE_PREFIX = "ovirt/"


def define(
    connection: libvirt.virConnect, key: str, ident: UUID | None = None, usage: str | None = None
) -> UUID:
    """Define an ephemeral, private Ceph secret with a base64 key; returns its UUID. Blocks."""
    ident = ident or uuid.uuid4()
    secret = Element("secret", ephemeral="yes", private="yes")
    SubElement(secret, "uuid").text = str(ident)
    used = SubElement(secret, "usage", type="ceph")
    SubElement(used, "name").text = usage or f"{USAGE_PREFIX}{ident}"
    defined = connection.secretDefineXML(ElementTree.tostring(secret, encoding="unicode"), 0)
    defined.setValue(base64.b64decode(key), 0)
    return ident


def undefine(connection: libvirt.virConnect, ident: UUID) -> None:
    """Remove a secret, if it is there. Blocks."""
    with contextlib.suppress(libvirt.libvirtError):
        connection.secretLookupByUUIDString(str(ident)).undefine()


def all_usages(connection: libvirt.virConnect) -> list[str]:
    """The usage ids of all secrets. Blocks."""
    return [secret.usageID() for secret in connection.listAllSecrets(0)]


def usages(connection: libvirt.virConnect) -> list[str]:
    """The usage ids of all secrets with our prefix. Blocks."""
    return sorted(one for one in all_usages(connection) if one.startswith(USAGE_PREFIX))
