"""A set of snapshots that halts in the middle, so that something can happen to it just there."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.lone import LoneDaemons
from tests.faults.waiting import until
from tests.integration.conftest import Site, domain_settings, secret_info
from tests.integration.recorder import Recording, RecordingClient
from tests.lab.ceph import CephCluster
from tests.lab.daemon import Daemon
from tests.lab.domain_xml import RbdDisk
from tests.lab.doomed import reached_line, step_named
from tests.lab.guest import Guest
from tests.lab.stack import CEPH_USER, POOL
from virtceph.client import ServerError
from virtceph.sensitive import Sensitive

# Long enough for what happens meanwhile; in earnest it is 10 s.
MAX_FROZEN_S = 90
# A look at other guests would pass by the functions at which it is to halt.
BLIND = {"freeze": {"unknown": "ignore"}}


@dataclass
class Halting:
    """A daemon that halts once at a step, and the site it serves. `pools` are those it is connected to;
    `name` is the set's that it began."""

    daemon: Daemon
    site: Site
    step: str
    pools: dict[str, uuid.UUID]
    job: uuid.UUID | None = None
    name: str = ""

    def begin(self, guest: Guest, name: str, **params: Any) -> None:
        """Start a set and return when it has halted. Blocks."""
        self.job, self.name = uuid.uuid4(), name
        self.site.call(
            "VM.createConsistentSnapshot",
            vmID=guest.uuid,
            snapshotName=name,
            jobUUID=self.job,
            **{"maxFrozen": MAX_FROZEN_S, **params},
        )
        line = reached_line(step_named(self.step))
        until(lambda: line in self.daemon.log_text(), 30)

    def go_on(self) -> dict[str, Any]:
        """Let it go on; the ended job. Blocks."""
        (self.daemon.folder / "go").touch()
        assert self.job is not None
        return dict(self.site.client.wait_for_job(self.job, 120))

    def snapshots(self, guest: Guest, name: str) -> list[str]:
        """The images of a guest that have a snapshot of this name. Blocks."""
        return [
            disk.image
            for disk in guest.spec.disks
            if isinstance(disk, RbdDisk) and name in self._names(disk)
        ]

    def _names(self, disk: RbdDisk) -> list[str]:
        found = self.site.call(
            "Volume.listSnapshots",
            storageDomainID=self.pools[disk.pool],
            volumeName=disk.image,
        )
        return [snapshot["snapshotName"] for snapshot in found]

    def nothing_left(self, guest: Guest, name: str) -> bool:
        """Whether no disk has the snapshot; False while the cluster does not answer. Blocks."""
        try:
            return self.snapshots(guest, name) == []
        except ServerError:
            return False


@dataclass
class Halts:
    """Makes daemons that halt at a named step."""

    lone: LoneDaemons
    connect: Callable[..., RecordingClient]
    recording: Recording

    def at(
        self, step: str, ceph: CephCluster, pools: Sequence[str] = (POOL,), **options: Any
    ) -> Halting:
        """One for a cluster, connected to these pools. Blocks."""
        options = {"overrides": BLIND, **options}
        daemon = self.lone.doomed(step_named(step), "halt", **options)
        return self.serving(daemon, step, ceph, pools)

    def serving(
        self, daemon: Daemon, step: str, ceph: CephCluster, pools: Sequence[str] = (POOL,)
    ) -> Halting:
        """Give a daemon a key, and connect it to these pools. Blocks."""
        client, secret_uuid = self.connect(daemon), uuid.uuid4()
        secret = secret_info(secret_uuid, Sensitive(b""))
        secret |= {"password": ceph.create_user(CEPH_USER), "usageID": f"{daemon.folder.name}/key"}
        client.call("Host.registerSecrets", secrets=[secret])
        by_pool = {pool: uuid.uuid4() for pool in pools}
        site = Site(client, daemon, secret_uuid, by_pool[pools[0]], ceph, self.recording)
        for pool, ident in by_pool.items():
            settings = domain_settings(site, pool=pool, storageDomainID=ident)
            client.call("StorageDomain.connect", **settings)
        return Halting(daemon, site, step, by_pool)
