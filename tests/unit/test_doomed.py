"""The steps at which the fault tests let a daemon die: each is there, and none is left out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_agent import FakeAgent
from tests.fakes.fake_domains import VM, FakeDomains
from tests.lab.doomed import HALTS, STEPS, Step, reached_line, wrap
from virtceph.host.leasebook import Windows
from virtceph.host.leases import Leases
from virtceph.host.records import ExpiredLeases, LeaseRecords

# What these do is only to look, or to wait for what has a step.
ONLY_LOOK = {
    "Windows.of",
    "Windows.count",
    "Windows.thawing",
    "Leases.window_of",
    "Leases.ask",
    "Leases.require_short",
    "ExpiredLeases.reason",
}


@pytest.mark.parametrize("step", HALTS, ids=lambda step: step.name)
def test_every_step_names_a_function_of_the_product(step: Step) -> None:
    owner, name = step.find()
    assert callable(getattr(owner, name))


def test_no_two_steps_are_one() -> None:
    assert len({step.name for step in HALTS}) == len(HALTS)
    assert len({(s.phase, s.moment, s.function, s.call) for s in HALTS}) == len(HALTS)


class Sample:
    def work(self) -> str:
        self.worked = True
        return "done"


@pytest.mark.parametrize(("moment", "worked"), [("before", False), ("after", True)])
def test_a_step_is_reached_at_its_call_and_at_no_other(
    moment: str, worked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sample, "work", Sample.work)  # put back at the end
    reached: list[bool] = []
    samples = [Sample() for _ in range(3)]
    step = Step("sample", "freeze", moment, f"{__name__}:Sample.work", None, call=2)
    wrap(step, lambda: reached.append(hasattr(samples[1], "worked")))
    for number, sample in enumerate(samples):
        assert sample.work() == "done"
        assert len(reached) == (number > 0)
    assert reached == [worked]


def test_every_step_has_a_line_of_its_own() -> None:
    assert len({reached_line(step) for step in STEPS}) == len(STEPS)


def test_no_function_that_a_freeze_passes_through_is_without_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()

    def note(cls: type, name: str) -> None:
        function = getattr(cls, name)

        def noted(*args: Any, **kwargs: Any) -> Any:
            called.add(f"{cls.__name__}.{name}")
            return function(*args, **kwargs)

        monkeypatch.setattr(cls, name, noted)

    records, expired = LeaseRecords(tmp_path / "leases"), ExpiredLeases(tmp_path / "expired")
    agent = FakeAgent()
    leases = Leases(FakeDomains(), agent, agent, 0.2, records, expired)  # type: ignore[arg-type]
    for cls in (Windows, LeaseRecords, ExpiredLeases, Leases):
        for name in vars(cls):
            if not name.startswith("_"):
                note(cls, name)
    leases.freeze(VM, 60)
    leases.status(VM)
    leases.extend(VM, 60)
    leases.thaw(VM, force=False)
    leases.freeze(VM, 0.05)
    while leases.window_of(VM) is not None:
        time.sleep(0.01)
    with_step = {step.function.partition(":")[2] for step in STEPS}
    assert called - with_step - ONLY_LOOK == set()
    leases.close(1)
