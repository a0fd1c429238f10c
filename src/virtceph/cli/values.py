"""Parameters from the command line or a file: text made into what the contract says."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from virtceph.cli.arguments import UsageError
from virtceph.schema.spec import Contract, FieldSpec, VerbSpec, leaf_type

if TYPE_CHECKING:
    from virtceph.schema.codec import Mismatch

# Not `10GB`: to some that is a power of ten.
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([kmgtp])(?:ib?)?|b)?", re.IGNORECASE)
_FACTORS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def is_uuid(text: object) -> bool:
    """Whether `text` is a UUID in any of the forms that the contract accepts."""
    return isinstance(text, str) and _UUID.fullmatch(text) is not None


def names_vm(spec: FieldSpec) -> bool:
    """Whether the parameter takes a VM's name as well as its UUID."""
    return spec.name == "vmID" and spec.type == "UUID"


def params_of(contract: Contract, verb: VerbSpec, words: list[str]) -> dict[str, Any]:
    """The parameters of `arg=value` words, by wire names. Raises UsageError, which shows no value
    of a parameter that carries a secret."""
    specs = {p.name: p for p in verb.params}
    params: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if name not in specs:
            known = ", ".join(specs) or "none"
            raise UsageError(f"{verb.name} has no parameter {name!r}; it has: {known}")
        if not equals:
            raise UsageError(f"{name}: expected {name}=value")
        if name in params:
            raise UsageError(f"{name} is given twice")
        params[name] = _value(contract, specs[name], text)
    for spec in verb.params:
        if spec.required and spec.name not in params:
            raise UsageError(f"{spec.name} is missing: expected {_expected(contract, spec)}")
    return params


def params_from_file(path: str) -> dict[str, Any]:
    """The parameters in a JSON file, or on stdin for `-`. Blocks. Raises UsageError."""
    try:
        text = sys.stdin.read() if path == "-" else _text_of(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"-f {path}: {getattr(error, 'strerror', 'it is not UTF-8')}") from None
    try:
        params = json.loads(text)
    except ValueError as error:
        # The message has a position, and nothing of the content: that may be a key.
        raise UsageError(f"-f {path} is not JSON: {error}") from None
    except RecursionError:
        raise UsageError(f"-f {path}: is nested too deeply") from None
    if not isinstance(params, dict):
        raise UsageError(f"-f {path}: expected an object of parameters")
    return params


def _text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def redacted(contract: Contract, verb: VerbSpec, params: dict[str, Any]) -> dict[str, Any]:
    """The parameters for an error message. Where a verb takes a secret, whatever could be it is
    masked, misspelt names included."""
    if not any(contract.carries_secret(p.type) for p in verb.params):
        return params
    plain = {p.name for p in verb.params if not contract.carries_secret(p.type)}
    return {name: v if name in plain else "********" for name, v in params.items()}


def _value(contract: Contract, spec: FieldSpec, text: str) -> Any:
    if contract.carries_secret(spec.type) and text != "[]":
        raise UsageError(
            f"{spec.name} carries a secret, and every user of the host can read a command line: "
            "pass the parameters as JSON with -f FILE, or -f - for stdin"
        )
    if names_vm(spec) and not is_uuid(text):
        if not text:
            raise UsageError("vmID: expected a UUID or a VM's name")
        return text
    value = _parse(contract, spec, text)
    # Objects are left to the daemon, which checks everything anyway.
    if leaf_type(spec.type) not in contract.objects:
        _check(contract, spec, value)
    return value


def _check(contract: Contract, spec: FieldSpec, value: Any) -> None:
    from virtceph.schema.codec import Codec, Mismatch

    try:
        Codec(contract).field_decoder(spec)(value, spec.name)
    except Mismatch as mismatch:
        raise UsageError(_told(mismatch, spec)) from None


def _told(mismatch: Mismatch, spec: FieldSpec) -> str:
    return f"{mismatch}" + (", as in 512MiB or 10GiB" if spec.unit == "bytes" else "")


def _expected(contract: Contract, spec: FieldSpec) -> str:
    from virtceph.schema.codec import Codec

    return "a UUID or a VM's name" if names_vm(spec) else Codec(contract).expectation(spec)


def _parse(contract: Contract, spec: FieldSpec, text: str) -> Any:
    kind = spec.type
    if kind.startswith("["):
        return _list(contract, spec, text)
    if kind.startswith("{") or kind in contract.objects:
        return _json(spec, text)
    if spec.unit == "bytes":
        return _size(text)
    return _scalar(kind, text)


def _list(contract: Contract, spec: FieldSpec, text: str) -> Any:
    item = leaf_type(spec.type)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if item in contract.objects:
            raise UsageError(f"{spec.name}: expected a JSON array, as in '[{{…}}]'") from None
    # Not JSON: `a,b`, or an IPv6 monitor like `[::1]:6789`.
    return [_scalar(item, part) for part in text.split(",")] if text else []


def _json(spec: FieldSpec, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{spec.name}: expected JSON") from None


def _size(text: str) -> Any:
    """Bytes of `10GiB` or `4096`; the text itself when it is neither, for the codec to refuse."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return text
    size = float(match[1]) if "." in match[1] else int(match[1])
    size *= _FACTORS.get((match[2] or "").lower(), 1)
    return int(size) if size == int(size) else text


def _scalar(kind: str, text: str) -> Any:
    """The scalar that `text` writes, or the text itself, for the codec to refuse."""
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" else _number(text)
        except ValueError:
            return text
    if kind == "any":
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _number(text: str) -> float:
    return int(text) if text.lstrip("+-").isdigit() else float(text)
