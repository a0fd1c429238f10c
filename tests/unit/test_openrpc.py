"""The OpenRPC document: complete, and as OpenRPC 1.3 and JSON Schema want it."""

from __future__ import annotations

import re
from typing import Any

import jsonschema
import pytest

from virtceph.schema import load_contract
from virtceph.schema.openrpc import openrpc_document

CONTRACT = load_contract()
DOCUMENT = openrpc_document(CONTRACT, "0.1.0")

# The rules of OpenRPC's own meta schema, as far as they concern what stands in ours: which keys an object
# may have beside `x-…`, which it must have, and of what type they are.
_TEXT: dict[str, Any] = {"type": "string"}


def _thing(needed: tuple[str, ...], /, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(needed),
        "properties": properties,
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
    }


_SCHEMA = {"$ref": "http://json-schema.org/draft-07/schema#"}
_DESCRIPTOR = _thing(
    ("name", "schema"),
    name={"type": "string", "minLength": 1},
    summary=_TEXT,
    description=_TEXT,
    required={"type": "boolean"},
    schema={},
    deprecated={"type": "boolean"},
)
_ERROR = {
    "type": "object",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": _TEXT, "data": {}},
    "additionalProperties": False,
}
_METHOD = _thing(
    ("name", "params", "result"),
    name={"type": "string", "minLength": 1},
    summary=_TEXT,
    description=_TEXT,
    tags={"type": "array", "items": _thing(("name",), name=_TEXT, description=_TEXT)},
    paramStructure={"enum": ["by-name", "by-position", "either"]},
    params={"type": "array", "items": _DESCRIPTOR},
    result=_DESCRIPTOR,
    errors={"type": "array", "items": _ERROR},
    deprecated={"type": "boolean"},
)
META = _thing(
    ("openrpc", "info", "methods"),
    openrpc={"enum": ["1.3.2"]},
    info=_thing(
        ("title", "version"),
        title=_TEXT,
        version=_TEXT,
        description=_TEXT,
        license=_thing(("name",), name=_TEXT, url=_TEXT),
    ),
    servers={
        "type": "array",
        "items": _thing(("name", "url"), name=_TEXT, url=_TEXT, summary=_TEXT, description=_TEXT),
    },
    methods={"type": "array", "items": _METHOD},
    components={
        "type": "object",
        "properties": {
            "schemas": {
                "type": "object",
                "patternProperties": {"^[a-zA-Z0-9._-]+$": {}},
                "additionalProperties": False,
            }
        },
    },
)


def test_the_document_is_as_openrpc_wants_it() -> None:
    jsonschema.Draft7Validator(META).validate(DOCUMENT)


def test_every_verb_is_there_once_with_all_that_it_takes() -> None:
    methods = {method["name"]: method for method in DOCUMENT["methods"]}
    assert list(methods) == list(CONTRACT.verbs)
    for name, verb in CONTRACT.verbs.items():
        params = methods[name]["params"]
        assert {p["name"] for p in params} == {p.name for p in verb.params}
        assert {p["name"] for p in params if p["required"]} == {
            p.name for p in verb.params if p.required
        }
        # "All optional params MUST be positioned after all required params."
        needed = [p["required"] for p in params]
        assert needed == sorted(needed, reverse=True), name
        told = {error["name"] for error in methods[name]["x-errors"]}
        assert told == set(CONTRACT.errors_of(verb))


def test_the_codes_of_a_methods_errors_are_unique_and_none_is_reserved() -> None:
    for method in DOCUMENT["methods"]:
        codes = [error["code"] for error in method["errors"]]
        assert len(codes) == len(set(codes)), method["name"]
        assert not [code for code in codes if -32768 <= code <= -32000]


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert set(schemas) == {*CONTRACT.scalars, *CONTRACT.enums, *CONTRACT.objects}
    inline = [d["schema"] for m in DOCUMENT["methods"] for d in (*m["params"], m["result"])]
    for schema in (*schemas.values(), *inline):
        jsonschema.Draft7Validator.check_schema(schema)
        for name in re.findall(r"'\$ref': '#/components/schemas/(\w+)'", str(schema)):
            assert name in schemas
        assert "'$ref': '#/definitions" not in str(schema)


def _schema_of(verb: str, param: str) -> dict[str, Any]:
    method = next(m for m in DOCUMENT["methods"] if m["name"] == verb)
    schema = next(p["schema"] for p in method["params"] if p["name"] == param)
    return {**schema, "components": DOCUMENT["components"]}


@pytest.mark.parametrize(
    ("verb", "param", "good", "bad"),
    [
        ("VM.freeze", "timeout", [1, 0.5, 600], [0, 601, "1", None]),
        ("VM.freeze", "vmID", ["5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"], [1, None]),
        ("Volume.create", "volumeName", ["a", "web-1"], ["", "a/b", "a" * 96]),
        ("Volume.create", "features", [[], ["layering"]], [["nonsense"], "layering"]),
        ("VM.createConsistentSnapshot", "freeze", ["required", "no"], ["maybe", True]),
        ("VM.createConsistentSnapshot", "disks", [["vda"]], [[], ["VDA"]]),
        ("Host.registerSecrets", "clear", [True], ["true"]),
    ],
)
def test_a_schema_takes_what_the_daemon_takes(
    verb: str, param: str, good: list[Any], bad: list[Any]
) -> None:
    schema = _schema_of(verb, param)
    validator = jsonschema.Draft7Validator(schema)
    for value in good:
        assert validator.is_valid(value), value
    for value in bad:
        assert not validator.is_valid(value), value


def test_a_secret_is_marked_as_one() -> None:
    assert DOCUMENT["components"]["schemas"]["SecretValue"]["writeOnly"] is True
