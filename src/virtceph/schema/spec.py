"""The contract (`schema/*.yml`) as Python objects: what verbs, types and errors there are.

Nothing here decodes values (see `codec`), so the CLI reads the contract without the daemon's parts.
The classes are NamedTuples because importing `dataclasses` would cost the CLI a tenth of its start.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from virtceph.schema.files import VERB_FILES, contract_folder, read_files

LANES = ("inline", "libvirt", "agent", "ceph", "rescue")
LEVELS = ("monitor", "operator", "admin")

BASE_TYPES = frozenset({"boolean", "integer", "number", "string", "any", "true"})

_UNIT_SUFFIX = {"seconds": "_s", "minutes": "_s", "bytes": "_bytes"}
MISSING: Any = object()


class ContractError(Exception):
    """The contract contradicts itself or the code. The daemon does not start."""


def python_name(wire_name: str, unit: str | None = None) -> str:
    """`storageDomainID` → `storage_domain_id`; a unit adds its suffix: `size` → `size_bytes`."""
    snake = re.sub(r"(?<=[a-z0-9])([A-Z]+)", r"_\1", wire_name).lower()
    return snake + _UNIT_SUFFIX.get(unit or "", "")


def leaf_type(type_name: str) -> str:
    """The type inside the brackets of a list or map: `[SecretInfo]` → `SecretInfo`."""
    return type_name.strip("[]{}")


class FieldSpec(NamedTuple):
    """One parameter of a verb, field of an object or fact of an error."""

    name: str
    type: str
    description: str = ""
    unit: str | None = None
    python: str = ""
    default: Any = MISSING
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    nonempty: bool = False
    invalid: str | None = None

    @property
    def required(self) -> bool:
        return self.default is MISSING and not self.optional

    @classmethod
    def read(cls, name: str, raw: dict[str, Any] | str) -> FieldSpec:
        raw = {"type": raw} if isinstance(raw, str) else raw
        python = raw.get("python") or python_name(name, raw.get("unit"))
        return cls(name=name, **{**raw, "python": python})


class ScalarSpec(NamedTuple):
    """A scalar. `expected` is its rule in words, for people."""

    name: str
    base: str
    description: str
    pattern: str | None = None
    format: str | None = None
    expected: str | None = None


class EnumSpec(NamedTuple):
    name: str
    values: tuple[str, ...]
    description: str


class ObjectSpec(NamedTuple):
    name: str
    description: str
    fields: tuple[FieldSpec, ...]


class ErrorSpec(NamedTuple):
    name: str
    code: int
    kind: str
    title: str
    description: str
    remedy: str
    facts: tuple[FieldSpec, ...]
    lanes: tuple[str, ...] | None = None


class VerbSpec(NamedTuple):
    """One verb. `errors` are those it names itself; `Contract.errors_of` adds its lane's."""

    name: str
    summary: str
    lane: str
    level: str
    since: str
    result: FieldSpec
    params: tuple[FieldSpec, ...] = ()
    description: str = ""
    key: str | None = None
    deadline_s: float = 5.0
    errors: tuple[str, ...] = ()
    job_errors: tuple[str, ...] = ()


class Contract(NamedTuple):
    scalars: dict[str, ScalarSpec]
    enums: dict[str, EnumSpec]
    objects: dict[str, ObjectSpec]
    errors: dict[str, ErrorSpec]
    verbs: dict[str, VerbSpec]

    def defines(self, type_name: str) -> bool:
        """Whether `types.yml` has this name."""
        return type_name in self.scalars or type_name in self.enums or type_name in self.objects

    def carries_secret(self, type_name: str) -> bool:
        """Whether a value of this type is a secret or has one inside."""
        leaf = leaf_type(type_name)
        if leaf in self.scalars:
            return self.scalars[leaf].format == "secret"
        inside = self.objects[leaf].fields if leaf in self.objects else ()
        return any(self.carries_secret(field.type) for field in inside)

    def errors_of(self, verb: VerbSpec) -> list[str]:
        """Every error the verb may answer: its own, and those of its lane."""
        of_lane = [
            error.name
            for error in self.errors.values()
            if error.lanes and (verb.lane in error.lanes or "*" in error.lanes)
        ]
        return list(verb.errors) + of_lane


def _verb(name: str, raw: dict[str, Any]) -> VerbSpec:
    raw = dict(raw)
    params = tuple(FieldSpec.read(n, r) for n, r in raw.pop("params", {}).items())
    return VerbSpec(
        name=name,
        params=params,
        result=FieldSpec.read("result", raw.pop("result")),
        errors=tuple(raw.pop("errors", ())),
        job_errors=tuple(raw.pop("jobErrors", ())),
        **raw,
    )


def _error(name: str, raw: dict[str, Any]) -> ErrorSpec:
    raw = dict(raw)
    facts = tuple(FieldSpec.read(n, r) for n, r in raw.pop("facts", {}).items())
    lanes = raw.pop("lanes", None)
    return ErrorSpec(name=name, facts=facts, lanes=None if lanes is None else tuple(lanes), **raw)


def read_contract(raw: dict[str, Any]) -> Contract:
    """Build the contract from the parsed files. Raises ContractError."""
    try:
        contract = _build(raw)
    except (TypeError, KeyError, AttributeError) as error:
        raise ContractError(f"a file of the contract is malformed: {error}") from error
    _check(contract)
    return contract


def _build(raw: dict[str, Any]) -> Contract:
    types = raw["types"]
    return Contract(
        scalars={n: ScalarSpec(n, **r) for n, r in types["scalars"].items()},
        enums={
            n: EnumSpec(n, tuple(r["values"]), r["description"]) for n, r in types["enums"].items()
        },
        objects={
            n: ObjectSpec(
                n,
                r["description"],
                tuple(FieldSpec.read(f, spec) for f, spec in r["fields"].items()),
            )
            for n, r in types["objects"].items()
        },
        errors={n: _error(n, r) for n, r in raw["errors"].items()},
        verbs={n: _verb(n, r) for file in VERB_FILES for n, r in raw[file].items()},
    )


def _check(contract: Contract) -> None:
    for verb in contract.verbs.values():
        if verb.lane not in LANES or verb.level not in LEVELS:
            raise ContractError(f"{verb.name}: unknown lane {verb.lane} or level {verb.level}")
        if verb.key and verb.key not in {p.name for p in verb.params}:
            raise ContractError(f"{verb.name}: its key {verb.key} is no parameter")
        for error in (*verb.errors, *verb.job_errors, *(p.invalid for p in verb.params)):
            if error and error not in contract.errors:
                raise ContractError(f"{verb.name}: unknown error {error}")
        _check_types(contract, verb.name, (*verb.params, verb.result))
    for thing in contract.objects.values():
        _check_types(contract, thing.name, thing.fields)
    for failure in contract.errors.values():
        _check_types(contract, failure.name, failure.facts)


def _check_types(contract: Contract, owner: str, fields: tuple[FieldSpec, ...]) -> None:
    for spec in fields:
        leaf = leaf_type(spec.type)
        if leaf not in BASE_TYPES and not contract.defines(leaf):
            raise ContractError(f"{owner}.{spec.name}: unknown type {spec.type}")
        if spec.unit is not None and spec.unit not in _UNIT_SUFFIX:
            raise ContractError(f"{owner}.{spec.name}: unknown unit {spec.unit}")


@cache
def load_contract() -> Contract:
    """The contract of this build. Blocks on reading it, once."""
    return read_contract(read_files(contract_folder()))
