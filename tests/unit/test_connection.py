"""The watched connection: it comes back by itself, and nobody uses it before the secrets are back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.libvirt_error import bare_error
from tests.fakes.waiting import until
from virtceph import errors
from virtceph.virt import connection as module
from virtceph.virt.connection import Connection


class FakeConnect:
    """As virConnect: closing frees it only when its callback is unregistered."""

    def __init__(self) -> None:
        self.alive = self.open = True
        self.callback: Callable[[], None] | None = None

    def registerCloseCallback(self, callback: Callable[..., None], opaque: object) -> None:
        self.callback = lambda: callback(self, 1, opaque)

    def unregisterCloseCallback(self) -> None:
        self.callback = None

    def isAlive(self) -> bool:
        return self.alive

    def close(self) -> int:
        self.open = self.callback is not None
        return int(self.open)

    def die(self) -> None:
        """libvirtd goes away, and libvirt's event thread says so."""
        self.alive = False
        if self.callback is not None:
            self.callback()


class FakeLibvirt:
    """What opens connections. `refuse` makes it fail so many times."""

    def __init__(self) -> None:
        self.made: list[FakeConnect] = []
        self.refuse = 0

    def open(self, _uri: str) -> Any:
        if self.refuse:
            self.refuse -= 1
            raise bare_error("cannot connect")
        self.made.append(FakeConnect())
        return self.made[-1]

    def left_open(self) -> int:
        return sum(one.open for one in self.made)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.005)


@pytest.fixture
def daemon() -> FakeLibvirt:
    return FakeLibvirt()


@pytest.fixture
def back() -> list[Any]:
    """What `on_back` does: each is called with the connection, once; then nothing."""
    return []


@pytest.fixture
def watched(daemon: FakeLibvirt, back: list[Any]) -> Iterator[Connection]:
    def on_back(connection: Any) -> None:
        if back:
            back.pop(0)(connection)

    made = Connection("fake:///", opener=daemon.open, on_back=on_back)
    yield made
    made.close()
    assert not daemon.left_open(), "a connection is left open"


def test_before_it_is_open_there_is_none(watched: Connection) -> None:
    with pytest.raises(errors.LibvirtUnavailable, match="not connected yet"):
        watched.get(0)


def test_open_tries_until_libvirtd_is_there(watched: Connection, daemon: FakeLibvirt) -> None:
    daemon.refuse = 3
    watched.open(2)
    assert watched.get(0) is daemon.made[0]


def test_open_gives_up_with_the_reason(watched: Connection, daemon: FakeLibvirt) -> None:
    daemon.refuse = 10_000
    with pytest.raises(errors.LibvirtUnavailable, match="cannot connect"):
        watched.open(0.02)


def test_a_lost_connection_is_replaced_and_closed(watched: Connection, daemon: FakeLibvirt) -> None:
    watched.open(1)
    daemon.refuse = 2
    daemon.made[0].die()
    until(lambda: len(daemon.made) == 2)
    assert watched.get(1) is daemon.made[1]
    assert daemon.left_open() == 1


def test_nobody_gets_a_connection_before_the_secrets_are_back(
    watched: Connection, daemon: FakeLibvirt, back: list[Any]
) -> None:
    watched.open(1)
    seen: list[str] = []

    def restore(_connection: Any) -> None:
        with pytest.raises(errors.LibvirtUnavailable):
            watched.get(0)
        seen.append("refused")

    back.append(restore)
    daemon.made[0].die()
    until(lambda: seen)
    assert watched.get(1) is daemon.made[1]


@pytest.mark.parametrize(
    "failure",
    [
        errors.LibvirtUnavailable("lost again"),
        errors.LibvirtFailed("list secrets", 1, "no"),
        bare_error("lost again"),
    ],
)
def test_when_the_secrets_cannot_be_put_back_it_begins_again(
    watched: Connection, daemon: FakeLibvirt, back: list[Any], failure: Exception
) -> None:
    def restore(_connection: Any) -> None:
        raise failure

    watched.open(1)
    back.extend([restore, restore])
    daemon.made[0].die()
    until(lambda: len(daemon.made) == 4)
    assert watched.get(1) is daemon.made[3]
    assert daemon.left_open() == 1


def test_a_loss_while_the_secrets_are_put_back_is_not_forgotten(
    watched: Connection, daemon: FakeLibvirt, back: list[Any]
) -> None:
    back.append(lambda connection: connection.die())
    watched.open(1)
    assert watched.get(1) is daemon.made[1]


def test_a_close_notice_before_the_connection_is_published_is_not_forgotten(
    watched: Connection, daemon: FakeLibvirt, back: list[Any]
) -> None:
    """It may come before libvirt itself knows better."""

    def notice(connection: FakeConnect) -> None:
        assert connection.callback is not None
        connection.callback()

    back.append(notice)
    watched.open(1)
    until(lambda: len(daemon.made) == 2)
    assert watched.get(1) is daemon.made[1]


def test_a_late_notice_of_an_earlier_connection_changes_nothing(
    watched: Connection, daemon: FakeLibvirt
) -> None:
    watched.open(1)
    late = daemon.made[0].callback
    daemon.made[0].die()
    until(lambda: len(daemon.made) == 2)
    assert late is not None
    late()
    time.sleep(0.03)
    assert len(daemon.made) == 2


def test_after_close_there_is_none_and_none_is_made(
    watched: Connection, daemon: FakeLibvirt
) -> None:
    watched.open(1)
    watched.close()
    daemon.made[0].die()
    time.sleep(0.02)
    assert len(daemon.made) == 1
    with pytest.raises(errors.LibvirtUnavailable):
        watched.get(0)
