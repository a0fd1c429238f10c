"""The whole lab: cluster, libvirtd, daemon and a running guest, as `up` leaves them."""

import importlib
import json
import shlex
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.lab import secret
from tests.lab.ceph import CephCluster
from tests.lab.daemon import Daemon, Settings, merged
from tests.lab.domain_xml import GuestSpec, RbdDisk
from tests.lab.errors import LabError
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.pki import LabPki
from tests.lab.processes import ProcessRecord, recorded
from tests.lab.state import PROJECT, create, free_port, inhabitants, remove
from tests.lab.template import run_guest

POOL, POOL2 = "rbd", "rbd2"
CEPH_USER = "virtceph"
IMAGES = ("lab-a", "lab-b")
IMAGE_BYTES = 128 << 20
GUEST_NAME = "lab-guest"
ENV_FILE = PROJECT / ".lab/env"


@dataclass
class Lab:
    """A running lab. The key of its Ceph user is in libvirt and the daemon, and in no file."""

    state: Path
    ceph: CephCluster
    libvirtd: PrivateLibvirtd
    daemon: Daemon | None
    secret_uuid: UUID
    storage_domain_id: UUID
    vm_id: UUID
    stomp_port: int
    https_port: int

    @classmethod
    def start(
        cls, state: Path, *, with_daemon: bool = True, overrides: Settings | None = None
    ) -> "Lab":
        """Start everything under the new folder `state`. Blocks, 5 s or (nothing cached) 60 s.

        State after a failure: nothing is left.
        """
        create(state)
        try:
            return cls._start(state, with_daemon, overrides)
        except BaseException:
            remove(state)
            raise

    @classmethod
    def _start(cls, state: Path, with_daemon: bool, overrides: Settings | None) -> "Lab":
        ceph = CephCluster.start(state / "ceph")
        libvirtd = PrivateLibvirtd.start(state / "h1")
        for pool in (POOL, POOL2):
            ceph.create_pool(pool)
        for image in IMAGES:
            ceph.create_image(POOL, image, IMAGE_BYTES)
        key = ceph.create_user(CEPH_USER)
        LabPki.make(state / "pki")
        secret_uuid, storage_domain_id, vm_id = (uuid.uuid4() for _ in range(3))
        ports = free_port(), free_port()
        lab = cls(state, ceph, libvirtd, None, secret_uuid, storage_domain_id, vm_id, *ports)
        lab._save()
        if with_daemon:
            lab.start_daemon(overrides)
            lab._connect_storage(key)
        else:
            with libvirtd.connection() as connection:
                secret.define(connection, key, lab.secret_uuid)
        lab._run_guest()
        ceph.wait_for_statistics()
        return lab

    @classmethod
    def attach(cls, state: Path) -> "Lab":
        """The lab that another process started under `state`. Does not block.

        Raises:
            LabError: there is none.
        """
        try:
            saved = json.loads((state / "lab.json").read_text())
            records = recorded(state)
            ceph = CephCluster.attach(state / "ceph", records)
            libvirtd = PrivateLibvirtd.attach(state / "h1", records)
        except (OSError, KeyError, IndexError) as problem:
            raise LabError(f"no lab under {state}") from problem
        daemon = Daemon.attach(state / "daemon", records)
        secret_uuid, storage_domain_id, vm_id = (
            UUID(saved[name]) for name in ("secret", "storage_domain", "vm")
        )
        ports = int(saved["stomp_port"]), int(saved["https_port"])
        return cls(state, ceph, libvirtd, daemon, secret_uuid, storage_domain_id, vm_id, *ports)

    @property
    def exchange(self) -> Path:
        """The folder under which files may be exported, imported and saved."""
        return self.state / "exchange"

    @property
    def pki(self) -> LabPki:
        """The certificates of the host and of its callers."""
        return LabPki(self.state / "pki")

    @property
    def processes(self) -> list[ProcessRecord]:
        """All that run, guests too. Does not block."""
        alive = [record for record in recorded(self.state) if record.alive]
        known = {record.pid for record in alive}
        return alive + [record for record in inhabitants(self.state) if record.pid not in known]

    def start_daemon(self, overrides: Settings | None = None) -> Daemon:
        """Start the daemon, or start it again after it ended. Blocks."""
        uri, exchange = self.libvirtd.uri, self.exchange
        folder = self.state / "daemon"
        listens = self.pki.settings(self.stomp_port, https_port=self.https_port)
        settings = merged(listens, overrides or {})
        self.daemon = Daemon.start(folder, libvirt_uri=uri, exchange=exchange, overrides=settings)
        return self.daemon

    def environment(self) -> dict[str, str]:
        """How to reach everything, as environment variables. Does not block."""
        values = {
            "CEPH_CONF": self.ceph.conf,
            "LIBVIRT_DEFAULT_URI": self.libvirtd.uri,
            "VIRTCEPH_EXCHANGE": self.exchange,
            "LAB_SD": self.storage_domain_id,
            "LAB_VM": self.vm_id,
            "LAB_POOL": POOL,
            "LAB_POOL2": POOL2,
            "LAB_CEPH_USER": CEPH_USER,
            "LAB_SECRET_UUID": self.secret_uuid,
        }
        if self.daemon is not None:
            values["VIRTCEPH_SOCKET"] = self.daemon.socket
            values["VIRTCEPHD_PID"] = self.daemon.pid
            values["VIRTCEPH_STOMP"] = f"127.0.0.1:{self.stomp_port}"
            values["VIRTCEPH_HTTPS"] = f"https://127.0.0.1:{self.https_port}"
            values["VIRTCEPH_PKI"] = self.pki.folder
        return {name: str(value) for name, value in values.items()}

    def guest_spec(self) -> GuestSpec:
        """What the lab's guest is. Does not block."""
        disks = [self.disk(image) for image in IMAGES]
        return GuestSpec(GUEST_NAME, disks, uuid=self.vm_id)

    def disk(self, image: str, pool: str = POOL) -> RbdDisk:
        """A guest's disk on an image of the lab's cluster. Does not block."""
        return RbdDisk(pool, image, self.ceph.monitors, CEPH_USER, self.secret_uuid)

    def _run_guest(self) -> None:
        with self.libvirtd.connection() as connection:
            run_guest(connection, self.guest_spec(), self.state / "guests")

    def _connect_storage(self, key: str) -> None:
        assert self.daemon is not None
        with connect(self.daemon.socket) as client:
            description = {
                "uuid": str(self.secret_uuid),
                "usageType": "ceph",
                "usageID": f"{secret.USAGE_PREFIX}{self.secret_uuid}",
                "password": key,
                "description": "lab",
            }
            client.call("Host.registerSecrets", secrets=[description])
            client.call(
                "StorageDomain.connect",
                storageDomainID=str(self.storage_domain_id),
                name="lab",
                monitors=self.ceph.monitors,
                user=CEPH_USER,
                secretUUID=str(self.secret_uuid),
                pool=POOL,
            )

    def _save(self) -> None:
        saved = {
            "secret": str(self.secret_uuid),
            "storage_domain": str(self.storage_domain_id),
            "vm": str(self.vm_id),
            "stomp_port": self.stomp_port,
            "https_port": self.https_port,
        }
        (self.state / "lab.json").write_text(json.dumps(saved))


def connect(socket_path: Path) -> Any:
    """A connection of the product's own client library to the daemon. Blocks."""
    # The lab must be importable, and its own parts testable, where the product is not installed.
    source = str(PROJECT / "src")
    if source not in sys.path:
        sys.path.insert(0, source)
    return importlib.import_module("virtceph.client").connect(str(socket_path))


def write_env(lab: Lab, path: Path = ENV_FILE) -> None:
    """Write the shell file that tells how to reach the lab. Does not block."""
    path.parent.mkdir(exist_ok=True)
    rows = (f"export {name}={shlex.quote(value)}\n" for name, value in lab.environment().items())
    # The product's commands first, then whatever the shell that reads this file has.
    first = f"export PATH={shlex.quote(str(PROJECT / '.venv/bin'))}:$PATH\n"
    path.write_text(first + "".join(rows))
