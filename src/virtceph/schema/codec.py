"""Values between the wire and Python, checked both ways by functions compiled from the contract.

`strict` decoding refuses what is unknown or mistyped (HTTP). The lax kind takes scalars written as
strings and skips unknown names, as existing engines need.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, TypeVar
from uuid import UUID

from virtceph.schema.spec import MISSING, Contract, ContractError, FieldSpec, ScalarSpec
from virtceph.sensitive import Sensitive

Decoder = Callable[[Any, str], Any]
Encoder = Callable[[Any], Any]
T = TypeVar("T")

_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
# libvirt's REMOTE_SECRET_VALUE_MAX.
SECRET_MAX_BYTES = 65536
_NUMBER = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,19})?")

_wire_classes: dict[str, type] = {}


class Mismatch(Exception):
    """A value that is not what the contract says. `structural`: the wrong kind of thing, or
    missing or unknown; else the right kind with an impossible value. Never carries the value."""

    def __init__(self, field: str, expected: str, structural: bool = True) -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field, self.expected, self.structural = field, expected, structural


def wire(name: str) -> Callable[[type[T]], type[T]]:
    """Say that a dataclass is the Python form of the contract's object `name`."""

    def register(cls: type[T]) -> type[T]:
        _wire_classes[name] = cls
        return cls

    return register


def check_wire_classes(contract: Contract) -> None:
    """Raise ContractError where a registered class and its object have other fields."""
    from dataclasses import fields  # slow to import, and the CLI does without

    for name, cls in _wire_classes.items():
        if name not in contract.objects:
            raise ContractError(f"{cls.__name__}: the contract has no object {name}")
        ours = {f.name for f in fields(cls)}
        theirs = {f.python for f in contract.objects[name].fields}
        if ours != theirs:
            raise ContractError(f"{name}: class and contract differ in {sorted(ours ^ theirs)}")


class Codec:
    """Compiles decoders and encoders for the types of one contract."""

    def __init__(self, contract: Contract, *, strict: bool = True) -> None:
        self._contract, self._strict = contract, strict
        self._encoders: dict[str, Encoder] = {}

    # --- decoding ---

    def params_decoder(
        self, params: tuple[FieldSpec, ...]
    ) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
        """A function from the wire's named parameters to Python keyword arguments. It raises
        Mismatch."""
        decode = self._fields_decoder(params)
        return lambda value: decode(value, "")

    def _fields_decoder(self, fields: tuple[FieldSpec, ...]) -> Decoder:
        compiled = [(f, self.field_decoder(f)) for f in fields]
        known = frozenset(f.name for f in fields)
        strict = self._strict

        def decode(value: Any, path: str) -> dict[str, Any]:
            if not isinstance(value, Mapping):
                raise Mismatch(path or "params", "an object")
            prefix = f"{path}." if path else ""
            if strict and not known.issuperset(value):
                unknown = min(str(name) for name in set(value) - known)
                raise Mismatch(prefix + unknown[:64], _one_of("no other field than", known))
            return {
                spec.python: decoder(value.get(spec.name, MISSING), prefix + spec.name)
                for spec, decoder in compiled
            }

        return decode

    def field_decoder(self, spec: FieldSpec) -> Decoder:
        """The decoder of one parameter, with its default, bounds and unit."""
        inner = self.decoder(spec.type)
        fallback = (
            MISSING
            if spec.required
            else None
            if spec.default is MISSING
            else _in_unit(spec, inner(spec.default, spec.name))
        )
        expected = self.expectation(spec)

        def decode(value: Any, path: str) -> Any:
            if value is MISSING or (value is None and spec.optional):
                if fallback is MISSING:
                    raise Mismatch(path, f"{expected} (it is missing)")
                return list(fallback) if isinstance(fallback, list) else fallback
            decoded = inner(value, path)
            if not _within(spec, decoded):
                raise Mismatch(path, expected, structural=False)
            return _in_unit(spec, decoded)

        return decode

    def decoder(self, type_name: str) -> Decoder:
        contract = self._contract
        if type_name.startswith("["):
            return _list_decoder(self.decoder(type_name[1:-1]))
        if type_name.startswith("{"):
            return _map_decoder(self.decoder(type_name[1:-1]))
        if type_name in contract.scalars:
            return _scalar_decoder(contract.scalars[type_name])
        if type_name in contract.enums:
            return _enum_decoder(contract.enums[type_name].values)
        if type_name in contract.objects:
            return self._object_decoder(type_name)
        return _base_decoder(type_name, self._strict)

    def _object_decoder(self, name: str) -> Decoder:
        fields = self._fields_decoder(self._contract.objects[name].fields)
        if name not in _wire_classes:
            raise ContractError(f"the parameter object {name} has no class")
        cls = _wire_classes[name]
        return lambda value, path: cls(**fields(value, path))

    def expectation(self, spec: FieldSpec) -> str:
        """What a field takes, for error messages: `a number of seconds, above 0, at most 600`."""
        text = _expected_type(self._contract, spec.type)
        text += f" of {spec.unit}" if spec.unit else ""
        bounds = (("at least", spec.minimum), ("above", spec.above), ("at most", spec.maximum))
        text += "".join(f", {word} {bound:g}" if bound < 1e6 else f", {word} {bound}"
                        for word, bound in bounds if bound is not None)  # fmt: skip
        return text + (", not empty" if spec.nonempty else "")

    # --- encoding ---

    def encoder(self, spec: FieldSpec) -> Encoder:
        """A function from a verb's result to JSON values; it raises TypeError on a wrong result."""
        inner = self._type_encoder(spec.type)
        if spec.unit == "minutes":
            return lambda value: inner(value / 60)
        return inner

    def _type_encoder(self, type_name: str) -> Encoder:
        if type_name.startswith("["):
            item = self._type_encoder(type_name[1:-1])
            return lambda value: [item(v) for v in value]
        if type_name.startswith("{"):
            item = self._type_encoder(type_name[1:-1])
            return lambda value: {str(k): item(v) for k, v in value.items()}
        if type_name in self._contract.enums:
            return _member_of(self._contract.enums[type_name].values)
        if type_name in self._contract.scalars:
            scalar = self._contract.scalars[type_name]
            return _uuid_text if scalar.format == "uuid" else _instance_of(str)
        if type_name in self._contract.objects:
            return self._object_encoder(type_name)
        return _BASE_ENCODERS[type_name]

    def _object_encoder(self, name: str) -> Encoder:
        if name not in self._encoders:
            fields = [
                (f.name, attrgetter(f.python), self.encoder(f), f.optional)
                for f in self._contract.objects[name].fields
            ]

            def encode(value: Any) -> dict[str, Any]:
                out = {}
                for wire_name, get, encoder, optional in fields:
                    part = get(value)
                    if part is not None or not optional:
                        out[wire_name] = encoder(part)
                return out

            self._encoders[name] = encode
        return self._encoders[name]

    def encode_facts(self, facts: tuple[FieldSpec, ...], values: dict[str, Any]) -> dict[str, Any]:
        """An error's facts, by their wire names."""
        return {f.name: self.encoder(f)(values[f.python]) for f in facts}


