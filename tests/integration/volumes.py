"""Images as others leave them: open, locked by the dead, cloned, mirrored, in a pool that is full."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import rbd

from tests.integration.conftest import Site, domain_settings, remove_if_there
from tests.lab.ceph import CephCluster, command
from tests.lab.stack import POOL

# Writes to an image, and dies with its lock.
_DIES = (
    "import rados, rbd, os, sys\n"
    "c = rados.Rados(conffile=sys.argv[1]); c.connect()\n"
    "print(c.get_instance_id(), flush=True)\n"
    "i = rbd.Image(c.open_ioctx(sys.argv[2]), sys.argv[3]); i.write(b'x', 0)\n"
    "os.kill(os.getpid(), 9)"
)


def rbd_cli(ceph: CephCluster, *arguments: str) -> Any:
    """What an `rbd` command answers. Blocks."""
    done = subprocess.run(
        ["rbd", "-c", str(ceph.conf), *arguments, "--format", "json"],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout) if done.stdout.strip() else None


def rbd_do(ceph: CephCluster, *arguments: str) -> None:
    """Have an `rbd` command change something. Blocks."""
    argv = ["rbd", "-c", str(ceph.conf), *arguments]
    subprocess.run(argv, capture_output=True, check=True, timeout=60)


@contextlib.contextmanager
def opened(site: Site, name: str, pool: str = POOL) -> Iterator[rbd.Image]:
    """An image that somebody has open and written to."""
    with site.ceph.pool(pool) as ioctx, rbd.Image(ioctx, name) as image:
        image.write(b"x", 0)
        yield image


def dead_owner(site: Site, name: str, pool: str = POOL) -> int:
    """Let a client die with an image open and locked; its number. Its watch lasts 30 s."""
    argv = [sys.executable, "-c", _DIES, str(site.ceph.conf), pool, name]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=30)
    return int(done.stdout)


@contextlib.contextmanager
def orphan_lock(site: Site, image_id: str, pool: str = POOL) -> Iterator[int]:
    """Inside the block an image has the lock of a client that does not watch it: what a dead one leaves after
    30 s. The client's number."""
    with site.ceph.admin() as client, client.open_ioctx(pool) as ioctx:
        header, cookie = f"rbd_header.{image_id}", "auto 1"
        ioctx.lock_exclusive(header, "rbd_lock", cookie)
        try:
            yield int(client.get_instance_id())
        finally:
            ioctx.unlock(header, "rbd_lock", cookie)


@contextlib.contextmanager
def connected(site: Site, **other: Any) -> Iterator[UUID]:
    """Another storage domain of the site, as `other` says."""
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), **other)
    site.call("StorageDomain.connect", **settings)
    try:
        yield settings["storageDomainID"]
    finally:
        site.call("StorageDomain.disconnect", storageDomainID=settings["storageDomainID"])


def image_id(site: Site, name: str, pool: str = POOL) -> str:
    """The id that an image keeps, whatever it is called."""
    with site.ceph.pool(pool) as ioctx, rbd.Image(ioctx, name, read_only=True) as image:
        return str(image.id())


def blocklisted(ceph: CephCluster) -> list[str]:
    """The addresses that Ceph refuses."""
    with ceph.admin() as client:
        request = json.dumps({"prefix": "osd blocklist ls", "format": "json"})
        _, listed, _ = client.mon_command(request, b"")
    found = json.JSONDecoder().raw_decode(listed.decode())[0]
    return [entry["addr"] for entry in found]


def remove_images(site: Site, pool: str, *names: str) -> None:
    """Remove images with their snapshots, where they are there; clones first."""
    with site.ceph.pool(pool) as ioctx:
        for name in names:
            remove_if_there(ioctx, name)


def set_quota(ceph: CephCluster, pool: str, size_bytes: int) -> None:
    """Limit a pool; 0 lifts the limit."""
    with ceph.admin() as client:
        limit = {"pool": pool, "field": "max_bytes", "val": str(size_bytes)}
        command(client, "osd pool set-quota", **limit)


def is_full(ceph: CephCluster, pool: str) -> bool:
    """Whether the monitors let nobody write to a pool."""
    with ceph.admin() as client:
        pools = command(client, "osd pool ls", detail="detail")
    (found,) = [p for p in pools if p["pool_name"] == pool]
    return "full" in found["flags_names"].split(",")
