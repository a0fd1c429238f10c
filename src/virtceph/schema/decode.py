"""Values from the wire, one kind of type each: scalars, enums, lists, maps, and the base types.

Every decoder takes the value and where it stands, and raises Mismatch.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from virtceph.schema.spec import Contract, FieldSpec, ScalarSpec
from virtceph.sensitive import Sensitive

Decoder = Callable[[Any, str], Any]

_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
# libvirt's REMOTE_SECRET_VALUE_MAX.
SECRET_MAX_BYTES = 65536
_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,19})?")


class Mismatch(Exception):
    """A value that is not what the contract says. `structural`: the wrong kind of thing, or
    missing or unknown; else the right kind with an impossible value. Never carries the value."""

    def __init__(self, field: str, expected: str, structural: bool = True) -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field, self.expected, self.structural = field, expected, structural


def one_of(text: str, names: frozenset[str]) -> str:
    return f"{text} {', '.join(sorted(names))}" if names else "no parameters"


def within(spec: FieldSpec, value: Any) -> bool:
    if spec.nonempty and not value:
        return False
    return (
        (spec.minimum is None or value >= spec.minimum)
        and (spec.maximum is None or value <= spec.maximum)
        and (spec.above is None or value > spec.above)
    )


def in_unit(spec: FieldSpec, value: Any) -> Any:
    return value * 60 if spec.unit == "minutes" else value


def list_decoder(item: Decoder) -> Decoder:
    def decode(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise Mismatch(path, "an array")
        return [item(v, f"{path}[{i}]") for i, v in enumerate(value)]

    return decode


def map_decoder(item: Decoder) -> Decoder:
    def decode(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Mismatch(path, "an object")
        return {k: item(v, f"{path}.{k}") for k, v in value.items()}

    return decode


def enum_decoder(values: tuple[str, ...]) -> Decoder:
    expected = _expected_values(values)

    def decode(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise Mismatch(path, expected)
        if value not in values:
            raise Mismatch(path, expected, structural=False)
        return value

    return decode


def _expected_values(values: tuple[str, ...]) -> str:
    return f"one of {', '.join(values)}"


def _expected_scalar(scalar: ScalarSpec) -> str:
    if scalar.format == "uuid":
        return "a UUID"
    if scalar.format == "secret":
        return f"base64 of 1 to {SECRET_MAX_BYTES} bytes"
    if scalar.expected is not None:
        return scalar.expected
    return f"{scalar.name}, text that matches {scalar.pattern}"


def expected_type(contract: Contract, type_name: str) -> str:
    if type_name.startswith("["):
        return f"an array of {expected_type(contract, type_name[1:-1])}"
    if type_name in contract.scalars:
        return _expected_scalar(contract.scalars[type_name])
    if type_name in contract.enums:
        return _expected_values(contract.enums[type_name].values)
    return _BASE_EXPECTED.get(type_name, f"{type_name} (an object)")


_BASE_EXPECTED = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a string",
    "any": "any value",
    "true": "true",
}


def scalar_decoder(scalar: ScalarSpec) -> Decoder:
    expected = _expected_scalar(scalar)
    convert: Callable[[str], Any] = {"uuid": _to_uuid, "secret": _to_secret}.get(
        scalar.format or "", str
    )
    matches = re.compile(scalar.pattern).fullmatch if scalar.pattern else None

    def decode(value: Any, path: str) -> Any:
        if not isinstance(value, str):
            raise Mismatch(path, expected)
        if matches is not None and not matches(value):
            raise Mismatch(path, expected, structural=False)
        try:
            return convert(value)
        except ValueError:
            # The value stays out of the chain: it may be a key.
            raise Mismatch(path, expected, structural=False) from None

    return decode


def _to_uuid(text: str) -> UUID:
    if not _UUID.fullmatch(text):
        raise ValueError
    return UUID(text)


def _to_secret(text: str) -> Sensitive:
    try:
        # Lax on foreign characters and strict on padding, as engines' keys have always been read.
        value = base64.b64decode(text)
    except binascii.Error:
        raise ValueError from None
    if not 0 < len(value) <= SECRET_MAX_BYTES:
        raise ValueError
    return Sensitive(value)


def base_decoder(type_name: str, strict: bool) -> Decoder:
    expected = _BASE_EXPECTED[type_name]
    check = _BASE_CHECKS[type_name]

    def decode(value: Any, path: str) -> Any:
        if not strict and isinstance(value, str):
            value = _from_text(type_name, value)
        if not check(value):
            raise Mismatch(path, expected)
        return _finite(value, path) if type_name == "number" else value

    return decode


def _finite(value: float, path: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    # NaN passes every bound, and JSON parsers let it in.
    if not math.isfinite(number):
        raise Mismatch(path, "a finite number", structural=False)
    return number


def _from_text(type_name: str, text: str) -> Any:
    """What a scalar written as a string means, for clients that can send nothing else."""
    if type_name == "boolean" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if type_name in ("integer", "number") and _NUMBER.fullmatch(text):
        return float(text) if "." in text else int(text)
    return text


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_BASE_CHECKS: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda v: isinstance(v, bool),
    "integer": _is_integer,
    "number": lambda v: _is_integer(v) or isinstance(v, float),
    "string": lambda v: isinstance(v, str),
    "any": lambda _v: True,
}
