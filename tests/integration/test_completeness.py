"""Every verb, and every error its contract names, was seen on the wire of this run. Runs last."""

from __future__ import annotations

import pytest

from tests.integration.recorder import Recording
from virtceph.schema import load_contract

# Our own bugs: none is known, so none can be shown.
NOT_TO_BE_SHOWN = {"InternalError"}


def test_every_verb_and_every_error_of_its_contract_was_seen(
    request: pytest.FixtureRequest, recording: Recording
) -> None:
    modules = {item.path.name for item in request.session.items}
    here = {path.name for path in request.path.parent.glob("test_*.py")}
    if not here <= modules or request.config.getoption("keyword"):
        pytest.skip("only part of the integration tests was run")
    contract = load_contract()
    wanted = {(verb.name, "ok") for verb in contract.verbs.values()}
    wanted |= {(v.name, error) for v in contract.verbs.values() for error in v.errors}
    wanted |= {(v.name, f"job:{e}") for v in contract.verbs.values() for e in v.job_errors}
    missing = sorted(wanted - recording.seen)
    assert missing == [], missing


def test_every_error_of_the_contract_was_seen(
    request: pytest.FixtureRequest, recording: Recording
) -> None:
    """Those that a verb meets by its lane, or any request: at least once."""
    if "test_host.py" not in {item.path.name for item in request.session.items}:
        pytest.skip("only part of the integration tests was run")
    if request.config.getoption("keyword"):
        pytest.skip("only part of the integration tests was run")
    seen = {outcome.removeprefix("job:") for _, outcome in recording.seen}
    assert sorted(set(load_contract().errors) - NOT_TO_BE_SHOWN - seen) == []
