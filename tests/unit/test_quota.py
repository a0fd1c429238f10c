"""What may be under way at once."""

from __future__ import annotations

from virtceph.rpc.quota import Quota


def test_no_more_is_taken_than_there_is_here_or_in_all() -> None:
    whole = Quota(3)
    one, two = Quota(2, whole), Quota(2, whole)
    assert [one.take(), one.take(), one.take()] == [True, True, False]
    assert [two.take(), two.take()] == [True, False]
    assert (one.taken, two.taken, whole.taken) == (2, 1, 3)
    one.give_back()
    assert two.take()
    assert (one.taken, two.taken, whole.taken) == (1, 2, 3)


def test_what_is_refused_here_takes_nothing_from_the_whole() -> None:
    whole = Quota(10)
    one = Quota(1, whole)
    assert one.take()
    assert not one.take()
    assert whole.taken == 1
