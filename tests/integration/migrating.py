"""A guest that is migrating, for as long as a test looks at it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import libvirt
import pytest

from tests.lab import secret
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.state import free_port


@contextlib.contextmanager
def migrating(
    guest: Guest, state: Path, target: str, *, key: tuple[UUID, str] | None = None
) -> Iterator[None]:
    """The guest is on its way to a libvirtd of its own, `target`, inside the block; it never gets there.
    `key` is the secret that its disks in Ceph need there: its UUID and its value."""
    libvirtd = PrivateLibvirtd.start(state / f"h-{target}", target)
    if key is not None:
        with libvirtd.connection() as connection:
            secret.define(connection, key[1], key[0])
    # So slow that it is under way until it is aborted.
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
    params = {
        libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: 1,
        libvirt.VIR_MIGRATE_PARAM_URI: f"tcp:127.0.0.1:{free_port()}",
    }
    try:
        with ThreadPoolExecutor(1) as threads:
            moving = threads.submit(guest.domain.migrateToURI3, libvirtd.uri, params, flags)
            deadline_s = time.monotonic() + 15
            while guest.domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE:
                assert not moving.done()
                assert time.monotonic() < deadline_s
                time.sleep(0.05)
            try:
                yield
            finally:
                guest.domain.abortJob()
            with pytest.raises(libvirt.libvirtError):
                moving.result(30)
    finally:
        libvirtd.stop()
