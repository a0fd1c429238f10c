"""Jobs that move data, as the tests see them: begun, waited for, and what they left."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.site import Site
from tests.lab.ceph import CephCluster
from tests.lab.stack import POOL, POOL2

MiB = 1 << 20


def start(site: Site, method: str, **params: Any) -> str:
    """Start a job; its id."""
    job = str(uuid.uuid4())
    assert site.call(f"Volume.{method}", jobUUID=job, **params) is True
    return job


def ended(site: Site, job: str, timeout_s: float = 120) -> dict[str, Any]:
    return dict(site.client.wait_for_job(job, timeout_s))


def ended_well(site: Site, job: str, timeout_s: float = 120) -> dict[str, Any]:
    """The same, of a job that has to end well: if it did not, its error is told."""
    told = ended(site, job, timeout_s)
    assert told["status"] == "done", told
    return told


def result_of(site: Site, method: str, **params: Any) -> dict[str, Any]:
    """Do it, to its good end."""
    told = ended_well(site, start(site, method, **params))
    assert told["progress"] == 100
    return dict(told["result"])


def job_error(site: Site, method: str, **params: Any) -> dict[str, Any]:
    """Do it, to its bad end; the error's facts."""
    told = ended(site, start(site, method, **params))
    assert told["status"] == "failed", told
    return dict(told["error"]["data"])


def content(
    ceph: CephCluster, name: str, snapshot: str | None = None, pool: str = POOL, ns: str = ""
) -> str:
    """The digest of an image's bytes, as librbd reads them."""
    with ceph.pool(pool) as ioctx:
        ioctx.set_namespace(ns)
        with rbd.Image(ioctx, name, snapshot=snapshot, read_only=True) as image:
            digest, size = hashlib.sha256(), image.size()
            for offset in range(0, size, 4 * MiB):
                digest.update(image.read(offset, min(4 * MiB, size - offset)))
            return f"{size} {digest.hexdigest()}"


def used(ceph: CephCluster, name: str, pool: str = POOL) -> int:
    """How many objects an image has."""
    with ceph.pool(pool) as ioctx, rbd.Image(ioctx, name, read_only=True) as image:
        extents: list[int] = []
        image.diff_iterate(0, image.size(), None, lambda _o, n, _e: extents.append(n), True, True)
        return sum(extents)


def digest_of(path: Path) -> str:
    """The SHA-256 of a file."""
    argv = ["sha256sum", str(path)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[0]


def names(ceph: CephCluster, pool: str = POOL) -> list[str]:
    with ceph.pool(pool) as ioctx:
        return list(rbd.RBD().list(ioctx))


def trash(ceph: CephCluster, pool: str = POOL) -> list[str]:
    with ceph.pool(pool) as ioctx:
        return [entry["name"] for entry in rbd.RBD().trash_list(ioctx)]


def parts(ceph: CephCluster, pool: str = POOL) -> list[str]:
    return [n for n in names(ceph, pool) if n.startswith(".virtceph-")]


def wait_until_moving(site: Site, job: str) -> None:
    """Until the mover has its images open, and knows how much there is to do."""
    _wait_for(site, job, "bytesTotal")


def wait_until_some_is_moved(site: Site, job: str) -> None:
    """Until the beginning of the image was read: what is written there now comes too late for that."""
    _wait_for(site, job, "bytesDone")


def _wait_for(site: Site, job: str, fact: str) -> None:
    end_s = time.monotonic() + 60
    while not site.call("Host.getJobs", job_ids=[job])[job].get(fact):
        assert time.monotonic() < end_s, site.call("Host.getJobs", job_ids=[job])
        time.sleep(0.02)


def remove_if_there(ioctx: Any, name: str) -> None:
    try:
        with rbd.Image(ioctx, name) as opened:
            for snap in opened.list_snaps():
                if opened.is_protected_snap(snap["name"]):
                    opened.unprotect_snap(snap["name"])
                opened.remove_snap(snap["name"])
        rbd.RBD().remove(ioctx, name)
    except rbd.ImageNotFound:
        pass


@pytest.fixture
def place(site: Site) -> dict[str, Any]:
    return {"storageDomainID": site.storage_domain_id}


@pytest.fixture
def name(site: Site) -> Iterator[str]:
    """A name that nothing has, and whatever begins with it is removed at the end."""
    chosen = f"data-{uuid.uuid4().hex[:8]}"
    yield chosen
    for pool in (POOL, POOL2):
        remove_all(site.ceph, pool, chosen)


def remove_all(ceph: CephCluster, pool: str, prefix: str) -> None:
    with ceph.pool(pool) as ioctx:
        # Clones first: they are named after what they are of.
        found = [n for n in rbd.RBD().list(ioctx) if n.startswith(prefix)]
        for image in sorted(found, reverse=True):
            remove_if_there(ioctx, image)


@pytest.fixture
def slow(site: Site) -> Callable[..., Any]:
    """Makes whoever reads an image do so slowly, so that something can happen meanwhile."""

    @contextlib.contextmanager
    def throttled(image: str, bps: int = 2 * MiB) -> Iterator[None]:
        with site.ceph.pool(POOL) as ioctx:
            with rbd.Image(ioctx, image) as opened:
                opened.metadata_set("conf_rbd_qos_bps_limit", str(bps))
            try:
                yield
            finally:
                # It may be gone from here, or have been brought back to what it was before.
                with (
                    contextlib.suppress(KeyError, rbd.ImageNotFound),
                    rbd.Image(ioctx, image) as opened,
                ):
                    opened.metadata_remove("conf_rbd_qos_bps_limit")

    return throttled
