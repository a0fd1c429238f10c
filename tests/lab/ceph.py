"""A real Ceph cluster on one machine: one monitor, one manager, one OSD in memory, cephx on."""

import contextlib
import functools
import json
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rados
import rbd

from tests.lab import ceph_files
from tests.lab.errors import LabError
from tests.lab.processes import ProcessRecord, run, spawn, wait_until
from tests.lab.state import free_loopback_address

# `connect(timeout=)` bounds nothing; only client_mount_timeout bounds a connect.
TIMEOUTS = {
    "client_mount_timeout": "10",
    "rados_mon_op_timeout": "10",
    "rados_osd_op_timeout": "10",
    "rbd_default_clone_format": "2",
}


@dataclass
class CephCluster:
    """A running cluster. `folder` lies in a state folder, whose record knows its processes."""

    folder: Path
    fsid: str
    address: str
    mon: ProcessRecord
    osd: ProcessRecord
    mgr: ProcessRecord | None = None

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        paxos_propose_interval_s: float | None = 0.02,
        with_mgr: bool = True,
    ) -> "CephCluster":
        """Make and start a cluster in the new folder `folder` of a state folder. Blocks, about 1.5 s.

        The manager needs some seconds more until it reports: see `wait_for_statistics`.
        """
        fsid, address = (
            str(uuid.uuid4()),
            free_loopback_address((ceph_files.MSGR2_PORT, ceph_files.MSGR1_PORT)),
        )
        _lay_out(folder, fsid, address, paxos_propose_interval_s)
        argv = ["ceph-mon", *_common(folder), "--mkfs", "-i", "a"]
        run([*argv, "--monmap", f"{folder}/monmap", "--keyring", f"{folder}/keyring"])
        mon = _spawn(folder, "ceph-mon", "a")
        osd_uuid = str(uuid.uuid4())
        with _connect_admin(folder) as client:
            command(client, "osd new", uuid=osd_uuid, id=0)
        keyring = ["--keyring", f"{folder}/osd/keyring"]
        argv = ["ceph-osd", *_common(folder), "-i", "0", "--mkfs", "--osd-uuid", osd_uuid, *keyring]
        run(argv)
        osd = _spawn(folder, "ceph-osd", "0", *keyring)
        cluster = cls(folder, fsid, address, mon, osd)
        if with_mgr:
            cluster.start_mgr()
        with cluster.admin() as client:
            wait_until(
                lambda: _osd_is_up(client), "osd.0", 20, process=osd, log=cluster.log("osd.0")
            )
        return cluster

    @classmethod
    def attach(cls, folder: Path, records: list[ProcessRecord]) -> "CephCluster":
        """The cluster that another process started in `folder`. Does not block."""
        found = {r.name: r for r in records if r.name.endswith(f" {folder.name}")}
        options = dict(
            line.split(" = ", 1)
            for line in (folder / "ceph.conf").read_text().splitlines()
            if " = " in line
        )
        return cls(
            folder,
            options["fsid"],
            options["public addr"],
            found[f"ceph-mon {folder.name}"],
            found[f"ceph-osd {folder.name}"],
            found.get(f"ceph-mgr {folder.name}"),
        )

    @property
    def conf(self) -> Path:
        """The ceph.conf of this cluster."""
        return self.folder / "ceph.conf"

    @property
    def monitors(self) -> list[str]:
        """host:port of each monitor: fit for libvirt's `<host>` and for librados' mon_host."""
        return [f"{self.address}:{ceph_files.MSGR1_PORT}"]

    @property
    def monitors_bracketed(self) -> str:
        """mon_host in full, both protocols: [v2:…,v1:…]."""
        v2, v1 = ceph_files.MSGR2_PORT, ceph_files.MSGR1_PORT
        return f"[v2:{self.address}:{v2},v1:{self.address}:{v1}]"

    def log(self, name: str) -> Path:
        """The log of a daemon: mon.a, osd.0, mgr.x, client.admin."""
        return self.folder / "log" / f"{name}.log"

    @contextlib.contextmanager
    def admin(self, **options: str) -> Iterator[rados.Rados]:
        """A connected client.admin with time-outs of 10 s; `options` go before them. Blocks."""
        with _connect_admin(self.folder, **options) as client:
            yield client

    @contextlib.contextmanager
    def pool(self, name: str) -> Iterator[rados.Ioctx]:
        """An I/O context of client.admin on a pool. Blocks."""
        with self.admin() as client, client.open_ioctx(name) as ioctx:
            yield ioctx

    def create_user(
        self, name: str, *, mon: str = "profile rbd", osd: str = "profile rbd", mgr: str = ""
    ) -> str:
        """Make client.`name`; returns its key (base64). Blocks."""
        caps = ["mon", mon, "osd", osd] + (["mgr", mgr] if mgr else [])
        with self.admin() as client:
            out = command(client, "auth get-or-create", entity=f"client.{name}", caps=caps)
        return str(out[0]["key"])

    def create_pool(self, name: str) -> None:
        """Make a pool and initialise it for RBD. Blocks."""
        with self.admin() as client:
            command(client, "osd pool create", pool=name, pg_num=8)
            with client.open_ioctx(name) as ioctx:
                rbd.RBD().pool_init(ioctx, True)

    def create_image(self, pool: str, name: str, size_bytes: int) -> None:
        """Make an empty image with the default features. Blocks."""
        with self.pool(pool) as ioctx:
            rbd.RBD().create(ioctx, name, size_bytes, old_format=False)

    def start_mgr(self) -> None:
        """Start the manager, which `df` and pool statistics need. Does not wait for it."""
        keyring = ["--keyring", f"{self.folder}/mgr/keyring"]
        self.mgr = self.mgr or _spawn(self.folder, "ceph-mgr", "x", *keyring)

    def wait_for_statistics(self, timeout_s: float = 30) -> None:
        """Wait until the cluster knows its capacity, through its manager. Blocks."""
        with self.admin() as client:
            wait_until(
                lambda: int(command(client, "df")["stats"]["total_bytes"]) > 0,
                "statistics of the manager",
                timeout_s,
                process=self.mgr,
                interval_s=0.1,
            )

    def suspend_osd(self) -> None:
        """SIGSTOP the OSD: every read and write hangs from now on. Does not block."""
        self.osd.send(signal.SIGSTOP)

    def resume_osd(self, timeout_s: float = 60) -> None:
        """SIGCONT the OSD and wait until it serves again. Blocks, about 2 s."""
        self.osd.send(signal.SIGCONT)
        with self.admin(rados_osd_op_timeout="1") as client:
            # Its placement groups stay "laggy", for ever with a single OSD, until it is marked down.
            command(client, "osd down", ids=["0"])
            pools = client.list_pools()
            wait_until(lambda: _osd_is_up(client), "osd.0 after its stop", timeout_s)
            for pool in pools:
                with client.open_ioctx(pool) as ioctx:
                    wait_until(functools.partial(_serves, ioctx), f"pool {pool}", timeout_s)

    def suspend_mon(self) -> None:
        """SIGSTOP the only monitor: nobody can connect, snapshot or resize. Does not block."""
        self.mon.send(signal.SIGSTOP)

    def resume_mon(self, timeout_s: float = 30) -> None:
        """SIGCONT the monitor and wait until it answers. Blocks."""
        self.mon.send(signal.SIGCONT)
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                with self.admin(client_mount_timeout="3") as client:
                    command(client, "osd stat")
                return
            except (rados.Error, LabError):
                if time.monotonic() >= deadline:
                    raise

    def stop(self) -> None:
        """End all daemons by pid; the data are gone with the OSD's memory. Blocks."""
        for record in (self.mgr, self.osd, self.mon):
            if record is not None:
                # All state is in memory or thrown away: an orderly shutdown would only take time.
                record.end(grace_s=0)


