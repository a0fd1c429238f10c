"""A bounded control connection to one cluster, as one cephx user."""

from __future__ import annotations

import contextlib
import errno
import json
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

import rados
import rbd

from virtceph.ceph.faults import ceph_faults, errno_of
from virtceph.ceph.monmap import Monitor, read_monitors
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.errors import (
    CephFailed,
    CephUnavailable,
    KeyRejected,
    NoSuchNamespace,
    NoSuchPool,
)

# An object nobody has: removing it changes nothing and still needs the write capability.
_PROBE_OBJECT = ".virtceph-caps-probe"
# Passes the address rule of `profile rbd` and is no address, so an allowed request changes nothing.
_PROBE_ADDRESS = "none/0"
# How long a client that was cut off stays so; the monitors' own default is an hour.
BLOCKLISTED_S = 86400
_KEY_HEAD = struct.Struct("<hIIh")


@dataclass(frozen=True)
class Caps:
    """What the user may do in a pool. `blocklist` is None when the cluster gave no clear answer."""

    read: bool
    write: bool
    blocklist: bool | None


@dataclass(frozen=True)
class PoolStats:
    """Room in a pool and the cluster's health; `latency_s` is one round to the monitors."""

    capacity_bytes: int
    used_bytes: int
    health: str
    latency_s: float


def connect(spec: ClusterSpec, more: Mapping[str, str] = MappingProxyType({})) -> rados.Rados:
    """A connected librados client, with `more` options than those that all have. Blocks up to about
    `op_timeout_s`.

    No configuration file and no environment is read: a caller's ceph.conf could make librados open
    a log or an admin socket that hands out the key.

    Raises:
        KeyRejected, CephUnavailable, CephFailed
    """
    if not _is_cephx_key(spec.key.reveal()):
        # librados would print it: "failed to decode key '…'" goes to stderr whatever is configured.
        raise KeyRejected(spec.user)
    timeout = f"{spec.op_timeout_s:g}"
    options = {
        "mon_host": spec.mon_host(),
        "key": spec.key.reveal_base64(),
        "client_mount_timeout": timeout,
        "rados_mon_op_timeout": timeout,
        "rados_osd_op_timeout": timeout,
        "rbd_default_clone_format": "2",
        # Else whoever reads writes to the image's header once a minute, and looks like a writer.
        "rbd_atime_update_interval": "0",
        # A lock that is broken (see `eviction`) is broken for good: its owner may only be stalled, and
        # must not write when it wakes. A client that starts again is another one to Ceph.
        "rbd_blocklist_on_break_lock": "true",
        "rbd_blocklist_expire_seconds": str(BLOCKLISTED_S),
        "admin_socket": "",
        "log_file": "",
        "log_to_stderr": "false",
        "err_to_stderr": "false",
        **more,
    }
    try:
        client = rados.Rados(rados_id=spec.user, conf=options)
        client.connect()
    except rados.Error as error:
        code = errno_of(error)
        if code in (errno.EACCES, errno.EPERM, errno.EINVAL):
            raise KeyRejected(spec.user) from error
        if code in (errno.ETIMEDOUT, errno.ENOENT):
            raise CephUnavailable("the monitors did not answer in time") from error
        raise CephFailed("connect", code, str(error)) from error
    return client


def _is_cephx_key(key: bytes) -> bool:
    """Whether bytes have the form of a key: type, time (two numbers), length, and that many bytes.

    Source: CryptoKey::encode.
    """
    if len(key) < _KEY_HEAD.size:
        return False
    kind, _seconds, _nanoseconds, length = _KEY_HEAD.unpack_from(key)
    return bool(kind > 0 and 0 < length == len(key) - _KEY_HEAD.size)


