"""Results on their way to the wire: each encoder raises TypeError on what the contract does not allow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

Encoder = Callable[[Any], Any]


def instance_of(*types: type) -> Encoder:
    def encode(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise TypeError(f"a result is {type(value).__name__}, not {types[0].__name__}")
        return value

    return encode


def member_of(values: tuple[str, ...]) -> Encoder:
    def encode(value: Any) -> str:
        if value not in values:
            raise TypeError(f"a result is not one of {values}")
        return str(value)

    return encode


def uuid_text(value: Any) -> str:
    if not isinstance(value, UUID):
        raise TypeError(f"a result is {type(value).__name__}, not UUID")
    return str(value)


def _seconds(value: Any) -> Any:
    return round(instance_of(float, int)(value), 6)


BASE_ENCODERS: dict[str, Encoder] = {
    "boolean": instance_of(bool),
    "integer": instance_of(int),
    "number": _seconds,
    "string": instance_of(str),
    "any": lambda value: value,
    # A verb that only acts answers true, whatever its function returned.
    "true": lambda _value: True,
}
