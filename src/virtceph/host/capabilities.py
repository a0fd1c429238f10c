"""What this host and this build can do, asked of the parts themselves."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from virtceph import __version__
from virtceph.ceph.images import CREATABLE_FEATURES
from virtceph.ceph.versions import librbd_version
from virtceph.schema import wire
from virtceph.virt.node import Node

_FEATURES = (
    "freeze-lease",
    "secret-restore",
    "snapshot-file",
    "snapshot-memory",
    "snapshot-rbd",
    "storage-domain",
)


@wire("PackageVersion")
@dataclass(frozen=True)
class PackageVersion:
    version: str


@wire("Capabilities")
@dataclass(frozen=True)
class Capabilities:
    software: str
    version: str
    hostname: str
    uuid: str
    packages2: dict[str, PackageVersion]
    verbs: list[str]
    features: list[str]
    lanes: dict[str, Any]
    image_features: list[str]


def capabilities(node: Node, verbs: list[str], lanes: dict[str, Any]) -> Capabilities:
    """Versions and abilities. Blocks on libvirt. Raises LibvirtUnavailable, LibvirtFailed."""
    found = node.describe()
    packages = {
        "kernel": platform.release(),
        "librbd1": librbd_version(),
        "libvirt": found.libvirt_version,
        "qemu-kvm": found.qemu_version,
    }
    return Capabilities(
        software="virtceph",
        version=__version__,
        hostname=found.hostname,
        uuid=found.uuid,
        packages2={name: PackageVersion(version) for name, version in packages.items()},
        verbs=verbs,
        features=list(_FEATURES),
        lanes=lanes,
        image_features=list(CREATABLE_FEATURES),
    )