class Cluster:
    """One connection, shared by the threads that work for one storage domain."""

    def __init__(
        self, spec: ClusterSpec, options: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.spec = spec
        self._client = connect(spec, options)
        self.fsid = UUID(self._client.get_fsid())
        # The number by which the cluster knows this client, as a watcher and as a lock's owner.
        self.client_id = int(self._client.get_instance_id())
        # Of the monitors, as they were told last.
        self.addresses: frozenset[str] = frozenset()
        # As Ceph writes it: `10.0.1.9:0/3072426656`.
        self.address = str(self._client.get_addrs())
        self._lock = threading.Lock()
        self._ioctxs: dict[PoolSpec, rados.Ioctx] = {}
        self._users = 0
        self._closed = False

    @contextlib.contextmanager
    def using(self) -> Iterator[None]:
        """Keep the connection open inside the block: librados aborts the whole process when a call
        meets a client that is being shut down. Raises CephUnavailable when it is closed already."""
        with self._lock:
            if self._closed:
                raise CephUnavailable("the storage domain was disconnected")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                last = self._closed and not self._users
            if last:
                self._shut_down()

    def ioctx(self, pool: PoolSpec) -> rados.Ioctx:
        """The I/O context of a pool and namespace; shared, never closed by its user. Blocks.

        Raises:
            NoSuchPool, CephUnavailable
        """
        # One for each pair: setting the namespace of a shared context would move its other users.
        with self._lock:
            if pool not in self._ioctxs:
                self._ioctxs[pool] = self.new_ioctx(pool)
            return self._ioctxs[pool]

    def new_ioctx(self, pool: PoolSpec) -> rados.Ioctx:
        """An I/O context of one's own, to be closed by its user. Blocks.

        Raises:
            NoSuchPool, CephUnavailable
        """
        with ceph_faults("open the pool", self.spec.user, not_found=NoSuchPool(pool.pool)):
            ioctx = self._client.open_ioctx(pool.pool)
        ioctx.set_namespace(pool.namespace)
        # Else what is written to a full pool waits until its time-out, even a deletion.
        ioctx.set_osdmap_full_try()
        return ioctx

    def check(self, pool: PoolSpec) -> Caps:
        """Whether pool and namespace exist, and what the user may do there. Blocks; changes nothing.

        Raises:
            NoSuchPool, NoSuchNamespace, CephPermissionDenied (cannot even read), CephUnavailable
        """
        with self.using():
            return self._check(pool)

    def _check(self, pool: PoolSpec) -> Caps:
        ioctx = self.ioctx(pool)
        with ceph_faults("list images", self.spec.user):
            rbd.RBD().list(ioctx)
            if pool.namespace and not rbd.RBD().namespace_exists(
                self.ioctx(PoolSpec(pool.pool)), pool.namespace
            ):
                raise NoSuchNamespace(pool.pool, pool.namespace)
        return Caps(read=True, write=self._may_write(ioctx), blocklist=self._may_blocklist())

    def _may_write(self, ioctx: rados.Ioctx) -> bool:
        try:
            ioctx.remove_object(_PROBE_OBJECT)
        except rados.ObjectNotFound:
            return True
        except rados.Error as error:
            if errno_of(error) in (errno.EPERM, errno.EACCES):
                return False
            raise CephUnavailable("the OSDs did not answer in time") from error
        return True

    def _may_blocklist(self) -> bool | None:
        code, _ = self._command(prefix="osd blocklist", blocklistop="add", addr=_PROBE_ADDRESS)
        return {errno.EINVAL: True, errno.EACCES: False, errno.EPERM: False}.get(code)

    def pool_stats(self, pool: PoolSpec) -> PoolStats:
        """Room, health and latency. Blocks. Raises CephUnavailable, CephFailed."""
        with self.using():
            began_s = time.monotonic()
            usage = self.answer(prefix="df", format="json")
            latency_s = time.monotonic() - began_s
            health = self.answer(prefix="health", format="json")["status"]
        for entry in usage["pools"]:
            if entry["name"] == pool.pool:
                # What clients stored, as `max_avail` is what they may: `bytes_used` counts each copy.
                used = int(entry["stats"]["stored"])
                free = int(entry["stats"]["max_avail"])
                return PoolStats(used + free, used, health, latency_s)
        raise NoSuchPool(pool.pool)

    def monitors(self) -> tuple[Monitor, ...]:
        """The monitors as the cluster has them now. Blocks. Source: the monitors' `mon dump`.

        Raises:
            CephUnavailable, CephFailed
        """
        with self.using():
            monitors = read_monitors(self.answer(prefix="mon dump", format="json"))
        self.addresses = frozenset(a for monitor in monitors for a in monitor.addresses())
        return monitors

    def pool_name(self, pool_id: int) -> str:
        """The name of a pool by its number. Blocks."""
        with ceph_faults("look the pool up", self.spec.user):
            return str(self._client.pool_reverse_lookup(pool_id))

    def _command(self, **command: Any) -> tuple[int, bytes]:
        """A monitor command: its positive errno (0: done) and its output."""
        try:
            code, out, _ = self._client.mon_command(json.dumps(command), b"")
        except rados.Error as error:
            return errno_of(error), b""
        return abs(code), out

    def answer(self, **command: Any) -> Any:
        """What the monitors answer a command, from JSON. Blocks. Raises CephUnavailable, CephFailed."""
        code, out = self._command(**command)
        if code == errno.ETIMEDOUT:
            raise CephUnavailable("the monitors did not answer in time")
        if code:
            raise CephFailed(str(command["prefix"]), code, "the monitors refused")
        # `osd blocklist ls` answers two documents; the first is the one that its name promises.
        return json.JSONDecoder().raw_decode(out.decode())[0]

    def tell(self, monitor: str, **command: Any) -> bytes | None:
        """What one monitor itself answers; None when it does not, or refuses, as it does to all but
        administrators. Blocks."""
        try:
            code, out, _ = self._client.mon_command(json.dumps(command), b"", target=monitor)
        except rados.Error:
            return None
        return None if code else bytes(out)

    def close(self) -> None:
        """Let nobody in any more, and close the connection as soon as the last user is out. Blocks while
        librados winds up, if that is now."""
        with self._lock:
            first, self._closed = not self._closed, True
            idle = not self._users
        if first and idle:
            self._shut_down()

    def _shut_down(self) -> None:
        for ioctx in self._ioctxs.values():
            ioctx.close()
        self._ioctxs.clear()
        with contextlib.suppress(rados.Error):
            self._client.shutdown()
