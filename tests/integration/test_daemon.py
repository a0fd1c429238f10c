"""virtcephd as a service: how it starts, who may call it, how it stops."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest

from tests.integration.conftest import Site, secret_info
from tests.integration.recorder import RecordingClient
from tests.lab import user
from tests.lab.daemon import Daemon
from tests.lab.errors import NotReady
from tests.lab.libvirtd import PrivateLibvirtd
from virtceph.sensitive import Sensitive


def status_field(pid: int, name: str) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    raise LookupError(name)


def daemon_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "virtceph.daemon", *arguments],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def config(folder: Path, **sections: dict[str, object]) -> str:
    path = folder / "virtcephd.toml"
    lines = []
    sections = {"daemon": {"runtime_dir": str(folder / "run")}, **sections}
    for section, options in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    path.write_text("\n".join(lines))
    return str(path)


def test_it_runs_without_capabilities_and_not_as_root(site: Site) -> None:
    pid = site.daemon.pid
    account = user.ensure()
    assert status_field(pid, "Uid").split() == [str(account.uid)] * 4
    assert status_field(pid, "CapEff") == status_field(pid, "CapBnd") == "0" * 16
    assert status_field(pid, "NoNewPrivs") == "1"


def test_its_workers_run_as_it_does(site: Site) -> None:
    children = Path(f"/proc/{site.daemon.pid}/task/{site.daemon.pid}/children").read_text().split()
    # Workers are started by threads of the daemon, so they are children of its other tasks.
    tasks = Path(f"/proc/{site.daemon.pid}/task").iterdir()
    children = [pid for task in tasks for pid in (task / "children").read_text().split()]
    assert children
    for pid in children:
        assert status_field(int(pid), "CapEff") == "0" * 16
        assert status_field(int(pid), "Uid") == status_field(site.daemon.pid, "Uid")


def test_it_leaves_no_core_and_may_not_be_traced_by_its_own_user(site: Site) -> None:
    limits = Path(f"/proc/{site.daemon.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    # A process that is not dumpable belongs to root in /proc.
    assert Path(f"/proc/{site.daemon.pid}/environ").stat().st_uid == 0


def test_only_root_and_the_group_get_in(site: Site) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "Host.ping2"})

    def call(*account: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["setpriv", *account, "curl", "-s", "--unix-socket", str(site.daemon.socket), "-d", body,
             "-w", " %{http_code}", "http://localhost/jsonrpc"],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip

    group = str(user.ensure().gid)
    nobody = ["--reuid", "nobody", "--regid", "nogroup"]
    assert call("--reuid", "nobody", "--regid", group, "--clear-groups").stdout.endswith(" 200")
    assert call(*nobody, "--groups", group).stdout.endswith(" 200")
    # Already the socket's mode keeps others out.
    assert call(*nobody, "--clear-groups").returncode != 0


def test_peer_credentials_keep_others_out_even_where_the_mode_lets_them_in(site: Site) -> None:
    mode = site.daemon.socket.stat().st_mode
    site.daemon.socket.chmod(0o666)
    try:
        done = subprocess.run(
            ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "curl", "-s",
             "--unix-socket", str(site.daemon.socket), "-d", "{}", "-w", " %{http_code}",
             "http://localhost/jsonrpc"],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    finally:
        site.daemon.socket.chmod(mode)
    assert done.stdout.endswith(" 403")
    assert "[access]" in json.loads(done.stdout.rpartition(" ")[0])["error"]


def test_it_says_ready_and_stopping_and_feeds_the_watchdog(
    start_daemon: Callable[..., Daemon],
) -> None:
    daemon = start_daemon(
        "notifies", overrides={"secrets": {"usage_prefix": "n/"}, "daemon": {"drain_s": 300.0}},
        environment={"WATCHDOG_USEC": "400000"},
    )  # fmt: skip
    assert "READY=1" in daemon.notifications
    deadline_s = time.monotonic() + 10
    while daemon.notifications.count("WATCHDOG=1") < 3:
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    daemon.stop()
    assert "STOPPING=1" in daemon.notifications
    # Longer than the unit's TimeoutStopSec.
    assert "EXTEND_TIMEOUT_USEC=340000000" in daemon.notifications


def test_a_daemon_that_a_c_library_ends_says_where_it_was(
    start_daemon: Callable[..., Daemon],
) -> None:
    """As librados does, where it finds itself broken: there is no core file to look at."""
    daemon = start_daemon("aborted", overrides={"secrets": {"usage_prefix": "aborted/"}})
    daemon.process.send(signal.SIGABRT)
    assert daemon.process.wait(10)
    assert daemon.process.exit_code == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in daemon.log_text()
    assert "virtceph/daemon.py" in daemon.log_text()


def test_a_socket_of_systemds_is_taken(libvirtd: PrivateLibvirtd, tmp_path: Path) -> None:
    """By systemd's own program: it listens, and becomes the daemon when somebody connects."""
    path = tmp_path / "s"
    settings = config(
        tmp_path, libvirt={"uri": libvirtd.uri}, secrets={"usage_prefix": "activated/"},
        http={"socket": str(tmp_path / "other")},
    )  # fmt: skip
    started = subprocess.Popen(
        ["systemd-socket-activate", "--listen", str(path), sys.executable, "-m", "virtceph.daemon",
         "--config", settings],
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        from virtceph.client import connect

        while not _listened_on(path):
            assert started.poll() is None
            time.sleep(0.01)
        # The connection waits in the socket's queue until the daemon takes it.
        with connect(str(path), timeout_s=20) as client:
            assert client.Host.ping2() is True
        assert not (tmp_path / "other").exists()
    finally:
        started.send_signal(signal.SIGTERM)
        assert started.wait(20) == 0


def _listened_on(path: Path) -> bool:
    """Whether somebody listens there: a socket is bound, and has its name, some moments before."""
    accepts = "00010000"  # __SO_ACCEPTCON
    sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    return any(fields[3] == accepts and fields[-1] == str(path) for fields in sockets)


def test_stopping_clears_the_secrets_and_ends_with_status_0(
    libvirtd: PrivateLibvirtd, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    settings = config(
        tmp_path, libvirt={"uri": libvirtd.uri}, secrets={"usage_prefix": "stop/"},
        http={"socket": str(tmp_path / "s")},
    )  # fmt: skip
    started = subprocess.Popen(
        [sys.executable, "-m", "virtceph.daemon", "--config", settings], stderr=subprocess.DEVNULL
    )
    from virtceph.client import ConnectionFailed, connect

    deadline_s = time.monotonic() + 20
    while True:
        try:
            client = connect(str(tmp_path / "s"))
            break
        except ConnectionFailed:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
    secret = secret_info(uuid.uuid4(), Sensitive(b"x"), usageID="stop/key")
    client.call("Host.registerSecrets", secrets=[secret])
    client.close()
    assert "stop/key" in [s.usageID() for s in connection.listAllSecrets()]
    started.send_signal(signal.SIGTERM)
    assert started.wait(20) == 0
    assert "stop/key" not in [s.usageID() for s in connection.listAllSecrets()]


def test_clear_secrets_does_it_alone_and_leaves_others(
    site: Site, libvirtd: PrivateLibvirtd, connection: libvirt.virConnect, tmp_path: Path
) -> None:
    ident = uuid.uuid4()
    xml = f"<secret ephemeral='yes' private='yes'><uuid>{ident}</uuid><usage type='ceph'><name>left/key</name></usage></secret>"  # noqa: E501
    connection.secretDefineXML(xml).setValue(b"left by a crash")
    settings = config(tmp_path, libvirt={"uri": libvirtd.uri}, secrets={"usage_prefix": "left/"})
    assert daemon_command("--config", settings, "--clear-secrets").returncode == 0
    left = [s.usageID() for s in connection.listAllSecrets()]
    assert "left/key" not in left
    assert f"ovirt/{site.secret_uuid}" in left


def test_a_second_daemon_on_the_same_socket_does_not_start(
    site: Site, start_daemon: Callable[..., Daemon]
) -> None:
    settings = {"http": {"socket": str(site.daemon.socket)}, "secrets": {"usage_prefix": "2/"}}
    with pytest.raises(NotReady, match="another daemon listens"):
        start_daemon("twin", overrides=settings)
    assert site.call("Host.ping2") is True


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[http]\nsokcet = '/x'", "http.sokcet: no such option"),
        ("[lanes]\nagent = 99", "lanes.agent: expected 1 to 16"),
        ("[libvirt]\nuri = 5", "libvirt.uri: expected text"),
        ("nonsense", "virtcephd.toml"),
    ],
)
def test_a_wrong_configuration_stops_the_start_with_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "virtcephd.toml"
    path.write_text(text)
    done = daemon_command("--config", str(path))
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_no_libvirt_at_the_start_is_told_in_one_line(tmp_path: Path) -> None:
    settings = config(
        tmp_path, libvirt={"uri": "qemu+unix:///system?socket=/nosuch", "connect_timeout_s": 0.3}
    )
    done = daemon_command("--config", settings)
    assert done.returncode == 1
    assert "libvirt is unavailable" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("module", ["libvirt", "rados", "rbd"])
