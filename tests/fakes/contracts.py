"""A small contract for tests of what works with any."""

from __future__ import annotations

from typing import Any

from virtceph.schema.files import VERB_FILES
from virtceph.schema.spec import Contract, read_contract

TYPES: dict[str, Any] = {
    "scalars": {
        "UUID": {"base": "string", "format": "uuid", "description": ""},
        "Name": {"base": "string", "pattern": "[a-z]{1,3}", "description": ""},
        "Told": {"base": "string", "pattern": "[a-z]", "description": "", "expected": "a letter"},
        "Key": {"base": "string", "format": "secret", "description": ""},
    },
    "enums": {"Colour": {"values": ["red", "green"], "description": ""}},
    "objects": {
        "TestItem": {
            "description": "",
            "fields": {"uuid": "UUID", "key": {"type": "Key", "optional": True}},
        },
        "TestResult": {
            "description": "",
            "fields": {
                "vmId": "UUID",
                "wait": {"type": "number", "unit": "minutes"},
                "size": {"type": "integer", "unit": "bytes"},
                "reason": {"type": "string", "optional": True},
            },
        },
    },
}


def small_contract() -> Contract:
    """A few types, and neither verbs nor errors."""
    files: dict[str, Any] = {name: {} for name in ("errors", *VERB_FILES)}
    return read_contract({"types": TYPES, **files})
