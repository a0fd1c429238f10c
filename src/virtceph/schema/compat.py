"""What a new contract takes away from callers of an old one: `python -m virtceph.schema.compat OLD NEW`.

Both are compiled contracts (`contract.json`). Callers are of the version before: what they send must still be
taken, and what they read must still be there. They pass over what they do not know, so more of anything that
is answered breaks nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from virtceph.schema.spec import (
    LEVELS,
    Contract,
    ContractError,
    EnumSpec,
    ErrorSpec,
    EventSpec,
    FieldSpec,
    ObjectSpec,
    ScalarSpec,
    VerbSpec,
    leaf_type,
    read_contract,
)

T = TypeVar("T")
Breaks = Iterator[str]
# An integer is a number: whoever takes numbers takes both, whoever was answered integers may not.
_WIDER = {("integer", "number"), ("true", "any")}


class _Use(NamedTuple):
    """Whether callers send values of a type, and whether they read them."""

    sent: frozenset[str]
    read: frozenset[str]


def breaks(old: Contract, new: Contract, *, released: bool = True) -> list[str]:
    """What breaks callers of the old contract, one sentence each. Unless the old one is `released`, what is
    new may be of its version."""
    use = _use_of(old)
    found = [
        *_each("verb", old.verbs, new.verbs, _verb),
        *_each("error", old.errors, new.errors, _error),
        *_each("event", old.events, new.events, _event),
        *_each("type", old.scalars, new.scalars, lambda a, b: _scalar(a, b, use)),
        *_each("type", old.enums, new.enums, _enum),
        *_each("type", old.objects, new.objects, lambda a, b: _object(a, b, use)),
        *_ages(old, new, released),
    ]
    return sorted(set(found))


def _each(
    what: str,
    old: Mapping[str, T],
    new: Mapping[str, T],
    compare: Callable[[T, T], Breaks],
) -> Breaks:
    for name, before in old.items():
        if name not in new:
            yield f"{what} {name}: it is gone"
        else:
            yield from compare(before, new[name])


# --- verbs ---


def _verb(old: VerbSpec, new: VerbSpec) -> Breaks:
    name = f"verb {old.name}"
    yield from _level(name, old.level, new.level)
    yield from _params(name, old.params, new.params)
    yield from _answer(f"{name}: its result", old.result, new.result)
    if old.true_to_engines and not new.true_to_engines:
        yield f"{name}: engines are no longer answered true"


def _level(name: str, old: str, new: str) -> Breaks:
    if LEVELS.index(new) > LEVELS.index(old):
        yield f"{name}: its level rose from {old} to {new}"


def _params(name: str, old: tuple[FieldSpec, ...], new: tuple[FieldSpec, ...]) -> Breaks:
    ours = {param.name: param for param in new}
    for param in old:
        if param.name not in ours:
            yield f"{name}: its parameter {param.name} is gone"
        else:
            yield from _sent(f"{name}: its parameter {param.name}", param, ours[param.name])
    known = {param.name for param in old}
    for param in new:
        if param.name not in known and param.required:
            yield f"{name}: its new parameter {param.name} is required"
    # By position too: what is new stands behind.
    order = [param.name for param in old if param.name in ours]
    if [param.name for param in new[: len(order)]] != order:
        yield f"{name}: its parameters stand in another order"


def _sent(name: str, old: FieldSpec, new: FieldSpec) -> Breaks:
    """What callers send: it must still be taken, and mean the same."""
    if old.type != new.type and (old.type, new.type) not in _WIDER:
        yield f"{name} was {old.type} and is {new.type}"
    if new.required and not old.required:
        yield f"{name} is required now"
    if not new.required and not old.required and old.default != new.default:
        yield f"{name} has another default"
    if old.unit != new.unit:
        yield f"{name} has another unit"
    if old.invalid != new.invalid:
        usual = "InvalidParams or InvalidParameter"
        yield f"{name} was refused as {old.invalid or usual} and is as {new.invalid or usual}"
    yield from _bounds(name, old, new)


def _bounds(name: str, old: FieldSpec, new: FieldSpec) -> Breaks:
    for bound in ("minimum", "above"):
        before, now = getattr(old, bound), getattr(new, bound)
        if now is not None and (before is None or now > before):
            yield f"{name} must be larger than before"
    if new.maximum is not None and (old.maximum is None or new.maximum < old.maximum):
        yield f"{name} must be smaller than before"
    if new.nonempty and not old.nonempty:
        yield f"{name} must not be empty any more"


def _answer(name: str, old: FieldSpec, new: FieldSpec) -> Breaks:
    """What callers read: it must still be there, and of the same kind."""
    if old.type != new.type and (new.type, old.type) not in _WIDER:
        yield f"{name} was {old.type} and is {new.type}"
    if old.required and not new.required:
        yield f"{name} may be absent now"
    if old.unit != new.unit:
        yield f"{name} has another unit"


# --- errors and events ---


def _error(old: ErrorSpec, new: ErrorSpec) -> Breaks:
    name = f"error {old.name}"
    if old.code != new.code:
        yield f"{name}: its code was {old.code} and is {new.code}"
    if old.kind != new.kind:
        yield f"{name}: its kind was {old.kind} and is {new.kind}"
    yield from _read(name, "fact", old.facts, new.facts)


def _event(old: EventSpec, new: EventSpec) -> Breaks:
    name = f"event {old.name}"
    yield from _level(name, old.level, new.level)
    yield from _read(name, "parameter", old.params, new.params)
    if old.subject != new.subject or (old.engines is not None and old.engines != new.engines):
        yield f"{name}: engines hear it by another method"


def _read(name: str, what: str, old: tuple[FieldSpec, ...], new: tuple[FieldSpec, ...]) -> Breaks:
    ours = {field.name: field for field in new}
    for field in old:
        if field.name not in ours:
            yield f"{name}: its {what} {field.name} is gone"
        else:
            yield from _answer(f"{name}: its {what} {field.name}", field, ours[field.name])


# --- types ---


def _scalar(old: ScalarSpec, new: ScalarSpec, use: _Use) -> Breaks:
    name = f"type {old.name}"
    if (old.base, old.format) != (new.base, new.format):
        yield f"{name} is of another kind"
    # Whether one pattern takes all that another does cannot be told, so any other one is looked at by people.
    if old.pattern != new.pattern and new.pattern is not None and old.name in use.sent:
        yield f"{name} has another pattern: does it take all that it took?"


def _enum(old: EnumSpec, new: EnumSpec) -> Breaks:
    for value in old.values:
        if value not in new.values:
            yield f"type {old.name}: its value {value} is gone"


def _object(old: ObjectSpec, new: ObjectSpec, use: _Use) -> Breaks:
    name = f"type {old.name}"
    if old.name in use.sent:
        ours = {field.name: field for field in new.fields}
        known = {field.name for field in old.fields}
        for field in old.fields:
            if field.name not in ours:
                yield f"{name}: its field {field.name} is gone"
            else:
                yield from _sent(f"{name}: its field {field.name}", field, ours[field.name])
        for field in new.fields:
            if field.name not in known and field.required:
                yield f"{name}: its new field {field.name} is required"
    if old.name in use.read:
        yield from _read(name, "field", old.fields, new.fields)


def _use_of(contract: Contract) -> _Use:
    sent = _reached(contract, (p for v in contract.verbs.values() for p in v.params))
    answered = [verb.result for verb in contract.verbs.values()]
    answered += [param for event in contract.events.values() for param in event.params]
    answered += [fact for error in contract.errors.values() for fact in error.facts]
    read = _reached(contract, answered)
    # Results of jobs are `any` to the contract: whatever nobody sends is read.
    alone = set(contract.objects) - sent
    return _Use(frozenset(sent), frozenset(read | alone))


def _reached(contract: Contract, fields: Any) -> set[str]:
    """The types of fields, and those inside them."""
    found: set[str] = set()
    waiting = [leaf_type(field.type) for field in fields]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            inside = contract.objects[name].fields if name in contract.objects else ()
            waiting += [leaf_type(field.type) for field in inside]
    return found


# --- since ---


def _ages(old: Contract, new: Contract, released: bool) -> Breaks:
    """What was there is as old as it was, and what is new is newer than all that was there."""
    before, now = _all_ages(old), _all_ages(new)
    newest = max((_version(since) for since in before.values()), default=())
    for name, since in now.items():
        if name in before and before[name] != since:
            yield f"{name}: it is there since {before[name]}, not since {since}"
        too_old = _version(since) <= newest if released else _version(since) < newest
        if name not in before and too_old:
            yield f"{name}: it is new, and says to be there since {since}"


def _all_ages(contract: Contract) -> dict[str, str]:
    ages: dict[str, str] = {}
    owners: list[tuple[str, Any, tuple[FieldSpec, ...]]] = [
        *(("verb", verb, verb.params) for verb in contract.verbs.values()),
        *(("error", error, error.facts) for error in contract.errors.values()),
        *(("event", event, event.params) for event in contract.events.values()),
        *(("type", scalar, ()) for scalar in contract.scalars.values()),
        *(("type", enum, ()) for enum in contract.enums.values()),
        *(("type", thing, thing.fields) for thing in contract.objects.values()),
    ]
    for what, owner, fields in owners:
        ages[f"{what} {owner.name}"] = owner.since
        ages |= {f"{what} {owner.name}: {field.name}": field.since for field in fields}
    return ages


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


# --- the command ---


def read_compiled(text: str) -> Contract:
    """The contract in the text of a `contract.json`. Raises ContractError."""
    try:
        return read_contract(json.loads(text)["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(f"no compiled contract: {error}") from error


def main(argv: list[str]) -> int:
    """Compare two files, and name what breaks. 0: nothing; 1: something; 2: wrong usage. Blocks."""
    if len(argv) != 2:
        print("usage: python -m virtceph.schema.compat OLD.json NEW.json", file=sys.stderr)
        return 2
    contracts = []
    for name in argv:
        try:
            contracts.append(read_compiled(Path(name).read_text("utf-8")))
        except (OSError, ContractError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
    found = breaks(*contracts)
    for sentence in found:
        print(sentence)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
