"""`virtceph adopt-secret` on a real libvirt and cluster: the key proved, nothing lost, and a way back."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import tomllib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import libvirt
import pytest

from tests.integration.examined import define_secret, define_vm, examine, virtceph
from tests.integration.site import Site
from tests.lab.ceph import CephCluster
from tests.lab.domain_xml import RbdDisk
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.stack import IMAGE_BYTES, POOL

NOBODY = "/nonexistent/virtcephd.sock"


@dataclass
class Kept:
    """A persistent secret with the key of a user, and a VM that is off and names it."""

    connection: libvirt.virConnect
    libvirtd: PrivateLibvirtd
    ceph: CephCluster
    user: str
    key: str
    uuid: UUID

    def adopt(self, *words: str, socket: str = NOBODY) -> subprocess.CompletedProcess[str]:
        where = ["--connect", self.libvirtd.uri, "--socket", socket]
        folder = ["--libvirt-dir", str(self.libvirtd.folder / "etc")]
        return virtceph("adopt-secret", str(self.uuid), *where, *folder, *words)

    @property
    def xml(self) -> str:
        secret = self.connection.secretLookupByUUIDString(str(self.uuid))
        return str(secret.XMLDesc())

    @property
    def value(self) -> str:
        secret = self.connection.secretLookupByUUIDString(str(self.uuid))
        return base64.b64encode(secret.value()).decode()

    @property
    def files(self) -> list[str]:
        return [p.name for p in (self.libvirtd.folder / "etc/secrets").glob(f"{self.uuid}*")]


@pytest.fixture
def kept(
    libvirtd: PrivateLibvirtd, connection: libvirt.virConnect, ceph: CephCluster
) -> Iterator[Kept]:
    user = f"adopt{uuid.uuid4().hex[:6]}"
    key = ceph.create_user(user)
    ident = define_secret(connection, key, ephemeral=False)
    vm = define_vm(connection, user, RbdDisk(POOL, "image", ceph.monitors, user, ident))
    yield Kept(connection, libvirtd, ceph, user, key, ident)
    vm.undefine()
    with contextlib.suppress(libvirt.libvirtError):
        connection.secretLookupByUUIDString(str(ident)).undefine()


def shell(kept: Kept, text: str) -> None:
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LIBVIRT_DEFAULT_URI": kept.libvirtd.uri,
    }
    subprocess.run(["sh", "-e", "-c", text], env=environment, check=True, timeout=60)


def undo(output: str) -> str:
    return output[output.index("# to undo it:") : output.index("# (that was how)")]


def test_a_persistent_secret_becomes_ephemeral_with_its_key_and_uuid_and_back_again(
    kept: Kept, tmp_path: Path
) -> None:
    before = kept.xml
    assert len(kept.files) == 2
    done = kept.adopt("--key-file", str(tmp_path / "web.key"), "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert kept.key not in done.stdout
    assert f"the cluster {kept.ceph.fsid} knows it as the key of client.{kept.user}" in done.stdout
    assert kept.files == []
    assert "ephemeral='yes' private='yes'" in kept.xml
    assert f"<name>ovirt/{kept.user}</name>" in kept.xml
    assert (tmp_path / "web.key").read_text() == kept.key
    assert (tmp_path / "web.key").stat().st_mode & 0o777 == 0o640
    found = examine(kept.libvirtd)
    assert found.vm(kept.user)["keys"] == ["ephemeral"]
    assert "secret-persistent" not in found.codes(f"secret {kept.uuid}")
    text = done.stdout[done.stdout.index("[[secret]]") :]
    told = tomllib.loads(text)["secret"][0]
    assert told["uuid"] == str(kept.uuid)
    assert told["key_file"] == str(tmp_path / "web.key")
    assert told["usage_id"] == f"ovirt/{kept.user}"
    # A VM can be started with it: the key in it is the right one.
    shell(kept, undo(done.stdout))
    assert (kept.xml, kept.value) == (before, kept.key)
    assert len(kept.files) == 2


def test_a_running_vm_does_not_notice(
    kept: Kept, tmp_path: Path, make_guest: Callable[..., Guest]
) -> None:
    kept.ceph.create_image(POOL, kept.user, IMAGE_BYTES)
    guest = make_guest(disks=[RbdDisk(POOL, kept.user, kept.ceph.monitors, kept.user, kept.uuid)])
    guest.wait_for_records()
    assert kept.adopt("--forget", "--yes").returncode == 0
    guest.wait_for_records(count=3)


def test_with_a_daemon_the_key_is_registered_there_and_is_back_after_libvirts_restart(
    kept: Kept, site: Site
) -> None:
    socket = str(site.daemon.socket)
    done = kept.adopt("--forget", "--yes", "--usage-id", f"ovirt/x/{kept.user}", socket=socket)
    assert (done.returncode, done.stderr) == (0, "")
    assert "registered with virtcephd" in done.stdout
    listed = {entry["uuid"] for entry in site.call("Host.listSecrets")}
    assert str(kept.uuid) in listed
    assert f"Host unregisterSecrets uuids={kept.uuid}" in done.stdout
    site.call("Host.unregisterSecrets", uuids=[kept.uuid])


def test_a_usage_that_the_daemon_refuses_leaves_everything_as_it_was(
    kept: Kept, site: Site, tmp_path: Path
) -> None:
    before = kept.xml
    path = tmp_path / "web.key"
    words = ["--key-file", str(path), "--yes", "--usage-id", "foreign/web"]
    done = kept.adopt(*words, socket=str(site.daemon.socket))
    assert done.returncode == 1
    assert "the persistent secret is there again" in done.stderr
    assert (kept.xml, kept.value, len(kept.files)) == (before, kept.key, 2)
    assert not path.exists()


def test_a_key_that_the_cluster_does_not_know_is_not_adopted(kept: Kept, tmp_path: Path) -> None:
    wrong = base64.b64decode(kept.ceph.create_user(f"{kept.user}-other"))
    kept.connection.secretLookupByUUIDString(str(kept.uuid)).setValue(wrong)
    before = kept.xml
    done = kept.adopt("--key-file", str(tmp_path / "web.key"), "--yes")
    assert done.returncode == 1
    assert f"as client.{kept.user}" in done.stderr
    assert (kept.xml, kept.value) == (before, base64.b64encode(wrong).decode())
    assert not (tmp_path / "web.key").exists()


def test_a_secret_that_is_private_is_read_from_libvirts_folder(
    kept: Kept, connection: libvirt.virConnect
) -> None:
    ident = define_secret(connection, kept.key, ephemeral=False, private=True)
    private = Kept(connection, kept.libvirtd, kept.ceph, kept.user, kept.key, ident)
    try:
        done = private.adopt(
            "--forget", "--yes", "--user", kept.user, "--monitors", kept.ceph.monitors[0]
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert private.files == []
    finally:
        connection.secretLookupByUUIDString(str(ident)).undefine()


def test_what_cannot_be_adopted_is_said_and_changes_nothing(kept: Kept, tmp_path: Path) -> None:
    before = kept.xml
    there = tmp_path / "there"
    there.write_text("something else")
    refusals = [
        (["--key-file", str(there), "--yes"], 1, "with something else in it"),
        (["--key-file", "/nonexistent/folder/key", "--yes"], 1, "No such file or directory"),
        (["--forget"], 2, "say --yes"),
        ([], 2, "where the key is kept"),
        (["--forget", "--user", "x"], 2, "go together"),
    ]
    for words, code, told in refusals:
        done = kept.adopt(*words)
        assert (done.returncode, told in done.stderr) == (code, True), done.stderr
    assert (kept.xml, kept.value) == (before, kept.key)
    assert there.read_text() == "something else"
    assert kept.adopt("--forget", "--yes").returncode == 0
    again = kept.adopt("--forget", "--yes")
    assert again.returncode == 1
    assert "ephemeral already" in again.stderr


@pytest.fixture
def host_key() -> Iterator[None]:
    """The host's key, which the first credential makes, is gone afterwards if it was not there."""
    path = Path("/var/lib/systemd/credential.secret")
    there = path.exists()
    yield
    if not there:
        path.unlink(missing_ok=True)


@pytest.mark.usefixtures("host_key")
def test_the_key_can_be_kept_as_an_encrypted_credential(kept: Kept, tmp_path: Path) -> None:
    probe = subprocess.run(
        ["systemd-creds", "encrypt", "--name=x", "-", "-"], input=b"x", capture_output=True
    )
    if probe.returncode:
        pytest.skip(f"systemd-creds: {probe.stderr.decode()}")
    path = tmp_path / "web.key"
    done = kept.adopt("--credential", str(path), "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"LoadCredentialEncrypted=web.key:{path}" in done.stdout
    assert 'key_file = "web.key"' in done.stdout
    assert kept.key.encode() not in path.read_bytes()
    shell(kept, undo(done.stdout))
    assert kept.value == kept.key
