"""Which sockets the daemon serves: systemd's by their names, and its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.lab.state import free_port
from virtceph import config, systemd
from virtceph.config import ConfigError
from virtceph.process import StartError
from virtceph.sockets import Sockets, Tls, tls_of


def settings(folder: Path, **stomp: object) -> config.Config:
    options = {"enabled": True, "tls": False, "address": "127.0.0.1", **stomp}
    http = {"socket": str(folder / "s"), "socket_group": "no-such-group"}
    return config.parse({"http": http, "stomp": options})


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, socket.socket]]:
    """What systemd passes: the test fills it in."""
    found: list[tuple[str, socket.socket]] = []
    monkeypatch.setattr(systemd, "listen_sockets", lambda: [one for _name, one in found])
    monkeypatch.setattr(systemd, "listen_names", lambda: [name for name, _one in found])
    return found


def test_sockets_of_systemds_are_taken_by_their_names(
    passed: list[tuple[str, socket.socket]], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as unix, socket.create_server(("127.0.0.1", 0)) as tcp:
        passed += [("stomp", tcp), ("virtcephd.socket", unix)]
        taken = Sockets.of_systemd(settings(tmp_path))
        assert (taken.http, taken.stomp) == ([unix], [tcp])
        taken.open_missing(settings(tmp_path))
        assert (taken.http, taken.stomp) == ([unix], [tcp])


def test_a_tcp_socket_that_nobody_would_serve_stops_the_start(
    passed: list[tuple[str, socket.socket]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp:
        passed[:] = [("other", tcp)]
        with pytest.raises(StartError, match="the TCP socket other: expected one of the names"):
            Sockets.of_systemd(settings(tmp_path))
        passed[:] = [("stomp", tcp)]
        with pytest.raises(StartError, match=r"the TCP socket stomp: .* has it served"):
            Sockets.of_systemd(settings(tmp_path, enabled=False))


def test_what_is_missing_is_opened(tmp_path: Path) -> None:
    port = free_port()
    found = Sockets()
    found.open_missing(settings(tmp_path, port=port))
    (unix,), (tcp,) = found.http, found.stomp
    assert unix.getsockname() == str(tmp_path / "s")
    assert tcp.getsockname() == ("127.0.0.1", port)
    with pytest.raises(
        StartError, match=rf"stomp: 127\.0\.0\.1 port {port}: Address already in use"
    ):
        Sockets(http=[unix]).open_missing(settings(tmp_path, port=port))
    unix.close()
    tcp.close()


def test_engines_are_served_when_that_is_said(tmp_path: Path) -> None:
    found = Sockets()
    found.open_missing(settings(tmp_path, enabled=False))
    assert found.stomp == []
    found.http[0].close()
    assert config.Config().stomp.enabled is False


def test_without_tls_only_a_loopback_address_is_served(
    passed: list[tuple[str, socket.socket]], tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        found = Sockets(http=[unix])
        with pytest.raises(ConfigError, match=r"stomp\.tls: only a loopback address"):
            found.open_missing(settings(tmp_path, address="0.0.0.0", port=free_port()))
        found.stomp[0].close()
    with (
        socket.create_server(("0.0.0.0", 0)) as tcp,
        pytest.raises(ConfigError, match=r"stomp\.tls: only a loopback address"),
    ):
        Sockets(http=[tcp], stomp=[tcp]).open_missing(settings(tmp_path))


def test_certificates_are_looked_at_only_where_they_are_used(tmp_path: Path) -> None:
    assert tls_of(settings(tmp_path)) == Tls(stomp=None, http=None)
    assert tls_of(settings(tmp_path, enabled=False, tls=True)) == Tls(stomp=None, http=None)
    with pytest.raises(ConfigError, match=r"stomp\.certificate: /nowhere: No such file"):
        tls_of(settings(tmp_path, tls=True, certificate="/nowhere"))


@pytest.mark.parametrize(
    ("names", "count", "expected"),
    [
        ("stomp:virtcephd.socket", 2, ["stomp", "virtcephd.socket"]),
        ("", 2, ["", ""]),
        ("stomp", 2, ["stomp", ""]),
        ("a:b:c", 1, ["a"]),
    ],
)
def test_there_is_a_name_for_each_socket_of_systemds(
    monkeypatch: pytest.MonkeyPatch, names: str, count: int, expected: list[str]
) -> None:
    monkeypatch.setenv("LISTEN_FDNAMES", names)
    monkeypatch.setenv("LISTEN_FDS", str(count))
    assert systemd.listen_names() == expected
    monkeypatch.delenv("LISTEN_FDS")
    assert systemd.listen_names() == []
    assert os.environ["LISTEN_FDNAMES"] == names
