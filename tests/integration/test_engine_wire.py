"""Engines' clients on the daemon as it runs in production: who gets in, what is answered, how it stops."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Site
from tests.integration.recorder import Recording
from tests.integration.test_daemon import config, daemon_command
from tests.integration.test_storage import CEPHX_KEY
from tests.lab.daemon import Daemon
from tests.lab.guest import Guest
from tests.lab.libvirtd import PrivateLibvirtd
from tests.lab.pki import HOST, UNKNOWN, Authority, LabPki
from tests.lab.state import PROJECT, free_port
from tests.wire.clients import JavaLike, PythonLike
from tests.wire.serving import client_tls

Address = tuple[str, int]


@pytest.fixture
def call_as(site: Site, pki: LabPki, stomp: Address) -> Iterator[Callable[[str], PythonLike]]:
    """Opens clients of the run's daemon, as callers of the lab."""
    opened: list[PythonLike] = []

    def connect(caller: str, address: Address = stomp) -> PythonLike:
        opened.append(PythonLike(address, client_tls(pki.of(caller)), 60.0))
        return opened[-1]

    yield connect
    for client in opened:
        client.close()


def wait_for(path: Path, text: str) -> None:
    deadline_s = time.monotonic() + 10
    while text not in path.read_text():
        assert time.monotonic() < deadline_s, f"no {text!r} in {path}"
        time.sleep(0.02)


