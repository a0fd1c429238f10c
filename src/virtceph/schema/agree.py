"""Whether the classes of errors and events say what the contract says. The daemon asks at its start."""

from __future__ import annotations

from typing import Any

from virtceph.errors import VirtcephError, all_errors
from virtceph.events import all_events
from virtceph.schema.spec import Contract, ContractError, ErrorSpec, FieldSpec

# How errors.py writes the contract's types; a list stands as `any` there.
_TYPES = {"str": "string", "UUID": "UUID", "float": "number", "int": "integer", "bool": "boolean"}


def check_errors(contract: Contract) -> None:
    """Raise ContractError where `errors.py` and `errors.yml` differ: in a name, code, kind, title
    or fact."""
    classes = all_errors()
    if odd := sorted(classes.keys() ^ contract.errors.keys()):
        raise ContractError(f"errors.py and errors.yml do not both have {', '.join(odd)}")
    for name, cls in classes.items():
        ours, theirs = _of_class(cls), _of_spec(contract.errors[name])
        for what, said in ours.items():
            if said != theirs[what]:
                differ = f"{said!r} in errors.py, {theirs[what]!r} in errors.yml"
                raise ContractError(f"{name}: its {what} is {differ}")


def _of_class(cls: type[VirtcephError]) -> dict[str, Any]:
    fields = getattr(cls, "__dataclass_fields__", {})
    facts = {name: _TYPES.get(str(field.type), "any") for name, field in fields.items()}
    return {"code": cls.code, "kind": cls.kind, "title": cls.title, "facts": facts}


def _of_spec(spec: ErrorSpec) -> dict[str, Any]:
    facts = {fact.python: fact.type for fact in spec.facts}
    return {"code": spec.code, "kind": spec.kind, "title": spec.title, "facts": facts}


def check_events(contract: Contract) -> None:
    """Raise ContractError where `events.py` and `events.yml` differ: in a name, or a parameter's name or
    type."""
    classes = all_events()
    if odd := sorted(classes.keys() ^ contract.events.keys()):
        raise ContractError(f"events.py and events.yml do not both have {', '.join(odd)}")
    for name, cls in classes.items():
        fields = getattr(cls, "__dataclass_fields__", {})
        ours = {field.name: str(field.type) for field in fields.values()}
        theirs = {p.python: _annotation(contract, p) for p in contract.events[name].params}
        if ours != theirs:
            raise ContractError(f"{name}: {ours} in events.py, {theirs} in events.yml")


# How events.py writes the contract's base types; an object stands as `Any` there.
_ANNOTATIONS = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"}


def _annotation(contract: Contract, spec: FieldSpec) -> str:
    kind = spec.type
    if kind.startswith("["):
        inner = FieldSpec(spec.name, kind[1:-1])
        return f"list[{_annotation(contract, inner)}]"
    if kind in contract.scalars:
        is_uuid = contract.scalars[kind].format == "uuid"
        text = "UUID" if is_uuid else "str"
    elif kind in contract.enums:
        text = "str"
    else:
        text = _ANNOTATIONS.get(kind, "Any")
    return f"{text} | None" if spec.optional and text != "Any" else text
