"""Every verb, every error its contract names and every event was seen on the wire, by one test or another."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.recorder import Recording
from tests.parts import PARTS, SEEN
from virtceph.schema import load_contract

# Our own bugs: none is known, so none can be shown.
NOT_TO_BE_SHOWN = {"InternalError"}


@pytest.fixture(scope="module")
def recording() -> Recording:
    """What the tests of integration and of faults saw."""
    folder = os.environ.get(SEEN)
    if folder is None:
        pytest.skip("only `make test` runs all that has to be seen")
    kept = sorted(Path(folder).iterdir())
    assert len(kept) >= len([part for part in PARTS if part.letters]), kept
    return Recording.of_all(kept)


def test_every_verb_and_every_error_of_its_contract_was_seen(recording: Recording) -> None:
    contract = load_contract()
    wanted = {(verb.name, "ok") for verb in contract.verbs.values()}
    wanted |= {(v.name, error) for v in contract.verbs.values() for error in v.errors}
    wanted |= {(v.name, f"job:{e}") for v in contract.verbs.values() for e in v.job_errors}
    missing = sorted(wanted - recording.seen)
    assert missing == [], missing


def test_every_event_of_the_contract_was_heard(recording: Recording) -> None:
    assert sorted(set(load_contract().events) - recording.events) == []


def test_every_error_of_the_contract_was_seen(recording: Recording) -> None:
    """Those that a verb meets by its lane, or any request: at least once."""
    seen = {outcome.removeprefix("job:") for _, outcome in recording.seen}
    assert sorted(set(load_contract().errors) - NOT_TO_BE_SHOWN - seen) == []
