"""How the daemon's parts are joined, as far as it shows without a libvirtd."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import libvirt_qemu
import pytest

from tests.fakes.fake_secret_session import FakeLibvirtSecrets
from tests.fakes.waiting import until
from virtceph import assemble, config
from virtceph.assemble import Assembly
from virtceph.virt import connection, keeper

VM, OTHER = UUID(int=1), UUID(int=2)


class FakeDomain:
    """As virDomain: a guest whose agent answers a question when `answers` is set, and a thaw at once."""

    def __init__(self) -> None:
        self.asked, self.answers = threading.Event(), threading.Event()
        self.answers.set()
        self.thaws = 0

    def agentSetResponseTimeout(self, _seconds: int, _flags: int) -> None:
        """Nothing waits here."""

    def fsThaw(self) -> int:
        self.thaws += 1
        return 2

    def command(self, _text: str, _timeout_s: int, _flags: int) -> str:
        self.asked.set()
        assert self.answers.wait(5)
        return '{"return": "thawed"}'


class FakeConnection:
    """As virConnect, and as the `Connection` that watches one."""

    uri = "test:///"

    def __init__(self, *_arguments: Any, **_named: Any) -> None:
        self.domains = {str(VM): FakeDomain(), str(OTHER): FakeDomain()}
        self.lookupByUUIDString = self.domains.__getitem__

    def get(self) -> FakeConnection:
        return self

    def isAlive(self) -> bool:
        return True

    def open(self, _timeout_s: float) -> None:
        """It is open."""

    def close(self) -> None:
        """There is nothing to let go of."""


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> FakeConnection:
    """The libvirt that every connection of the daemon leads to."""
    made, secrets = FakeConnection(), FakeLibvirtSecrets()
    monkeypatch.setattr(connection, "_open", lambda _uri: made)
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", FakeDomain.command)
    monkeypatch.setattr(assemble, "Connection", lambda *_a, **_n: made)
    monkeypatch.setattr(keeper, "SecretSession", lambda _connection: secrets.session())
    monkeypatch.setattr(assemble, "start_event_loop", lambda: None)
    # Other tests have classes of their own, which are in no contract.
    monkeypatch.setattr(assemble, "check_wire_classes", lambda _contract: None)
    return made


@pytest.fixture
def assembly(shared: FakeConnection, tmp_path: Path) -> Iterator[Assembly]:
    """A daemon whose callers have one connection, with room for one call."""
    defaults = config.load_or_default(None)
    settings = replace(
        defaults,
        daemon=replace(defaults.daemon, runtime_dir=str(tmp_path)),
        freeze=replace(defaults.freeze, unknown="ignore"),
        lanes=replace(defaults.lanes, agent=1),
    )
    made = Assembly(settings)
    yield made
    made.close()


@pytest.fixture
def hung(shared: FakeConnection, assembly: Assembly) -> Iterator[FakeDomain]:
    """A guest that a caller asks, and that does not answer before the test is over."""
    domain = shared.domains[str(VM)]
    domain.answers.clear()
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(assembly.host.leases.ask, VM)
        assert domain.asked.wait(5)
        yield domain
        domain.answers.set()
        assert waiting.result() == ("thawed", None)


@pytest.mark.usefixtures("hung")
def test_a_caller_that_holds_the_last_connection_does_not_hold_up_a_rescue(
    shared: FakeConnection, assembly: Assembly
) -> None:
    assembly.host.leases.thaw_stranger(OTHER, "it was found frozen")
    until(lambda: assembly.host.leases.window_of(OTHER) is None, 1)
    assert shared.domains[str(OTHER)].thaws == 1


def test_a_guest_that_a_caller_is_asking_is_not_asked_by_a_rescue_meanwhile(
    assembly: Assembly, hung: FakeDomain
) -> None:
    assembly.host.leases.thaw_stranger(VM, "it was found frozen")
    time.sleep(0.2)
    assert hung.thaws == 0
    hung.answers.set()
    until(lambda: assembly.host.leases.window_of(VM) is None, 5)
    assert hung.thaws == 1