def test_every_transcript_holds_on_the_real_daemon(site: Site, pki: LabPki, stomp: Address) -> None:
    host = pki.host
    command = [sys.executable, "-m", "tests.wire", f"{stomp[0]}:{stomp[1]}", "--at-once", "40"]
    command += ["--tls", str(host.certificate), str(host.key), str(host.ca)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, check=False, cwd=PROJECT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_engine_does_its_work(
    site: Site, vm: Guest, call_as: Callable[[str], PythonLike]
) -> None:
    engine = call_as("engine.lab")
    secret = {
        "uuid": str(uuid.uuid4()),
        "usageType": "ceph",
        "usageID": f"ovirt/{uuid.uuid4()}",
        "password": base64.b64encode(b"a key of an engine").decode(),
        "description": "",
    }
    assert engine.call("Host.registerSecrets", secrets=[secret], clear=False) is True
    assert secret["uuid"] in {known["uuid"] for known in engine.call("Host.listSecrets")}
    assert engine.call("Host.unregisterSecrets", uuids=[secret["uuid"]]) is True
    assert vm.uuid in {known["vmId"] for known in engine.call("Host.getVMList", fullStatus="true")}
    # To engines these answer just true.
    assert engine.call("VM.freeze", vmID=vm.uuid) is True
    assert site.call("VM.getFreezeStatus", vmID=vm.uuid)["lease"]["owner"].startswith(
        "cert:CN=engine.lab"
    )
    assert engine.call("VM.thaw", vmID=vm.uuid) is True
    unknown = engine.call("VM.thaw", vmID=str(uuid.uuid4()))
    assert unknown["code"] == 1
    assert set(unknown) == {"code", "message"}


def test_a_java_client_is_answered_at_once(site: Site, pki: LabPki, stomp: Address) -> None:
    client = JavaLike(stomp, client_tls(pki.of("engine.lab")))
    try:
        for method in ("Host.ping2", "Host.getVMList") * 3:
            assert client.until_answered(client.ask(method, 16), 10) < 5
    finally:
        client.close()


@pytest.mark.parametrize(
    ("caller", "freeze", "keys"),
    [("monitor.lab", 5000, 5000), ("operator.lab", 1, 5000), ("engine.lab", 1, None)],
)
def test_each_caller_may_do_what_its_level_allows(
    site: Site,
    call_as: Callable[[str], PythonLike],
    recording: Recording,
    caller: str,
    freeze: int,
    keys: int | None,
) -> None:
    client = call_as(caller)
    assert client.call("Host.ping2") is True
    denied = client.call("VM.freeze", vmID=str(uuid.uuid4()))
    assert denied["code"] == freeze
    answer = client.call("Host.unregisterSecrets", uuids=[])
    assert (answer if keys is None else answer["code"]) == (True if keys is None else keys)
    if freeze == 5000:
        recording.seen.add(("VM.freeze", "AccessDenied"))
        assert caller in denied["message"]


def test_a_stranger_gets_nothing_and_is_told_in_the_log(
    site: Site, pki: LabPki, stomp: Address
) -> None:
    tls, came = client_tls(pki.of(UNKNOWN)), b""
    with (
        contextlib.suppress(ConnectionError, ssl.SSLError),
        tls.wrap_socket(socket.create_connection(stomp, 10)) as connection,
    ):
        connection.sendall(b"CONNECT\naccept-version:1.2\n\n\0")
        came = connection.recv(100)
    assert came == b""
    wait_for(site.daemon.folder / "log", f"CN={UNKNOWN}")


def test_the_flow_of_a_request_is_in_the_log(
    site: Site, call_as: Callable[[str], PythonLike]
) -> None:
    call_as("engine.lab").call("Host.getVMList")
    wait_for(site.daemon.folder / "log", "flow=f1")


# --- the service ---


@pytest.fixture
def other(
    start_daemon: Callable[..., Daemon], lab_state: Path
) -> Iterator[tuple[Daemon, LabPki, Address]]:
    """A daemon of the test's own, with certificates of its own."""
    name = f"wire-{uuid.uuid4().hex[:6]}"
    pki, port = LabPki.make(lab_state / f"pki-{name}"), free_port()
    overrides = {**pki.settings(port), "secrets": {"usage_prefix": f"{name}/"}}
    daemon = start_daemon(name, overrides=overrides)
    yield daemon, pki, ("127.0.0.1", port)
    daemon.kill()


def subject_at(address: Address, pki: LabPki) -> Any:
    tls = client_tls(pki.of("engine.lab"))
    with tls.wrap_socket(socket.create_connection(address, 10)) as connection:
        certificate = connection.getpeercert()
        assert certificate is not None
        return dict(pair for (pair,) in certificate["subject"])["commonName"]  # type: ignore


def test_a_new_certificate_is_taken_while_it_runs_and_a_broken_one_is_not(
    other: tuple[Daemon, LabPki, Address],
) -> None:
    daemon, pki, address = other
    client = PythonLike(address, client_tls(pki.of("engine.lab")))
    assert subject_at(address, pki) == HOST
    key, certificate = pki.host.key.read_bytes(), pki.host.certificate.read_bytes()
    pki.host.certificate.write_text("rubbish")
    daemon.process.send(signal.SIGHUP)
    wait_for(daemon.folder / "log", "certificate not renewed")
    assert subject_at(address, pki) == HOST
    pki.host.certificate.write_bytes(certificate)
    pki.host.key.write_bytes(key)
    daemon.process.send(signal.SIGHUP)
    wait_for(daemon.folder / "log", "certificate loaded")
    # Who was connected all the time has noticed nothing.
    assert client.call("Host.ping2") is True
    assert client.connections == 1
    client.close()


def test_a_daemon_that_stops_serves_a_thaw_to_the_end(
    other: tuple[Daemon, LabPki, Address], vm: Guest
) -> None:
    daemon, pki, address = other
    engine, slow = (PythonLike(address, client_tls(pki.of("engine.lab"))) for _ in range(2))
    secret = {
        "uuid": str(uuid.uuid4()),
        "usageType": "ceph",
        "usageID": f"{daemon.folder.name}/key",
        "password": base64.b64encode(CEPHX_KEY).decode(),
    }
    assert engine.call("Host.registerSecrets", secrets=[secret]) is True
    assert engine.call("VM.freeze", vmID=vm.uuid) is True
    # Under way for some seconds: nobody answers at this address.
    domain = {"storageDomainID": str(uuid.uuid4()), "name": "x", "monitors": ["127.0.0.1:1"]}
    domain |= {"user": "x", "secretUUID": secret["uuid"], "pool": "x"}
    outcome: list[Any] = []
    asking = threading.Thread(
        target=lambda: outcome.append(slow.call("StorageDomain.connect", **domain))
    )
    asking.start()
    wait_for(daemon.folder / "log", "START StorageDomain.connect")
    try:
        daemon.process.send(signal.SIGTERM)
        wait_for(daemon.folder / "log", "stopping")
        assert engine.call("Host.ping2")["code"] == 5104
        # Over a connection that is opened now.
        late = PythonLike(address, client_tls(pki.of("engine.lab")))
        assert late.call("VM.thaw", vmID=vm.uuid) is True
        late.close()
    finally:
        asking.join(60)
        engine.close()
        slow.close()
    # What was under way was answered.
    assert outcome[0]["code"] > 0
    assert daemon.process.wait(30)
    assert daemon.process.exit_code == 0


def test_a_tcp_socket_of_systemds_is_taken(
    libvirtd: PrivateLibvirtd, pki: LabPki, tmp_path: Path
) -> None:
    """As systemd does: the socket is descriptor 3, its name is in LISTEN_FDNAMES."""
    listener = socket.create_server(("127.0.0.1", 0))
    address = listener.getsockname()
    settings = config(
        tmp_path, libvirt={"uri": libvirtd.uri}, secrets={"usage_prefix": "tcp/"},
        http={"socket": str(tmp_path / "s")}, daemon={"runtime_dir": str(tmp_path / "run"),
                                                     "state_dir": str(tmp_path / "state")},
        access=pki.settings(1)["access"],
        stomp={**pki.host.options(), "enabled": True, "port": free_port()},
    )  # fmt: skip
    variables = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=stomp"
    started = subprocess.Popen(
        ["bash", "-c", f'{variables}; exec 3<&{listener.fileno()}; exec "$@"', "bash",
         sys.executable, "-m", "virtceph.daemon", "--config", settings],
        pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # The connection waits in the socket's queue until the daemon takes it.
        client = PythonLike(address, client_tls(pki.of("engine.lab")), 30.0)
        assert client.call("Host.ping2") is True
        client.close()
    finally:
        listener.close()
        started.send_signal(signal.SIGTERM)
        assert started.wait(30) == 0


def test_what_cannot_be_listened_with_stops_the_start_and_names_the_option(
    libvirtd: PrivateLibvirtd, pki: LabPki, tmp_path: Path
) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    good = {**pki.host.options(), "enabled": True, "address": "127.0.0.1", "port": free_port()}
    other = Authority().issue(tmp_path / "other", HOST)
    for options, told in {
        "/nowhere": ({"certificate": "/nowhere"}, "stomp.certificate: /nowhere: No such file"),
        "key": ({"key": str(other.key)}, "stomp.key: "),
        "port": ({"port": taken.getsockname()[1]}, "Address already in use"),
        "plain": ({"tls": False, "address": "0.0.0.0"}, "stomp.tls: only a loopback address"),
        "address": ({"address": "nohost"}, "stomp.address: nohost: expected an IP address"),
    }.values():
        settings = config(
            tmp_path, libvirt={"uri": libvirtd.uri}, secrets={"usage_prefix": "none/"},
            http={"socket": str(tmp_path / "s")}, stomp={**good, **options},
        )  # fmt: skip
        done = daemon_command("--config", settings)
        assert done.returncode == 1, told
        assert told in done.stderr
        # One line for people, and no traceback.
        last = done.stderr.splitlines()[-1]
        assert last.startswith("virtcephd: "), done.stderr
    taken.close()


def test_connections_that_come_and_go_leave_no_descriptor(
    site: Site, pki: LabPki, stomp: Address
) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{site.daemon.pid}/fd"))

    tls = client_tls(pki.of("engine.lab"))
    before = descriptors()
    for _ in range(100):
        client = PythonLike(stomp, tls)
        assert client.call("Host.ping2") is True
        client.close()
    deadline_s = time.monotonic() + 10
    while descriptors() > before + 2:
        assert time.monotonic() < deadline_s, (before, descriptors())
        time.sleep(0.1)


def test_answers_over_both_wires_have_the_same_members(
    site: Site, call_as: Callable[[str], PythonLike]
) -> None:
    engine = call_as("engine.lab")
    ours, theirs = site.call("Host.getCapabilities"), engine.call("Host.getCapabilities")
    assert set(ours) == set(theirs)
    assert site.call("Host.listSecrets") == engine.call("Host.listSecrets")
