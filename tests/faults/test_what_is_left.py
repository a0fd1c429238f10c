"""What the tests of faults left, in files and on the wire. Runs after all others of them."""

from __future__ import annotations

import base64
from pathlib import Path

from tests.integration.produced import holding, outside_contract, replies_holding
from tests.integration.sampled import Sampled
from tests.integration.site import Site


def test_the_key_of_these_guests_is_found_nowhere(
    site: Site, ceph_key: str, lab_state: Path, sampled: Sampled
) -> None:
    key = base64.b64decode(ceph_key)
    assert holding(lab_state, [key]) == []
    assert site.recording.replies
    assert replies_holding(site.recording.replies, [key]) == []
    assert sampled.hits == set()
    assert sampled.searched > 100


def test_no_daemon_told_what_is_not_in_its_contract(site: Site, lab_state: Path) -> None:
    assert list(lab_state.glob("*/log"))
    assert outside_contract(lab_state) == []
