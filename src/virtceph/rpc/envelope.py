"""The envelope of JSON-RPC 2.0: what is wrong with a request's, and that of a reply."""

from __future__ import annotations

from typing import Any

import orjson


def load(body: bytes) -> Any:
    """The JSON in a body. Raises orjson.JSONDecodeError."""
    return orjson.loads(body)


def dump(reply: Any) -> bytes:
    return orjson.dumps(reply)


def fault_of(untrusted: Any, *, any_id: bool = False) -> str | None:
    """What was expected of a request where it is something else, or None. `any_id`: whatever JSON value it
    has for an id is echoed."""
    if not isinstance(untrusted, dict):
        return "an object for each request"
    if untrusted.get("jsonrpc") != "2.0":
        return '`"jsonrpc": "2.0"`'
    if not isinstance(untrusted.get("method"), str):
        return "`method` as a string"
    ident = untrusted.get("id")
    if not any_id and (isinstance(ident, bool) or not isinstance(ident, str | int | float | None)):
        return "`id` as a string, a number or null"
    if not isinstance(untrusted.get("params", []), list | dict):
        return "`params` as an array or an object"
    return None


def failure(ident: Any, code: int, message: str, data: Any = None) -> dict[str, Any]:
    """A reply that tells an error; `data` only where there is some."""
    body = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return {"jsonrpc": "2.0", "id": ident, "error": body}
