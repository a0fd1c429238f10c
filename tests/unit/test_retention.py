"""Which sets are kept when others are pruned."""

from __future__ import annotations

import datetime
import itertools
import random

import pytest

from virtceph import errors
from virtceph.host.retention import Keep, choose

DAY_S = 86400.0
MONDAY_S = datetime.datetime(2026, 3, 2, tzinfo=datetime.UTC).timestamp()


def test_the_last_ones_are_kept_whatever_their_order() -> None:
    assert choose([3.0, 1.0, 4.0, 2.0], Keep(last=2)) == {0, 2}


def test_of_each_day_the_newest_is_kept() -> None:
    made = [MONDAY_S + hours * 3600 for hours in (1, 23, 24, 30, 47)]
    assert choose(made, Keep(daily=2)) == {1, 4}


def test_days_without_a_set_are_not_counted() -> None:
    made = [MONDAY_S, MONDAY_S + 10 * DAY_S, MONDAY_S + 20 * DAY_S]
    assert choose(made, Keep(daily=2)) == {1, 2}


def test_a_week_begins_on_monday_and_belongs_to_its_own_year() -> None:
    # 1 January 2027 is a Friday of the 53rd week of 2026.
    new_year_s = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC).timestamp()
    made = [new_year_s - 5 * DAY_S, new_year_s - DAY_S, new_year_s + DAY_S, new_year_s + 4 * DAY_S]
    assert choose(made, Keep(weekly=3)) == {0, 2, 3}


def test_a_month_is_utcs() -> None:
    end_s = datetime.datetime(2026, 2, 28, 23, 59, 59, tzinfo=datetime.UTC).timestamp()
    assert choose([end_s, end_s + 1], Keep(monthly=2)) == {0, 1}
    assert choose([end_s - 1, end_s], Keep(monthly=2)) == {1}


def test_the_kinds_add_up() -> None:
    made = [MONDAY_S + days * DAY_S for days in range(60)]
    kept = choose(made, Keep(last=1, daily=3, weekly=2, monthly=2))
    # 60 days from 2 March: 30 April is the last; the week before ends on 26 April, March on the 31st.
    assert kept == {59, 58, 57, 55, 29}


@pytest.mark.parametrize("seed", range(20))
def test_what_holds_for_any_sets_and_any_wish(seed: int) -> None:
    chance = random.Random(seed)
    made = [MONDAY_S + chance.uniform(0, 400) * DAY_S for _ in range(chance.randint(0, 60))]
    counts = [chance.choice([None, 1, 2, 5, 100]) for _ in range(4)]
    keep = Keep(*counts)
    kept = choose(made, keep)
    assert kept <= set(range(len(made)))
    assert len(kept) <= sum(count or 0 for count in counts)
    if made and any(counts):
        # The newest is the newest of its day, week and month too.
        assert max(range(len(made)), key=made.__getitem__) in kept
    # Pruning what was pruned removes nothing more.
    rest = [made[place] for place in sorted(kept)]
    assert choose(rest, keep) == set(range(len(rest)))
    # To ask for more of a kind gives up none.
    more = Keep(*(count and count + 1 for count in counts))
    assert kept <= choose(made, more)


@pytest.mark.parametrize("counts", list(itertools.product([None, 0], repeat=4)))
def test_to_keep_nothing_is_refused(counts: tuple[int | None, ...]) -> None:
    with pytest.raises(errors.InvalidParameter):
        Keep(*counts).require_any()
