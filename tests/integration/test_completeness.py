"""Every verb, and every error its contract names, was seen on the wire of this run. Runs last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.recorder import Recording
from tests.lab.daemon import Daemon
from virtceph.schema import load_contract

# Our own bugs: none is known, so none can be shown.
NOT_TO_BE_SHOWN = {"InternalError"}


def test_every_verb_and_every_error_of_its_contract_was_seen(
    request: pytest.FixtureRequest, recording: Recording
) -> None:
    modules = {item.path.name for item in request.session.items}
    # What a daemon that dies leaves to the next one is told in the tests of faults.
    tests = request.path.parents[1]
    here = {p.name for part in ("integration", "faults") for p in (tests / part).glob("test_*.py")}
    if not here <= modules or request.config.getoption("keyword"):
        pytest.skip("only part of the tests on real parts was run")
    contract = load_contract()
    wanted = {(verb.name, "ok") for verb in contract.verbs.values()}
    wanted |= {(v.name, error) for v in contract.verbs.values() for error in v.errors}
    wanted |= {(v.name, f"job:{e}") for v in contract.verbs.values() for e in v.job_errors}
    missing = sorted(wanted - recording.seen)
    assert missing == [], missing


def test_every_event_of_the_contract_was_heard(
    request: pytest.FixtureRequest, recording: Recording
) -> None:
    names = {item.path.name for item in request.session.items}
    if not {"test_events.py", "test_volumes.py", "test_hotplug.py"} <= names:
        pytest.skip("only part of the tests on real parts was run")
    if request.config.getoption("keyword"):
        pytest.skip("only part of the tests on real parts was run")
    # All in one run; and the tests of events alone bring every one about.
    assert sorted(set(load_contract().events) - recording.events) == []


def test_no_daemon_told_what_is_not_in_its_contract(
    start_daemon: Callable[..., Daemon], lab_state: Path
) -> None:
    logs = list(lab_state.glob("*/log"))
    texts = [path.read_text(errors="replace") for path in logs if path.is_file()]
    assert not [line for text in texts for line in text.splitlines() if "event not told" in line]


def test_every_error_of_the_contract_was_seen(
    request: pytest.FixtureRequest, recording: Recording
) -> None:
    """Those that a verb meets by its lane, or any request: at least once."""
    names = {item.path.name for item in request.session.items}
    if not {"test_host.py", "test_data_is_whole_or_gone.py"} <= names:
        pytest.skip("only part of the tests on real parts was run")
    if request.config.getoption("keyword"):
        pytest.skip("only part of the tests on real parts was run")
    seen = {outcome.removeprefix("job:") for _, outcome in recording.seen}
    assert sorted(set(load_contract().errors) - NOT_TO_BE_SHOWN - seen) == []
