"""For every unit test."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import FakeDomains
from tests.fakes.fake_events import Heard
from tests.fakes.fake_volumes import FullDomain, FullDomains
from virtceph import request
from virtceph.host.records import EXPIRED, LEASES, ExpiredLeases, LeaseRecords

# The same examples each time: a failure is the change's, and seen again by everybody.
hypothesis.settings.register_profile(
    "virtceph", deadline=None, derandomize=True, database=None, max_examples=60
)
hypothesis.settings.load_profile("virtceph")

# A background job of a shell ignores Ctrl-C, and so would the processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def outside_any_request() -> Iterator[None]:
    """No test sees the request that another one entered."""
    yield
    request.enter(request.Request("-", "virtcephd", float("inf")))


# --- what leases are made of ---


@pytest.fixture
def agent() -> FakeAgent:
    return FakeAgent()


@pytest.fixture
def domains() -> FakeDomains:
    return FakeDomains()


@pytest.fixture
def told() -> Heard:
    """What is told of by events."""
    return Heard()


@pytest.fixture
def records(tmp_path: Path) -> LeaseRecords:
    return LeaseRecords(tmp_path / LEASES)


@pytest.fixture
def expired(tmp_path: Path) -> ExpiredLeases:
    return ExpiredLeases(tmp_path / EXPIRED)


# --- storage domains ---


@pytest.fixture
def storage() -> FullDomains:
    return FullDomains()


@pytest.fixture
def domain(storage: FullDomains) -> FullDomain:
    return storage.one
