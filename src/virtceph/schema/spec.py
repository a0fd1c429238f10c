"""The contract (`schema/*.yml`) as Python objects: what verbs, types, errors and events there are.

Nothing here decodes values (see `codec`), so the CLI reads the contract without the daemon's parts.
The classes are NamedTuples because importing `dataclasses` would cost the CLI a tenth of its start.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NamedTuple

from virtceph.schema.files import VERB_FILES, contract_folder, read_files

LANES = ("inline", "libvirt", "agent", "disk", "ceph", "rescue")
LEVELS = ("monitor", "operator", "admin")

BASE_TYPES = frozenset({"boolean", "integer", "number", "string", "any", "true"})

_UNIT_SUFFIX = {
    "seconds": "_s",
    "minutes": "_s",
    "bytes": "_bytes",
    "bytes/s": "_bytes_per_s",
}
MISSING: Any = object()
# What a contract says of things that it gives no version: there was none before.
FIRST = "0.1"


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
    """One parameter of a verb or an event, field of an object or fact of an error. `since` is that of its
    owner where it says none itself."""

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
    since: str = FIRST

    @property
    def required(self) -> bool:
        return self.default is MISSING and not self.optional

    @classmethod
    def read(cls, name: str, raw: dict[str, Any] | str, since: str = FIRST) -> FieldSpec:
        raw = {"type": raw} if isinstance(raw, str) else raw
        python = raw.get("python") or python_name(name, raw.get("unit"))
        return cls(name=name, **{"since": since, **raw, "python": python})


class ScalarSpec(NamedTuple):
    """A scalar. `expected` is its rule in words, for people."""

    name: str
    base: str
    description: str
    pattern: str | None = None
    format: str | None = None
    expected: str | None = None
    since: str = FIRST


class EnumSpec(NamedTuple):
    name: str
    values: tuple[str, ...]
    description: str
    since: str = FIRST


class ObjectSpec(NamedTuple):
    name: str
    description: str
    fields: tuple[FieldSpec, ...]
    since: str = FIRST


class ErrorSpec(NamedTuple):
    name: str
    code: int
    kind: str
    title: str
    description: str
    remedy: str
    facts: tuple[FieldSpec, ...]
    lanes: tuple[str, ...] | None = None
    since: str = FIRST


class EngineForm(NamedTuple):
    """An event as engines have always heard it: `|component|operation|…`. `as_map`: its parameters stand in
    a map under what it is about; `when`: only where a parameter has one of these values."""

    component: str
    operation: str
    as_map: bool = False
    when: tuple[str, tuple[str, ...]] | None = None


class EventSpec(NamedTuple):
    """One event. `subject` is the parameter that says what it is about; whoever hears it has `level`."""

    name: str
    summary: str
    level: str
    since: str
    params: tuple[FieldSpec, ...] = ()
    description: str = ""
    subject: str | None = None
    engines: EngineForm | None = None


class VerbSpec(NamedTuple):
    """One verb. `errors` are those it names itself; `Contract.errors_of` adds its lane's. `true_to_engines`:
    where engines have always been answered `true`, they still are."""

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
    true_to_engines: bool = False


class Contract(NamedTuple):
    scalars: dict[str, ScalarSpec]
    enums: dict[str, EnumSpec]
    objects: dict[str, ObjectSpec]
    errors: dict[str, ErrorSpec]
    verbs: dict[str, VerbSpec]
    events: dict[str, EventSpec]

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
    return VerbSpec(
        name=name,
        params=_fields(raw, "params"),
        result=FieldSpec.read("result", raw.pop("result"), raw["since"]),
        errors=tuple(raw.pop("errors", ())),
        job_errors=tuple(raw.pop("jobErrors", ())),
        true_to_engines=raw.pop("trueToEngines", False),
        **raw,
    )


def _error(name: str, raw: dict[str, Any]) -> ErrorSpec:
    raw = dict(raw)
    facts, lanes = _fields(raw, "facts"), raw.pop("lanes", None)
    return ErrorSpec(name=name, facts=facts, lanes=None if lanes is None else tuple(lanes), **raw)


def _event(name: str, raw: dict[str, Any]) -> EventSpec:
    raw = dict(raw)
    params, engines = _fields(raw, "params"), raw.pop("engines", None)
    form = None if engines is None else _engine_form(**engines)
    return EventSpec(name=name, params=params, engines=form, **raw)


def _engine_form(
    component: str, operation: str, asMap: bool = False, when: dict[str, list[str]] | None = None
) -> EngineForm:
    only = next(((n, tuple(values)) for n, values in when.items()), None) if when else None
    return EngineForm(component, operation, asMap, only)


def _object(name: str, raw: dict[str, Any]) -> ObjectSpec:
    raw = dict(raw)
    return ObjectSpec(name=name, fields=_fields(raw, "fields"), **raw)


def _fields(raw: dict[str, Any], key: str) -> tuple[FieldSpec, ...]:
    """Those under `key`, which is taken away, as old as their owner where they say nothing else."""
    since = raw.get("since", FIRST)
    return tuple(FieldSpec.read(n, r, since) for n, r in (raw.pop(key, None) or {}).items())


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
            n: EnumSpec(n, **{**r, "values": tuple(r["values"])}) for n, r in types["enums"].items()
        },
        objects={n: _object(n, r) for n, r in types["objects"].items()},
        errors={n: _error(n, r) for n, r in raw["errors"].items()},
        verbs={n: _verb(n, r) for file in VERB_FILES for n, r in raw[file].items()},
        events={n: _event(n, r) for n, r in raw.get("events", {}).items()},
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
    for event in contract.events.values():
        _check_event(event)
        _check_types(contract, event.name, event.params)


def _check_event(event: EventSpec) -> None:
    if event.level not in LEVELS:
        raise ContractError(f"{event.name}: unknown level {event.level}")
    when = event.engines.when if event.engines is not None else None
    for name in (event.subject, when[0] if when is not None else None):
        if name is not None and name not in {param.name for param in event.params}:
            raise ContractError(f"{event.name}: {name} is no parameter")


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
