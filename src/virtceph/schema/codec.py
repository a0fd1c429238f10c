"""Values between the wire and Python, checked both ways by functions compiled from the contract.

`strict` decoding refuses what is unknown or mistyped (HTTP). The lax kind takes scalars written as
strings and skips unknown names, as existing engines need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, TypeVar

from virtceph.schema.decode import (
    Decoder,
    Mismatch,
    base_decoder,
    enum_decoder,
    expected_type,
    in_unit,
    list_decoder,
    map_decoder,
    one_of,
    scalar_decoder,
    within,
)
from virtceph.schema.encode import BASE_ENCODERS, Encoder, instance_of, member_of, uuid_text
from virtceph.schema.spec import MISSING, Contract, ContractError, FieldSpec

__all__ = ["Codec", "Mismatch", "check_wire_classes", "wire"]

T = TypeVar("T")

_wire_classes: dict[str, type] = {}


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
                raise Mismatch(prefix + unknown[:64], one_of("no other field than", known))
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
            else in_unit(spec, inner(spec.default, spec.name))
        )
        expected = self.expectation(spec)

        def decode(value: Any, path: str) -> Any:
            if value is MISSING or (value is None and spec.optional):
                if fallback is MISSING:
                    raise Mismatch(path, f"{expected} (it is missing)")
                return list(fallback) if isinstance(fallback, list) else fallback
            decoded = inner(value, path)
            if not within(spec, decoded):
                raise Mismatch(path, expected, structural=False)
            return in_unit(spec, decoded)

        return decode

    def decoder(self, type_name: str) -> Decoder:
        contract = self._contract
        if type_name.startswith("["):
            return list_decoder(self.decoder(type_name[1:-1]))
        if type_name.startswith("{"):
            return map_decoder(self.decoder(type_name[1:-1]))
        if type_name in contract.scalars:
            return scalar_decoder(contract.scalars[type_name])
        if type_name in contract.enums:
            return enum_decoder(contract.enums[type_name].values)
        if type_name in contract.objects:
            return self._object_decoder(type_name)
        return base_decoder(type_name, self._strict)

    def _object_decoder(self, name: str) -> Decoder:
        fields = self._fields_decoder(self._contract.objects[name].fields)
        if name not in _wire_classes:
            raise ContractError(f"the parameter object {name} has no class")
        cls = _wire_classes[name]
        return lambda value, path: cls(**fields(value, path))

    def expectation(self, spec: FieldSpec) -> str:
        """What a field takes, for error messages: `a number of seconds, above 0, at most 600`."""
        text = expected_type(self._contract, spec.type)
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
            return member_of(self._contract.enums[type_name].values)
        if type_name in self._contract.scalars:
            scalar = self._contract.scalars[type_name]
            return uuid_text if scalar.format == "uuid" else instance_of(str)
        if type_name in self._contract.objects:
            return self._object_encoder(type_name)
        return BASE_ENCODERS[type_name]

    def _object_encoder(self, name: str) -> Encoder:
        if name not in self._encoders:
            self._encoders[name] = self.fields_encoder(self._contract.objects[name].fields)
        return self._encoders[name]

    def fields_encoder(self, fields: tuple[FieldSpec, ...]) -> Encoder:
        """A function from what has these fields to an object by their wire names."""
        compiled = [(f.name, attrgetter(f.python), self.encoder(f), f.optional) for f in fields]

        def encode(value: Any) -> dict[str, Any]:
            out = {}
            for wire_name, get, encoder, optional in compiled:
                part = get(value)
                if part is not None or not optional:
                    out[wire_name] = encoder(part)
            return out

        return encode

    def encode_facts(self, facts: tuple[FieldSpec, ...], values: dict[str, Any]) -> dict[str, Any]:
        """An error's facts, by their wire names."""
        return {f.name: self.encoder(f)(values[f.python]) for f in facts}
