"""Samples, their spread, and whether a goal is met."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

RESAMPLES = 2000
CONFIDENCE = 0.9

Unit = Literal["µs", "ms", "MiB"]


@dataclass(frozen=True)
class Samples:
    """What one thing took, over several rounds."""

    label: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """Half of the values lie between these."""
        if len(self.values) < 2:
            return self.median, self.median
        low, _middle, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


@dataclass(frozen=True)
class Goal:
    """An upper bound for a ratio, or (`absolute`) for our own median in the row's unit."""

    limit: float
    absolute: bool = False


@dataclass(frozen=True)
class Row:
    """One comparison. `parts` are further samples for the raw figures."""

    name: str
    unit: Unit
    ours: Samples
    reference: Samples | None = None
    goal: Goal | None = None
    note: str = ""
    parts: Sequence[Samples] = field(default=())

    @property
    def ratio(self) -> float | None:
        """Our median to the reference's."""
        return None if self.reference is None else self.ours.median / self.reference.median

    @property
    def ratio_interval(self) -> tuple[float, float] | None:
        """Where the ratio lies with 90 % confidence, by resampling."""
        if self.reference is None:
            return None
        # The same figures always give the same interval.
        chance = random.Random(0)
        ratios = sorted(self._resampled_ratio(chance) for _ in range(RESAMPLES))
        tail = int(RESAMPLES * (1 - CONFIDENCE) / 2)
        return ratios[tail], ratios[-1 - tail]

    def _resampled_ratio(self, chance: random.Random) -> float:
        assert self.reference is not None
        ours, reference = self.ours.values, self.reference.values
        picked = chance.choices(range(len(ours)), k=len(ours))
        # Of the same round they met the same noise; else each is drawn by itself.
        same = len(ours) == len(reference)
        other = picked if same else chance.choices(range(len(reference)), k=len(reference))
        numerator = statistics.median(ours[index] for index in picked)
        return numerator / statistics.median(reference[index] for index in other)

    @property
    def verdict(self) -> str:
        """`met`, `missed by …`, or nothing where there is no goal."""
        if self.goal is None:
            return ""
        if self.goal.absolute:
            over = self.ours.median - self.goal.limit
            return "met" if over <= 0 else f"missed by {over:.0f} {self.unit}"
        ratio, interval = self.ratio, self.ratio_interval
        assert ratio is not None
        assert interval is not None
        said = "met" if ratio <= self.goal.limit else f"missed by {ratio - self.goal.limit:.2f}"
        return f"{said} (within noise)" if interval[0] <= self.goal.limit < interval[1] else said

    def raw(self) -> dict[str, Any]:
        """Everything, for a file."""
        return {
            "name": self.name,
            "unit": self.unit,
            "ours": _raw(self.ours),
            "reference": None if self.reference is None else _raw(self.reference),
            "ratio": self.ratio,
            "ratio_interval": self.ratio_interval,
            "goal": None if self.goal is None else vars(self.goal),
            "verdict": self.verdict,
            "note": self.note,
            "parts": [_raw(part) for part in self.parts],
        }


def _raw(samples: Samples) -> dict[str, Any]:
    return {"label": samples.label, "median": samples.median, "values": list(samples.values)}
