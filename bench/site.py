"""A lab for measuring: parts start when an entry first asks for them, and end with the run."""

from __future__ import annotations

import contextlib
import uuid
from functools import cached_property
from pathlib import Path

import libvirt

from tests.lab import state
from tests.lab.ceph import CephCluster
from tests.lab.daemon import Daemon, Settings
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.secret import USAGE_PREFIX
from tests.lab.stack import CEPH_USER, IMAGE_BYTES, POOL
from tests.lab.template import run_guest
from virtceph.client import Client, connect

IMAGE = "bench"
# The lab's own default is debug, which production does not run.
AS_IN_PRODUCTION = {"log": {"level": "info"}}


class Site:
    """Every property blocks when it is first used."""

    def __init__(self) -> None:
        self._closing = contextlib.ExitStack()
        self.folder: Path = state.create_for_test()
        self._closing.callback(state.remove, self.folder)
        self.storage_domain_id, self.secret_uuid = uuid.uuid4(), uuid.uuid4()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_error: object) -> None:
        self._closing.close()

    @cached_property
    def libvirtd(self) -> PrivateLibvirtd:
        """A libvirtd."""
        return PrivateLibvirtd.start(self.folder / "h1")

    @cached_property
    def connection(self) -> libvirt.virConnect:
        """A warm connection to it."""
        return self._closing.enter_context(self.libvirtd.connection())

    @cached_property
    def ceph(self) -> CephCluster:
        """A cluster whose monitor waits as Ceph's default has it, with a pool and an image."""
        # A manager's reports would give the monitor turns at times of their own.
        cluster = CephCluster.start(
            self.folder / "ceph", paxos_propose_interval_s=None, with_mgr=False
        )
        cluster.create_pool(POOL)
        cluster.create_image(POOL, IMAGE, IMAGE_BYTES)
        return cluster

    @cached_property
    def ceph_key(self) -> str:
        """The key of the daemon's Ceph user."""
        return self.ceph.create_user(CEPH_USER)

    @cached_property
    def daemon(self) -> Daemon:
        """A daemon."""
        return self.start_daemon("daemon")

    def start_daemon(
        self, name: str, *, exchange: Path | None = None, overrides: Settings | None = None
    ) -> Daemon:
        """Start one more daemon, whose files lie in `exchange`. Blocks."""
        return Daemon.start(
            self.folder / name,
            libvirt_uri=self.libvirtd.uri,
            exchange=exchange or self.folder / "exchange",
            overrides={**AS_IN_PRODUCTION, **(overrides or {})},
        )

    @cached_property
    def client(self) -> Client:
        """A warm connection to the daemon."""
        return self._closing.enter_context(connect(str(self.daemon.socket)))

    def connect_storage(self, client: Client, usage_prefix: str = USAGE_PREFIX) -> None:
        """Register the key and connect the pool. Blocks."""
        entry = {
            "uuid": self.secret_uuid,
            "usageType": "ceph",
            "usageID": f"{usage_prefix}{self.secret_uuid}",
            "password": self.ceph_key,
        }
        client.Host.registerSecrets(secrets=[entry])
        client.StorageDomain.connect(
            storageDomainID=self.storage_domain_id,
            monitors=self.ceph.monitors,
            user=CEPH_USER,
            secretUUID=self.secret_uuid,
            pool=POOL,
        )

    @cached_property
    def guest(self) -> Guest:
        """A running guest with one RBD disk, its storage domain connected. It writes nothing."""
        self.connect_storage(self.client)
        guest = self.run_guest("bench", IMAGE)
        self._closing.callback(guest.destroy)
        return guest

    def run_guest(self, name: str, image: str) -> Guest:
        """One more running guest, with one disk; its key is registered by now. It writes nothing. Blocks."""
        disk = RbdDisk(POOL, image, self.ceph.monitors, CEPH_USER, self.secret_uuid)
        # A writer's flushes would only add their own noise to all variants alike.
        spec = GuestSpec(name, [disk], writer=False)
        return run_guest(self.connection, spec, self.folder / "guests")
