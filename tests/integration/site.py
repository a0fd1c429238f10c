"""A daemon with a registered key and a connected storage domain, and a client of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from tests.integration.recorder import Recording, RecordingClient
from tests.lab.ceph import CephCluster
from tests.lab.daemon import Daemon
from tests.lab.stack import CEPH_USER, POOL
from virtceph.sensitive import Sensitive


@dataclass
class Site:
    """A daemon with a registered key and a connected storage domain, and a client of it."""

    client: RecordingClient
    daemon: Daemon
    secret_uuid: UUID
    storage_domain_id: UUID
    ceph: CephCluster
    recording: Recording

    def call(self, verb: str, /, **params: Any) -> Any:
        return self.client.call(verb, **params)

    def volume(self, method: str, name: str, **params: Any) -> Any:
        return self.call(
            f"Volume.{method}", storageDomainID=self.storage_domain_id, volumeName=name, **params
        )


def secret_info(uuid_: UUID, value: Sensitive, **other: Any) -> dict[str, Any]:
    """One entry of registerSecrets."""
    return {
        "uuid": uuid_,
        "usageType": "ceph",
        "usageID": f"ovirt/{uuid_}",
        "password": value,
        **other,
    }


def domain_settings(site: Site, **other: Any) -> dict[str, Any]:
    """The parameters of StorageDomain.connect for a site."""
    return {
        "storageDomainID": site.storage_domain_id,
        "name": "test",
        "monitors": site.ceph.monitors,
        "user": CEPH_USER,
        "secretUUID": site.secret_uuid,
        "pool": POOL,
        **other,
    }
