"""The same site as the integration tests have."""

from __future__ import annotations

from tests.integration.conftest import *  # noqa: F403
