"""How the contract's types, bounds and defaults read, for the help texts and the pages."""

from __future__ import annotations

import json

from virtceph.schema.spec import MISSING, Contract, FieldSpec, VerbSpec, leaf_type


def type_words(type_name: str) -> str:
    """`[UUID]` → `list of UUID`, `{any}` → `map to any`."""
    if type_name.startswith("["):
        return f"list of {type_name[1:-1]}"
    if type_name.startswith("{"):
        return f"map to {type_name[1:-1]}"
    return type_name


def unit_words(spec: FieldSpec) -> str:
    """`number, seconds`: the type with its unit."""
    words = type_words(spec.type)
    return f"{words}, {spec.unit}" if spec.unit else words


def bounds_words(spec: FieldSpec) -> str:
    """`above 0, at most 600`; empty where there is no bound."""
    bounds = (("at least", spec.minimum), ("above", spec.above), ("at most", spec.maximum))
    words = [f"{word} {bound}" for word, bound in bounds if bound is not None]
    return ", ".join([*words, "not empty"] if spec.nonempty else words)


def default_words(spec: FieldSpec) -> str:
    """`required`, `optional`, or the default in JSON."""
    if spec.required:
        return "required"
    return "optional" if spec.default is MISSING else json.dumps(spec.default)


def is_moment(spec: FieldSpec) -> bool:
    """Whether the field is a point in time (seconds since 1970) and not a duration."""
    return spec.unit == "seconds" and spec.python.endswith(("_at_s", "since_s", "until_s"))


def namespaces(contract: Contract) -> dict[str, list[VerbSpec]]:
    """The verbs by namespace, both in the contract's order."""
    found: dict[str, list[VerbSpec]] = {}
    for verb in contract.verbs.values():
        found.setdefault(verb.name.partition(".")[0], []).append(verb)
    return found


def value_words(contract: Contract, type_name: str) -> tuple[str, ...]:
    """The words a value of this type can be, where they can be listed."""
    if type_name == "boolean":
        return ("true", "false")
    return contract.enums[type_name].values if type_name in contract.enums else ()


def scalar_words(contract: Contract, type_name: str) -> str:
    """The rule of a scalar, or of the scalars in a list, in words; empty where there are none."""
    leaf = leaf_type(type_name)
    return (contract.scalars[leaf].expected or "") if leaf in contract.scalars else ""
