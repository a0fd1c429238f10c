"""How facts are written in a finding."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

_SHOWN = 4


def several(names: Iterable[str]) -> str:
    """`web01, web02 and 3 more`."""
    known = list(dict.fromkeys(names))
    if len(known) <= _SHOWN + 1:
        return ", ".join(known)
    return f"{', '.join(known[:_SHOWN])} and {len(known) - _SHOWN} more"


def seconds(value_s: float) -> str:
    """`20 ms`, `1.2 s`, `10 s`."""
    if value_s < 0.001:
        return "1 ms"
    return f"{value_s * 1000:.0f} ms" if value_s < 1 else f"{value_s:.3g} s"


def client(user: str | None) -> str:
    """A cephx user as Ceph writes it."""
    return f"client.{user}"


def secret(named: UUID | str | None) -> str:
    """A secret as a disk names it."""
    return "no secret" if named is None else str(named)
