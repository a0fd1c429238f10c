"""The keys of this run are in nothing that the run produced. Runs after all other tests."""

from __future__ import annotations

import base64
import os
import resource
import secrets
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import Site, domain_settings, secret_info
from tests.integration.produced import holding, replies_holding
from tests.integration.recorder import RecordingClient, error_of
from tests.integration.sampled import Sampled
from tests.lab import user
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from tests.lab.processes import wait_until
from virtceph.sensitive import Sensitive

# Runs a program in a folder where it may leave a core.
WITH_CORES = ("sh", "-c", 'cd "$0" && ulimit -c unlimited && exec "$@"')


@pytest.fixture
def cores(lab_state: Path) -> Path:
    """Where processes of these tests leave their core files, if they do."""
    made, account = lab_state / "cores", user.ensure()
    made.mkdir(exist_ok=True)
    os.chown(made, account.uid, account.gid)
    return made


def cores_in(folder: Path) -> list[Path]:
    # A kernel may add the process's number.
    return list(folder.glob("core*"))


def workers_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def no_core_because() -> str | None:
    """Why this host leaves no core file in the folder where a process runs, if so."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if not pattern.startswith("core"):
        return f"the kernel's core_pattern is {pattern!r}"
    if not resource.getrlimit(resource.RLIMIT_CORE)[1]:
        return "core files are forbidden here (ulimit -H -c)"
    return None


def test_a_process_that_is_not_protected_leaves_a_core_with_its_key(cores: Path) -> None:
    """Else the search for cores of the daemon would find none whatever it did."""
    if reason := no_core_because():
        pytest.skip(reason)
    key = secrets.token_bytes(24)
    held = "import os, sys; key = sys.stdin.buffer.read(); os.kill(os.getpid(), 11)"
    drop = ["setpriv", "--reuid", user.NAME, "--regid", user.NAME, "--clear-groups"]
    argv = [*drop, *WITH_CORES, str(cores), "/usr/bin/python3", "-c", held]
    done = subprocess.run(argv, input=key, check=False)
    assert done.returncode == -signal.SIGSEGV
    (core,) = cores_in(cores)
    assert key in core.read_bytes()
    core.unlink()


def test_a_key_of_this_run_is_found_nowhere(
    site: Site,
    vm: Guest,
    canary: bytes,
    ceph_key: str,
    sampled: Sampled,
    lab_state: Path,
    cores: Path,
    start_daemon: Callable[..., Daemon],
    connect: Callable[..., RecordingClient],
) -> None:
    options = {"overrides": {"secrets": {"usage_prefix": "canary/"}}}
    daemon = start_daemon("canary", launcher=(*WITH_CORES, str(cores)), **options)
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
    # With workers, who have the other key.
    other = secret_info(uuid.uuid4(), Sensitive(b""), usageID="canary/ceph") | {
        "password": ceph_key
    }
    client.call("Host.registerSecrets", secrets=[other])
    client.call("StorageDomain.connect", **{**settings, "secretUUID": other["uuid"]})
    client.call("Volume.list", storageDomainID=settings["storageDomainID"])
    wait_until(lambda: workers_of(daemon.pid), "a worker", 20)
    # A core is forced out of both.
    os.kill(workers_of(daemon.pid)[0], signal.SIGSEGV)
    os.kill(daemon.pid, signal.SIGSEGV)
    daemon.kill()
    time.sleep(0.5)
    assert cores_in(cores) == []
    keys = canary, base64.b64decode(ceph_key)
    assert holding(lab_state, keys) == []
    assert site.recording.replies
    assert replies_holding(site.recording.replies, keys) == []
    assert sampled.hits == set()
    assert sampled.searched > 100


def test_a_key_that_stands_in_an_argument_is_seen() -> None:
    """The same is true of the sampling."""
    key, own = secrets.token_bytes(24), Sampled()
    own.look_for(key)
    own.begin()
    for text in (key.hex(), base64.b64encode(key).decode()):
        subprocess.run(["/bin/sleep", "0.5"], check=True, env={"KEY": text})
        subprocess.run(["/bin/sh", "-c", "sleep 0.5; true", text], check=True)
    own.end()
    assert own.hits == {"environ of sleep", "cmdline of sh"}


def test_a_search_finds_a_key_that_does_lie_about(canary: bytes, lab_state: Path) -> None:
    """The search itself is no formality."""
    leak = lab_state / "leak"
    leak.write_bytes(b"x" + base64.b64encode(canary) + b"y")
    found = holding(lab_state, [canary])
    leak.unlink()
    assert found == [leak]
    assert replies_holding(["x", f"x{canary.hex()}"], [canary]) == [f"x{canary.hex()}"]