def command(client: rados.Rados, prefix: str, **arguments: Any) -> Any:
    """Send a monitor command; returns its decoded answer. Blocks, for at most 10 s.

    Raises:
        LabError: the monitor refused it or did not answer.
    """
    request = json.dumps({"prefix": prefix, "format": "json", **arguments})
    status, output, message = client.mon_command(request, b"")
    if status:
        raise LabError(f"ceph {prefix}: {status} {message}")
    return json.loads(output) if output.strip() else None


def _lay_out(folder: Path, fsid: str, address: str, propose_interval_s: float | None) -> None:
    folder.mkdir(mode=0o755)
    for name in ("mon", "mgr", "osd", "run", "log"):
        (folder / name).mkdir(mode=0o700)
    text = ceph_files.configuration(folder, fsid, address, propose_interval_s)
    (folder / "ceph.conf").write_text(text)
    ceph_files.write_keyrings(folder)
    ceph_files.write_monitor_map(folder / "monmap", fsid, address)


def _common(folder: Path) -> list[str]:
    return ["-c", f"{folder}/ceph.conf"]


def _spawn(folder: Path, program: str, ident: str, *options: str) -> ProcessRecord:
    name = f"{program} {folder.name}"
    argv = [program, *_common(folder), "-f", "-i", ident, *options]
    return spawn(folder.parent, name, argv, folder / "log" / f"{program}.out")


@contextlib.contextmanager
def _connect_admin(folder: Path, **options: str) -> Iterator[rados.Rados]:
    # An admin socket and a log of each short-lived client would fill the lab's folder.
    quiet = {"admin_socket": "", "log_file": ""}
    settings = {**TIMEOUTS, **quiet, **options}
    client = rados.Rados(conffile=f"{folder}/ceph.conf", name="client.admin", conf=settings)
    client.connect()
    try:
        yield client
    finally:
        client.shutdown()


def _osd_is_up(client: rados.Rados) -> bool:
    return int(command(client, "osd stat")["num_up_osds"]) == 1


def _serves(ioctx: rados.Ioctx) -> bool:
    try:
        ioctx.write_full("lab-probe", b"x")
        ioctx.remove_object("lab-probe")
    except rados.Error:
        return False
    return True
