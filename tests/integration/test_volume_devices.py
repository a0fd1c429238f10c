"""Volumes out to block devices and in from them: only those that the configuration allows."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rbd

from tests.integration.conftest import Site, domain_settings, secret_info
from tests.integration.datawork import MiB, content, result_of, start
from tests.integration.recorder import RecordingClient, error_of
from tests.lab import user
from tests.lab.daemon import Daemon
from tests.lab.stack import POOL
from virtceph.sensitive import Sensitive

SIZE = 16 * MiB


@pytest.fixture
def device(lab_state: Path, tmp_path: Path) -> Iterator[Path]:
    """A loop device, by a node of the daemon's user."""
    backing = tmp_path / "backing"
    backing.write_bytes(b"\xaa" * SIZE)
    made = subprocess.run(
        ["losetup", "--find", "--show", str(backing)], capture_output=True, text=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"no loop device: {made.stderr.strip()}")
    loop = made.stdout.strip()
    node = lab_state / f"device-{uuid.uuid4().hex[:8]}"
    os.mknod(node, 0o600 | 0o060000, os.stat(loop).st_rdev)
    account = user.ensure()
    os.chown(node, account.uid, account.gid)
    yield node
    node.unlink()
    subprocess.run(["losetup", "--detach", loop], check=True)


@pytest.fixture
def served(
    site: Site,
    device: Path,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
) -> Iterator[Site]:
    """A daemon that may use the device."""
    name = f"devices-{uuid.uuid4().hex[:8]}"
    overrides = {
        "daemon": {"block_devices": [str(device)]},
        "secrets": {"usage_prefix": f"{name}/"},
    }
    daemon = start_daemon(name, overrides=overrides)
    client = connect(daemon)
    secret = secret_info(uuid.uuid4(), Sensitive(b""), usageID=f"{name}/key")
    secret["password"] = site.ceph.create_user(name)
    client.call("Host.registerSecrets", secrets=[secret])
    made = Site(client, daemon, secret["uuid"], uuid.uuid4(), site.ceph, site.recording)
    client.call("StorageDomain.connect", **domain_settings(made, user=name))
    yield made
    daemon.stop()


def test_a_device_holds_the_volume_zeros_and_all_and_gives_it_back(
    served: Site, device: Path, name: str
) -> None:
    served.volume("create", name, size=SIZE - MiB)
    with served.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name) as image:
        image.write(os.urandom(3 * MiB), 5 * MiB + 77)
    place: dict[str, Any] = {"storageDomainID": served.storage_domain_id, "path": str(device)}
    told = result_of(served, "export", **place, volumeName=name, checksum=True)
    with device.open("rb") as file:
        raw = file.read()
    with served.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, name, read_only=True) as image:
        assert raw[: SIZE - MiB] == image.read(0, SIZE - MiB)
    # What lies behind the volume is left alone.
    assert raw[SIZE - MiB :] == b"\xaa" * MiB
    assert content(served.ceph, name).split()[1] == told["sha256"]
    back = result_of(served, "import", **place, volumeName=f"{name}-back")
    assert back["size"] == SIZE
    with served.ceph.pool(POOL) as ioctx, rbd.Image(ioctx, f"{name}-back") as image:
        assert image.read(0, SIZE) == raw


def test_a_device_that_is_too_small_or_in_use_or_not_allowed_is_told(
    served: Site, device: Path, name: str
) -> None:
    served.volume("create", name, size=2 * SIZE)
    params = {"storageDomainID": served.storage_domain_id, "volumeName": name}
    job = start(served, "export", **params, path=str(device))
    told = served.client.wait_for_job(job, 60)
    assert told["error"]["data"]["error"] == "FileFailed"
    assert str(SIZE) in told["error"]["message"]
    with device.open("rb") as file:
        assert file.read() == b"\xaa" * SIZE
    fd = os.open(device, os.O_RDWR | os.O_EXCL)
    try:
        error = error_of(served.call, "Volume.export", **params, path=str(device))
    finally:
        os.close(fd)
    assert error.name == "PathNotAllowed"
    assert "busy" in error.message
    error = error_of(served.call, "Volume.export", **params, path="/dev/loop0")
    assert error.name == "PathNotAllowed"
