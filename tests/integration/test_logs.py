"""What the daemons of this run logged. Runs after all other tests."""

from __future__ import annotations

from pathlib import Path

from tests.integration.produced import outside_contract
from tests.lab.daemon import Daemon


def test_no_daemon_told_what_is_not_in_its_contract(daemon: Daemon, lab_state: Path) -> None:
    assert list(lab_state.glob("*/log"))
    assert outside_contract(lab_state) == []
