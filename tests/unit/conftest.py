"""For every unit test."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from virtceph import request

# A background job of a shell ignores Ctrl-C, and so would the processes that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def outside_any_request() -> Iterator[None]:
    """No test sees the request that another one entered."""
    yield
    request.enter(request.Request("-", "virtcephd", float("inf")))
