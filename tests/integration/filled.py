"""Parameters for a call of any verb of storage that are right but for what they name, and a volume that has
something in it."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.datawork import MiB
from tests.integration.site import Site, domain_settings
from tests.lab import user
from tests.lab.stack import POOL, POOL2

DIFF = "begins-at-a.diff"
FILLED = {
    "volumeName": "nosuch",
    "snapshotName": "nosuch",
    "newName": "nosuch-either",
    "size": 1 << 20,
    "newSize": 1 << 20,
    "qos": {},
    "client": 1,
}


def filled(verb: Any, site: Site, exchange: Path, **known: Any) -> dict[str, Any]:
    values = {"storageDomainID": site.storage_domain_id, **FILLED, **known}
    # What is read has to be there, and what is written must not.
    name = DIFF if verb.name in ("Volume.import", "Volume.importDiff") else "nosuch"
    values |= {"path": str(exchange / name), "toSnapshot": "nosuch"}
    return {p.name: values[p.name] for p in verb.params if p.name in values}


@pytest.fixture(scope="session")
def diffs(exchange: Path) -> Path:
    """The exchange directory, with a diff between two snapshots in it."""
    name = (1).to_bytes(4, "little")
    header = b"rbd diff v1\n" + b"f" + name + b"a" + b"t" + name + b"b"
    path = exchange / DIFF
    path.write_bytes(header + b"s" + (512).to_bytes(8, "little") + b"e")
    account = user.ensure()
    os.chown(path, account.uid, account.gid)
    path.chmod(0o600)
    return exchange


SIZE = 40 * MiB + 12345


@pytest.fixture(name="filled")
def filled_image(site: Site, name: str) -> str:
    """A volume of odd size with data here and there, unaligned, and zeros written in between."""
    site.ceph.create_image(POOL, name, SIZE)
    with site.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        chance = random.Random(7)
        for offset in (0, 5 * MiB + 100, 17 * MiB - 1, SIZE - 5000):
            image.write(chance.randbytes(4321), offset)
        image.write(chance.randbytes(6 * MiB), 20 * MiB)
        image.write(bytes(3 * MiB), 30 * MiB)
    return name


@pytest.fixture
def second(site: Site) -> Iterator[dict[str, Any]]:
    """Another pool of the same cluster, connected."""
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), pool=POOL2)
    site.call("StorageDomain.connect", **settings)
    yield {"newStorageDomainID": settings["storageDomainID"]}
    site.call("StorageDomain.disconnect", storageDomainID=settings["storageDomainID"])