def test_a_missing_part_is_told_with_the_package_to_install(tmp_path: Path, module: str) -> None:
    """A module that raises as a missing one does comes first on the path."""
    (tmp_path / f"{module}.py").write_text(
        f"raise ModuleNotFoundError('No module named {module}', name={module!r})"
    )
    done = subprocess.run(
        [sys.executable, "-m", "virtceph.daemon"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"no Python module {module}: install python3-" in done.stderr.splitlines()[-1]


def test_a_killed_worker_costs_a_call_and_not_the_daemon(
    site: Site, connect: Callable[..., RecordingClient], image: str
) -> None:
    for task in Path(f"/proc/{site.daemon.pid}/task").iterdir():
        for pid in (task / "children").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
    assert site.volume("createSnapshot", image, snapshotName="after") is True
    assert [s["snapshotName"] for s in site.volume("listSnapshots", image)] == ["after"]


def test_every_verb_is_logged_with_its_request(site: Site, image: str) -> None:
    site.volume("createSnapshot", image, snapshotName="logged")
    lines = [line for line in site.daemon.log_text().splitlines() if image in line]
    start = next(line for line in lines if "START Volume.createSnapshot" in line)
    ident = start.split("[")[1].split("]")[0]
    finish = f"[{ident}] virtceph.rpc.calls: FINISH Volume.createSnapshot answer=ok"
    assert finish in site.daemon.log_text()
    assert "caller=unix:root" in start
