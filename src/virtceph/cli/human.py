"""`--human`: results as tables and units, after the contract's description of them."""

from __future__ import annotations

import json
from typing import Any

from virtceph.cli.table import Style, duration, moment, pairs, plain, safe, size, table
from virtceph.cli.views import VIEWS
from virtceph.schema.spec import Contract, FieldSpec, leaf_type
from virtceph.schema.words import is_moment

# What a list leaves out: it tells a person nothing, or would make the lines wider than a screen.
_HIDDEN = {
    "JobInfo": {"job_type", "bytesDone", "ended"},
    "VMSummary": {"statusTime"},
    "SnapshotSet": {"setID", "reason", "steps", "disks", "missing"},
}


# Of the result of a job in a list of jobs.
_OUTCOME = ("consistency", "volumeName", "path")


def render(contract: Contract, spec: FieldSpec, result: Any, style: Style = plain) -> str:
    """A verb's result for people. What is not as the contract says is shown as JSON."""
    if result == {} and spec.type in contract.objects:
        return "ok"  # nothing more is to be said
    try:
        return "\n".join(_lines(contract, spec, result, style))
    except (KeyError, AttributeError, TypeError, ValueError):
        # A daemon of another version may answer otherwise.
        return json.dumps(result, indent=4, sort_keys=True)


def _lines(contract: Contract, spec: FieldSpec, result: Any, style: Style) -> list[str]:
    if spec.type == "true":
        return ["ok"] if result is True else [cell(spec, result)]
    if spec.type in VIEWS:
        return VIEWS[spec.type](result, style)
    if spec.type.startswith(("[", "{")):
        return _many(contract, spec, result, style)
    if spec.type in contract.objects:
        return _object(contract, spec.type, result, style)
    return [cell(spec, result)]


def _many(contract: Contract, spec: FieldSpec, result: Any, style: Style) -> list[str]:
    leaf = leaf_type(spec.type)
    if not result:
        return ["none"]
    if leaf in contract.objects:
        rows = list(result.values()) if spec.type.startswith("{") else list(result)
        return _table(contract, leaf, rows, style)
    if isinstance(result, dict):
        return pairs([(safe(str(k)), _loose(v)) for k, v in result.items()], style)
    return [_loose(item) for item in result]


def _table(contract: Contract, name: str, rows: list[Any], style: Style) -> list[str]:
    if not all(isinstance(row, dict) for row in rows):
        raise TypeError(name)
    columns = [
        field
        for field in contract.objects[name].fields
        if field.name not in _HIDDEN.get(name, ()) and any(field.name in row for row in rows)
    ]
    cells = [[cell(field, row.get(field.name)) for field in columns] for row in rows]
    right = [field.type in ("integer", "number") and not is_moment(field) for field in columns]
    return table([field.name for field in columns], cells, right, style)


def _object(contract: Contract, name: str, result: Any, style: Style) -> list[str]:
    if not isinstance(result, dict):
        raise TypeError(name)
    fields = [f for f in contract.objects[name].fields if f.name in result]
    if not fields:
        return ["none"]
    # Inner tables come last, or the keys would not line up around them.
    below = [f for f in fields if _is_inner(contract, f)]
    rows = [(f.name, cell(f, result[f.name])) for f in fields if f not in below]
    lines = pairs(rows, style)
    for field in below:
        inner = _lines(contract, field, result[field.name], style)
        lines += ["", style(f"{field.name}:"), *(f"  {line}" for line in inner)]
    return lines


def _is_inner(contract: Contract, field: FieldSpec) -> bool:
    is_map = field.type.startswith("{")
    return is_map or (leaf_type(field.type) in contract.objects and field.type != "DiskVolume")


def cell(field: FieldSpec, value: Any) -> str:
    """One value on one line, in units for people."""
    if value is None:
        return "-"
    if field.type == "DiskVolume":
        parts = (value["pool"], value.get("namespace"), value["volumeName"])
        return safe("/".join(part for part in parts if part))
    if field.type == "JobError":
        return safe(f"{value['code']}: {value['message']}")
    if field.name == "result" and isinstance(value, dict):
        return _loose({name: value[name] for name in _OUTCOME if name in value})
    if field.unit in ("bytes", "bytes/s"):
        return size(value) + field.unit.removeprefix("bytes")
    if is_moment(field):
        return moment(value)
    if field.unit in ("seconds", "minutes"):
        return duration(value * 60 if field.unit == "minutes" else value)
    return f"{value}%" if field.name == "progress" else _loose(value)


def _loose(value: Any) -> str:
    """One line for a value the contract says no more about."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_loose, value)) or "-"
    if isinstance(value, dict):
        # The short facts; lists of objects would only make the line long.
        short = {k: v for k, v in value.items() if not isinstance(v, (list, dict))}
        return " ".join(f"{safe(str(k))}={_loose(v)}" for k, v in short.items()) or "-"
    return safe(str(value)) or "-"
