"""Whether the error classes say what the contract says of them. The daemon asks at its start."""

from __future__ import annotations

from typing import Any

from virtceph.errors import VirtcephError, all_errors
from virtceph.schema.spec import Contract, ContractError, ErrorSpec

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
