"""Snapshot names under way: one maker each, and none while a late one may appear."""

from __future__ import annotations

import time

import pytest

from tests.fakes.waiting import until
from virtceph import errors
from virtceph.host import names
from virtceph.host.names import SnapshotNames

NAME = ("cluster/vms", "web-root", "nightly")


def test_a_name_has_one_maker_at_a_time() -> None:
    book = SnapshotNames()
    with book.reserve([NAME]):
        with pytest.raises(errors.SnapshotExists), book.reserve([NAME]):
            pass
        with book.reserve([("cluster/vms", "web-data", "nightly")]):
            pass
    with book.reserve([NAME]):
        pass


def test_a_maker_that_fails_gives_the_name_back() -> None:
    book = SnapshotNames()
    with pytest.raises(ZeroDivisionError), book.reserve([NAME]):
        raise ZeroDivisionError
    with book.reserve([NAME]):
        pass


def test_a_request_that_was_given_up_is_undone_when_it_lands_and_its_name_taken_till_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(names, "_SWEEP_S", 0.4)
    monkeypatch.setattr(names, "_LOOK_AGAIN_S", 0.02)
    book = SnapshotNames()
    there: list[str] = []
    book.give_up(NAME, lambda: bool(there), there.clear)
    with pytest.raises(errors.CephUnavailable, match="given up"), book.reserve([NAME]):
        pass
    there.append("late")
    until(lambda: not there, 2)
    time.sleep(0.5)
    with book.reserve([NAME]):
        pass


def test_a_cluster_that_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_SWEEP_S", 0.3)
    monkeypatch.setattr(names, "_LOOK_AGAIN_S", 0.02)
    book = SnapshotNames()
    removed: list[bool] = []
    answers = iter([errors.CephUnavailable("away"), True])

    def exists() -> bool:
        answer = next(answers, False)
        if isinstance(answer, Exception):
            raise answer
        return bool(answer)

    book.give_up(NAME, exists, lambda: removed.append(True))
    time.sleep(0.5)
    assert removed == [True]