def _one_of(text: str, names: frozenset[str]) -> str:
    return f"{text} {', '.join(sorted(names))}" if names else "no parameters"


def _within(spec: FieldSpec, value: Any) -> bool:
    if spec.nonempty and not value:
        return False
    return (
        (spec.minimum is None or value >= spec.minimum)
        and (spec.maximum is None or value <= spec.maximum)
        and (spec.above is None or value > spec.above)
    )


def _in_unit(spec: FieldSpec, value: Any) -> Any:
    return value * 60 if spec.unit == "minutes" else value


def _list_decoder(item: Decoder) -> Decoder:
    def decode(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise Mismatch(path, "an array")
        return [item(v, f"{path}[{i}]") for i, v in enumerate(value)]

    return decode


def _map_decoder(item: Decoder) -> Decoder:
    def decode(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise Mismatch(path, "an object")
        return {k: item(v, f"{path}.{k}") for k, v in value.items()}

    return decode


def _enum_decoder(values: tuple[str, ...]) -> Decoder:
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
    return f"{scalar.name}, text that matches {scalar.pattern}"


def _expected_type(contract: Contract, type_name: str) -> str:
    if type_name.startswith("["):
        return f"an array of {_expected_type(contract, type_name[1:-1])}"
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


def _scalar_decoder(scalar: ScalarSpec) -> Decoder:
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


def _base_decoder(type_name: str, strict: bool) -> Decoder:
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


def _instance_of(*types: type) -> Encoder:
    def encode(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise TypeError(f"a result is {type(value).__name__}, not {types[0].__name__}")
        return value

    return encode


def _member_of(values: tuple[str, ...]) -> Encoder:
    def encode(value: Any) -> str:
        if value not in values:
            raise TypeError(f"a result is not one of {values}")
        return str(value)

    return encode


def _uuid_text(value: Any) -> str:
    if not isinstance(value, UUID):
        raise TypeError(f"a result is {type(value).__name__}, not UUID")
    return str(value)


def _seconds(value: Any) -> Any:
    return round(_instance_of(float, int)(value), 6)


_BASE_ENCODERS: dict[str, Encoder] = {
    "boolean": _instance_of(bool),
    "integer": _instance_of(int),
    "number": _seconds,
    "string": _instance_of(str),
    "any": lambda value: value,
    # A verb that only acts answers true, whatever its function returned.
    "true": lambda _value: True,
}
