"""The table that a run prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from bench.figures import Row, Samples

HEAD = ("", "ours (half lie in)", "compared with", "ratio (90 %)", "goal", "")


def machine() -> str:
    """One line on where this was measured. Does not block."""
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores, load {load:.1f}, {platform.machine()},"
        f" Python {platform.python_version()}; medians, ratios of medians"
    )


def table(rows: Sequence[Row]) -> str:
    """The rows in aligned columns, each with its note below. Does not block."""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    lines = []
    for line, row in zip(cells, [None, *rows], strict=True):
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        lines.append("  ".join(padded).rstrip())
        if row is not None and row.note:
            lines.append(f"    {row.note}")
    return "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    reference = "" if row.reference is None else _figure(row.reference, row.unit)
    label = "" if row.reference is None else f" {row.reference.label}"
    goal = ""
    if row.goal is not None:
        unit = f" {row.unit}" if row.goal.absolute else "x"
        goal = f"<= {row.goal.limit:g}{unit}"
    return row.name, _figure(row.ours, row.unit), reference + label, _ratio(row), goal, row.verdict


def _figure(samples: Samples, unit: str) -> str:
    low, high = samples.quartiles
    return f"{_number(samples.median)} {unit} ({_number(low)}-{_number(high)})"


def _ratio(row: Row) -> str:
    ratio, interval = row.ratio, row.ratio_interval
    if ratio is None or interval is None:
        return ""
    return f"{ratio:.2f} ({interval[0]:.2f}-{interval[1]:.2f})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
