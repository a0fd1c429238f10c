"""The contract as an OpenRPC document, for what generates clients and shows interfaces."""

from __future__ import annotations

from typing import Any

from virtceph.schema.spec import (
    MISSING,
    Contract,
    EnumSpec,
    ErrorSpec,
    FieldSpec,
    ObjectSpec,
    ScalarSpec,
    VerbSpec,
)

_VERSION = "1.3.2"
_SCHEMAS = "#/components/schemas/"
# Those of JSON-RPC itself are to be assumed of any interface.
_RESERVED = range(-32768, -31999)
_BASE: dict[str, dict[str, Any]] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer"},
    "number": {"type": "number"},
    "string": {"type": "string"},
    "any": {},
    "true": {"const": True},
}


def openrpc_document(contract: Contract, version: str) -> dict[str, Any]:
    """The document; `version` is the daemon's. What OpenRPC has no word for stands under `x-…`."""
    return {
        "openrpc": _VERSION,
        "info": {
            "title": "virtceph",
            "version": version,
            "description": "Host agent for KVM hosts whose VM disks live in Ceph RBD.",
            "license": {"name": "Apache-2.0"},
        },
        "servers": [{"name": "this daemon", "url": "/jsonrpc"}],
        "methods": [_method(contract, verb) for verb in contract.verbs.values()],
        "components": {"schemas": _schemas(contract)},
        "x-events": {name: _event(contract, name) for name in contract.events},
    }


def _method(contract: Contract, verb: VerbSpec) -> dict[str, Any]:
    # Where parameters go by position these come first: OpenRPC knows no other order.
    ordered = sorted(verb.params, key=lambda param: not param.required)
    errors = [contract.errors[name] for name in contract.errors_of(verb)]
    told: dict[str, Any] = {
        "name": verb.name,
        "tags": [{"name": verb.name.partition(".")[0]}],
        "summary": verb.summary,
        "paramStructure": "by-name",
        "params": [_descriptor(param) for param in ordered],
        "result": _descriptor(verb.result, always=True),
        "errors": _errors(errors),
        "x-errors": [_error(error) for error in errors],
        "x-level": verb.level,
        "x-lane": verb.lane,
        "x-deadline": verb.deadline_s,
        "x-since": verb.since,
    }
    if verb.description:
        told["description"] = verb.description.strip()
    if verb.job_errors:
        told["x-job-errors"] = [_error(contract.errors[name]) for name in verb.job_errors]
    return told


def _errors(errors: list[ErrorSpec]) -> list[dict[str, Any]]:
    """Each code once, as OpenRPC wants it; `x-errors` has them all."""
    by_code: dict[int, str] = {}
    for error in errors:
        if error.code not in _RESERVED:
            by_code.setdefault(error.code, error.title)
    return [{"code": code, "message": title} for code, title in by_code.items()]


def _error(error: ErrorSpec) -> dict[str, Any]:
    return {
        "name": error.name,
        "code": error.code,
        "kind": error.kind,
        "since": error.since,
        "description": error.description,
        "facts": [fact.name for fact in error.facts],
    }


def _event(contract: Contract, name: str) -> dict[str, Any]:
    event = contract.events[name]
    return {
        "summary": event.summary,
        "level": event.level,
        "since": event.since,
        "params": [_descriptor(param) for param in event.params],
    }


def _descriptor(spec: FieldSpec, *, always: bool = False) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": spec.name,
        "required": always or spec.required,
        "schema": _schema(spec),
        "x-since": spec.since,
    }
    if spec.description:
        told["description"] = spec.description
    if spec.unit:
        told["x-unit"] = spec.unit
    return told


def _schema(spec: FieldSpec) -> dict[str, Any]:
    """A field's type with its bounds and default."""
    schema = _type(spec.type)
    bounds = {
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "exclusiveMinimum": spec.above,
        "default": None if spec.default is MISSING else spec.default,
        "minItems": 1 if spec.nonempty else None,
    }
    more = {name: value for name, value in bounds.items() if value is not None}
    # In draft 7 whatever stands beside a $ref is passed over.
    return {"allOf": [schema], **more} if "$ref" in schema and more else {**schema, **more}


def _type(name: str) -> dict[str, Any]:
    if name.startswith("["):
        return {"type": "array", "items": _type(name[1:-1])}
    if name.startswith("{"):
        return {"type": "object", "additionalProperties": _type(name[1:-1])}
    return dict(_BASE[name]) if name in _BASE else {"$ref": _SCHEMAS + name}


def _schemas(contract: Contract) -> dict[str, Any]:
    found: dict[str, Any] = {name: _scalar(one) for name, one in contract.scalars.items()}
    found |= {name: _enum(one) for name, one in contract.enums.items()}
    found |= {name: _object(one) for name, one in contract.objects.items()}
    return found


def _scalar(scalar: ScalarSpec) -> dict[str, Any]:
    told: dict[str, Any] = {"type": scalar.base, "description": scalar.description}
    if scalar.pattern:
        # The contract's patterns are of the whole text, and JSON Schema's of a part of it.
        told["pattern"] = f"^(?:{scalar.pattern})$"
    if scalar.format == "uuid":
        told["format"] = "uuid"
    if scalar.format == "secret":
        told |= {"contentEncoding": "base64", "writeOnly": True}
    return {**told, "x-since": scalar.since}


def _enum(enum: EnumSpec) -> dict[str, Any]:
    values = list(enum.values)
    return {
        "type": "string",
        "enum": values,
        "description": enum.description,
        "x-since": enum.since,
    }


def _object(thing: ObjectSpec) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in thing.fields:
        told = _descriptor(field)
        about = {key: told[key] for key in ("description", "x-since", "x-unit") if key in told}
        schema = told["schema"]
        whole = {"allOf": [schema]} if "$ref" in schema else schema
        properties[field.name] = {**whole, **about}
    return {
        "type": "object",
        "description": thing.description.strip(),
        "properties": properties,
        "required": [field.name for field in thing.fields if field.required],
        "x-since": thing.since,
    }
