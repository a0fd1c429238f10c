"""For every unit test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from virtceph import request


@pytest.fixture(autouse=True)
def outside_any_request() -> Iterator[None]:
    """No test sees the request that another one entered."""
    yield
    request.enter(request.Request("-", "virtcephd", float("inf")))
