"""TCP sockets to listen on, and what is set on each connection."""

from __future__ import annotations

import errno
import socket

import pytest

from virtceph.config import ConfigError
from virtceph.rpc import listening
from virtceph.rpc.listening import address_of, is_loopback, make_ready, open_tcp


def test_every_address_is_also_that_of_ipv4() -> None:
    with open_tcp("::", 0, "x") as listener:
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            with socket.create_connection((address, port), 5):
                accepted, _ = listener.accept()
                with accepted:
                    told = make_ready(accepted)
                    assert told.startswith("127.0.0.1:" if address == "127.0.0.1" else "[::1]:")
        assert not is_loopback(listener)


def test_a_host_without_ipv6_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    real = listening._listen

    def listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, address, port)

    monkeypatch.setattr(listening, "_listen", listen)
    with open_tcp("::", 0, "x") as listener:
        assert listener.getsockname()[0] == "0.0.0.0"
    with pytest.raises(OSError, match="not supported"):
        open_tcp("::1", 0, "x")


@pytest.mark.parametrize(
    ("address", "loopback"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False)]
)
def test_only_a_loopback_address_is_one(address: str, loopback: bool) -> None:
    with open_tcp(address, 0, "x") as listener:
        assert is_loopback(listener) is loopback


def test_a_taken_port_and_a_foreign_address_are_told() -> None:
    with open_tcp("127.0.0.1", 0, "x") as listener, pytest.raises(OSError, match="in use"):
        open_tcp("127.0.0.1", listener.getsockname()[1], "x")
    with pytest.raises(OSError, match="assign"):
        open_tcp("192.0.2.1", 0, "x")


@pytest.mark.parametrize("address", ["localhost", "", "*", "127.1"])
def test_what_is_no_address_is_told_by_its_option(address: str) -> None:
    with pytest.raises(ConfigError, match=r"stomp\.address: .*: expected an IP address"):
        open_tcp(address, 0, "stomp.address")


def test_a_connection_sends_at_once_and_finds_out_when_the_other_end_is_gone() -> None:
    with (
        open_tcp("127.0.0.1", 0, "x") as listener,
        socket.create_connection(listener.getsockname()),
    ):
        accepted, _ = listener.accept()
        with accepted:
            make_ready(accepted)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert not accepted.getblocking()
    with socket.socket() as gone:
        assert address_of(gone) == ""
