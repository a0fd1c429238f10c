"""Which snapshots are kept: the last ones, and the newest of each day, week and month."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from virtceph import errors
from virtceph.schema import wire


@wire("PruneResult")
@dataclass(frozen=True)
class Pruned:
    kept: list[str]
    deleted: list[str]


@dataclass(frozen=True)
class Keep:
    """How many to keep of each kind; None or 0: that kind keeps none."""

    last: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None

    def require_any(self) -> None:
        """Refuse to keep nothing at all. Raises InvalidParameter."""
        if not any(vars(self).values()):
            expected = "how many to keep; or one of keepDaily, keepWeekly and keepMonthly"
            raise errors.InvalidParameter("keepLast", expected)


_MOMENT = re.compile(r"-[0-9]{8}-[0-9]{6}")

_Bucket = Callable[[datetime.datetime], object]
_BUCKETS: dict[str, _Bucket] = {
    "daily": lambda moment: moment.date(),
    "weekly": lambda moment: moment.isocalendar()[:2],
    "monthly": lambda moment: (moment.year, moment.month),
}


def choose(created_at_s: Sequence[float], keep: Keep) -> set[int]:
    """The places of those to keep. A day, an ISO week and a month are UTC's; of each of the latest that have
    any the newest is kept, so what `last` keeps counts for its day, too."""
    newest_first = sorted(
        range(len(created_at_s)), key=lambda place: created_at_s[place], reverse=True
    )
    kept = set(newest_first[: keep.last or 0])
    for kind, bucket_of in _BUCKETS.items():
        wanted = getattr(keep, kind) or 0
        newest: dict[object, int] = {}
        for place in newest_first:
            moment = datetime.datetime.fromtimestamp(created_at_s[place], datetime.UTC)
            newest.setdefault(bucket_of(moment), place)
        kept.update(list(newest.values())[:wanted])
    return kept


def is_of_label(name: str, label: str | None) -> bool:
    """Whether a set is called by a label and a moment, as `daily-20261124-030000`; any is of None."""
    return label is None or (name.startswith(label) and bool(_MOMENT.fullmatch(name[len(label) :])))
