"""Sizes and times by name, so that no bare power of two stands in the code."""

from __future__ import annotations

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB

HOUR_S = 3600.0


def human_bytes(size_bytes: int) -> str:
    """`size_bytes` as people write it: `4.0 MiB`."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return f"{int(value)} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"
