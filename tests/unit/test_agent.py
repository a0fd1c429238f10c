"""Guest agent calls: none without a time-out, and one at a time for each guest."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import libvirt_qemu
import pytest

from virtceph import errors
from virtceph.virt.agent import Agent, DomainLocks

VM, OTHER = UUID(int=1), UUID(int=2)
LIBVIRTS_OWN = -2


class FakeDomain:
    """As virDomain: a guest whose agent answers at once, unless it is to wait for `answers`. `limits` are
    the time-outs under which calls were made."""

    def __init__(self) -> None:
        self.limit, self.limits = LIBVIRTS_OWN, list[int]()
        self.entered, self.answers = threading.Event(), threading.Event()
        self.answers.set()
        self._asked = threading.Lock()

    def agentSetResponseTimeout(self, seconds: int, _flags: int) -> None:
        self.limit = seconds

    def fsFreeze(self) -> int:
        return self._called(2)

    def fsThaw(self) -> int:
        return self._called(2)

    def fsInfo(self) -> list[Any]:
        return self._called([])

    def command(self, _text: str, _timeout_s: int, _flags: int) -> str:
        return self._called('{"return": "thawed"}')

    def _called(self, answer: Any) -> Any:
        assert self._asked.acquire(blocking=False), "it is being asked already"
        self.limits.append(self.limit)
        self.entered.set()
        assert self.answers.wait(5)
        # Sticky and shared: by the next call another client has had it taken off.
        self.limit = LIBVIRTS_OWN
        self._asked.release()
        return answer


class FakePool:
    """As `virt.connection.ConnectionPool`, with room for everybody; it is its own connection."""

    def __init__(self) -> None:
        self.domains = {str(VM): FakeDomain(), str(OTHER): FakeDomain()}
        self.lookupByUUIDString = self.domains.__getitem__

    @contextlib.contextmanager
    def connection(self, _timeout_s: float) -> Iterator[FakePool]:
        yield self


@pytest.fixture
def pool() -> FakePool:
    return FakePool()


@pytest.fixture
def agent(pool: FakePool, monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.setattr(libvirt_qemu, "qemuAgentCommand", FakeDomain.command)
    return Agent(pool, DomainLocks())  # type: ignore[arg-type]


@pytest.fixture
def hung(pool: FakePool, agent: Agent) -> Iterator[FakeDomain]:
    """The VM, whose agent has been asked to thaw and does not answer before the test is over."""
    domain = pool.domains[str(VM)]
    domain.answers.clear()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(agent.thaw, VM, 5)
        assert domain.entered.wait(5)
        yield domain
        domain.answers.set()
        assert waiting.result() == 2


CALLS = [Agent.freeze, Agent.thaw, Agent.is_frozen, Agent.file_systems]


@pytest.mark.parametrize("call", CALLS)
def test_every_call_is_made_under_a_time_out_of_its_own(
    pool: FakePool, agent: Agent, call: Callable[..., object]
) -> None:
    for timeout_s in (7.0, 3.0):
        call(agent, VM, timeout_s)
    assert pool.domains[str(VM)].limits == [7, 3]


@pytest.mark.parametrize("call", CALLS)
def test_a_guest_whose_agent_is_being_asked_is_asked_nothing_else(
    agent: Agent, hung: FakeDomain, call: Callable[..., object]
) -> None:
    with pytest.raises(errors.GuestAgentUnresponsive):
        call(agent, VM, 0.05)
    assert len(hung.limits) == 1


def test_a_guest_whose_agent_hangs_holds_up_no_other(agent: Agent, hung: FakeDomain) -> None:
    assert agent.thaw(OTHER, 0.05) == 2
    assert not hung.answers.is_set()


def test_libvirts_own_time_out_is_not_put_back_under_a_call(
    agent: Agent, hung: FakeDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.virt.agent._PUT_BACK_S", 0.05)
    agent.put_back(VM)
    assert hung.limit == 5
