"""The keys of this run are in nothing that the run produced. Runs after all other tests."""

from __future__ import annotations

import base64
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Site, domain_settings, secret_info
from tests.integration.recorder import RecordingClient, error_of
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from virtceph.sensitive import Sensitive


def forms(key: bytes) -> list[bytes]:
    """How a key could show: as it is, in base64, in hex, as Python prints bytes."""
    return [key, base64.b64encode(key), key.hex().encode(), repr(key).encode()]


@pytest.fixture
def sampled() -> Iterator[set[bytes]]:
    """What stood in the argument lists and environments of all processes while the test ran."""
    seen: set[bytes] = set()
    stop = threading.Event()

    def sample() -> None:
        while not stop.is_set():
            for folder in Path("/proc").glob("[0-9]*"):
                for name in ("cmdline", "environ"):
                    try:
                        seen.add((folder / name).read_bytes())
                    except OSError:
                        continue
            time.sleep(0.02)

    thread = threading.Thread(target=sample)
    thread.start()
    yield seen
    stop.set()
    thread.join()


def files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        # The cluster keeps its users' keys: that is its job. The code is not of this run.
        folders[:] = [f for f in folders if not f.startswith("ceph") and f != "code"]
        for name in names:
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                yield path


def test_a_key_of_this_run_is_found_nowhere(
    site: Site,
    vm: Guest,
    canary: bytes,
    ceph_key: str,
    sampled: set[bytes],
    lab_state: Path,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
) -> None:
    daemon = start_daemon("canary", overrides={"secrets": {"usage_prefix": "canary/"}})
    client = connect(daemon)
    secret = secret_info(uuid.uuid4(), Sensitive(canary), usageID="canary/key")
    client.call("Host.registerSecrets", secrets=[secret])
    # Each way to get it wrong: beside a malformed field, in a field of the wrong type, twice.
    for change in ({"usageType": "nosuch"}, {"password": [Sensitive(canary)]}, {"colour": 1}):
        error_of(client.call, "Host.registerSecrets", secrets=[{**secret, **change}])
    error_of(client.call, "Host.registerSecrets", secrets=[secret, secret])
    client.call("Host.listSecrets")
    # librados itself prints a key that it cannot decode.
    settings = domain_settings(site, storageDomainID=uuid.uuid4(), secretUUID=secret["uuid"])
    error_of(client.call, "StorageDomain.connect", **settings)
    site.call("Volume.list", storageDomainID=site.storage_domain_id)
    # A core is forced out of a daemon that holds it, and out of a worker.
    os.kill(daemon.pid, signal.SIGSEGV)
    daemon.kill()
    children = [
        int(pid)
        for task in Path(f"/proc/{site.daemon.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    os.kill(children[0], signal.SIGSEGV)
    time.sleep(0.5)
    wanted = [form for key in (canary, base64.b64decode(ceph_key)) for form in forms(key)]
    found = [str(path) for path in files(lab_state) if any(f in path.read_bytes() for f in wanted)]
    assert found == []
    replies = "\n".join(site.recording.replies).encode()
    assert len(site.recording.replies) > 100 or "PYTEST_ALL" not in os.environ
    for form in wanted:
        assert form not in replies
        assert not any(form in text for text in sampled)
    assert len(sampled) > 10


def test_a_search_finds_a_key_that_does_lie_about(canary: bytes, lab_state: Path) -> None:
    """The search itself is no formality."""
    leak = lab_state / "leak"
    leak.write_bytes(b"x" + base64.b64encode(canary) + b"y")
    found = [p for p in files(lab_state) if any(f in p.read_bytes() for f in forms(canary))]
    leak.unlink()
    assert found == [leak]
