"""Values from the wire: what is taken, what is refused, and how that is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.contracts import small_contract
from virtceph.schema import Codec, Contract, FieldSpec, Mismatch, load_contract, wire
from virtceph.sensitive import Sensitive

VM = UUID("5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01")


@wire("TestItem")
@dataclass
class Item:
    uuid: UUID
    key: Sensitive | None


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    # The real contract must not see the class of this test.
    monkeypatch.setattr("virtceph.schema.codec._wire_classes", {"TestItem": Item})


@pytest.fixture
def contract() -> Contract:
    return small_contract()


def decode(contract: Contract, raw: dict[str, Any], value: Any, *, strict: bool = True) -> Any:
    fields = tuple(FieldSpec.read(name, spec) for name, spec in raw.items())
    return Codec(contract, strict=strict).params_decoder(fields)(value)


def refused(contract: Contract, spec: Any, value: Any, *, strict: bool = True) -> Mismatch:
    with pytest.raises(Mismatch) as caught:
        decode(contract, {"field": spec}, {"field": value}, strict=strict)
    return caught.value


@pytest.mark.parametrize(
    ("spec", "value", "python"),
    [
        ("boolean", False, False),
        ("integer", 0, 0),
        ("number", 3, 3.0),
        ("string", "ü", "ü"),
        ("any", {"a": [1]}, {"a": [1]}),
        ("UUID", str(VM), VM),
        ("UUID", str(VM).upper(), VM),
        ("UUID", VM.hex, VM),
        ("Name", "abc", "abc"),
        ("Colour", "red", "red"),
        ("Key", "a2V5", Sensitive(b"key")),
        ("[integer]", [1, 2], [1, 2]),
        ("{Colour}", {"a": "red"}, {"a": "red"}),
        ("[TestItem]", [{"uuid": str(VM)}], [Item(VM, None)]),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_right_values_are_decoded(
    contract: Contract, spec: Any, value: Any, python: Any, strict: bool
) -> None:
    assert decode(contract, {"field": spec}, {"field": value}, strict=strict) == {"field": python}


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("boolean", "true"),
        ("boolean", 1),
        ("integer", "1"),
        ("integer", True),
        ("integer", 1.0),
        ("number", "1.5"),
        ("number", None),
        ("string", 1),
        ("UUID", 1),
        ("Name", ["abc"]),
        ("Colour", 3),
        ("Key", {"a": 1}),
        ("[integer]", "1"),
        ("[integer]", {"0": 1}),
        ("{integer}", [1]),
        ("TestItem", "x"),
    ],
)
def test_the_wrong_kind_of_value_is_refused_as_structural(
    contract: Contract, spec: Any, value: Any
) -> None:
    mismatch = refused(contract, spec, value)
    assert mismatch.structural
    assert mismatch.field == "field"


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("UUID", "5c6a"),
        ("UUID", f"{{{VM}}}"),
        ("UUID", f"urn:uuid:{VM}"),
        ("UUID", f"{VM}\n"),
        ("Name", "abcd"),
        ("Name", "abc\n"),
        ("Colour", "blue"),
        ("Key", "a"),
        ("Key", ""),
        ("Key", "a2V5\u00e9"),
        ("number", float("nan")),
        ("number", float("inf")),
        ("number", 10**400),
    ],
)
def test_an_impossible_value_of_the_right_kind_is_refused(
    contract: Contract, spec: Any, value: Any
) -> None:
    assert not refused(contract, spec, value).structural


@pytest.mark.parametrize("strict", [True, False])
def test_a_refused_secret_is_never_shown(contract: Contract, strict: bool) -> None:
    mismatch = refused(contract, "Key", "c2VjcmV0c2VjcmV0c", strict=strict)
    assert str(mismatch) == "field: expected base64 of 1 to 65536 bytes"
    assert mismatch.__suppress_context__


def test_a_secret_of_the_greatest_length_is_taken_and_no_longer_one(contract: Contract) -> None:
    key = Sensitive(bytes(65536)).reveal_base64()
    assert decode(contract, {"field": "Key"}, {"field": key})["field"] == Sensitive(bytes(65536))
    refused(contract, "Key", Sensitive(bytes(65537)).reveal_base64())


@pytest.mark.parametrize(
    ("spec", "text", "python"),
    [
        ("boolean", "True", True),
        ("boolean", "false", False),
        ("integer", "-12", -12),
        ("number", "1.5", 1.5),
        ("string", "true", "true"),
        ("[integer]", ["1", 2], [1, 2]),
    ],
)
def test_lax_decoding_takes_scalars_written_as_strings(
    contract: Contract, spec: Any, text: Any, python: Any
) -> None:
    assert decode(contract, {"field": spec}, {"field": text}, strict=False) == {"field": python}


@pytest.mark.parametrize(
    ("spec", "text"),
    [("boolean", "yes"), ("integer", "1.5"), ("integer", "1_0"), ("number", "nan"), ("number", "")],
)
def test_lax_decoding_guesses_no_further(contract: Contract, spec: Any, text: str) -> None:
    refused(contract, spec, text, strict=False)


def test_unknown_names_are_refused_or_skipped(contract: Contract) -> None:
    with pytest.raises(Mismatch, match=r"^b: expected no other field than a$"):
        decode(contract, {"a": "integer"}, {"a": 1, "b": 2})
    assert decode(contract, {"a": "integer"}, {"a": 1, "b": 2}, strict=False) == {"a": 1}


def test_a_missing_parameter_is_said_to_be_missing(contract: Contract) -> None:
    with pytest.raises(Mismatch, match=r"^vmID: expected a UUID \(it is missing\)$"):
        decode(contract, {"vmID": "UUID"}, {})


def test_defaults_stand_in_for_absent_parameters_and_are_not_shared(contract: Contract) -> None:
    spec = {
        "list": {"type": "[UUID]", "default": []},
        "timeout": {"type": "number", "unit": "minutes", "default": 8},
        "name": {"type": "string", "optional": True},
    }
    first = decode(contract, spec, {"name": None})
    assert first == {"list": [], "timeout_s": 480.0, "name": None}
    first["list"].append(VM)
    assert decode(contract, spec, {})["list"] == []


def test_null_is_no_value_for_a_parameter_with_a_default(contract: Contract) -> None:
    refused(contract, {"type": "boolean", "default": False}, None)


@pytest.mark.parametrize(
    ("bounds", "good", "bad", "words"),
    [
        ({"minimum": 1}, 1, 0, "at least 1"),
        ({"above": 0}, 1, 0, "above 0"),
        ({"maximum": 600}, 600, 601, "at most 600"),
        ({"maximum": 33554432}, 33554432, 33554433, "at most 33554432"),
    ],
)
def test_bounds_are_kept_and_named(
    contract: Contract, bounds: dict[str, int], good: int, bad: int, words: str
) -> None:
    spec = {"type": "integer", **bounds}
    assert decode(contract, {"field": spec}, {"field": good}) == {"field": good}
    mismatch = refused(contract, spec, bad)
    assert str(mismatch) == f"field: expected a whole number, {words}"
    assert not mismatch.structural


def test_bounds_are_in_the_units_of_the_wire(contract: Contract) -> None:
    spec = {"type": "number", "unit": "minutes", "maximum": 10}
    assert decode(contract, {"wait": spec}, {"wait": 10}) == {"wait_s": 600.0}
    assert "a number of minutes, at most 10" in str(refused(contract, spec, 11))


def test_units_name_the_python_parameter(contract: Contract) -> None:
    spec = {
        "a": {"type": "number", "unit": "seconds"},
        "newSize": {"type": "integer", "unit": "bytes"},
    }
    assert decode(contract, spec, {"a": 2, "newSize": 3}) == {"a_s": 2.0, "new_size_bytes": 3}


def test_an_empty_list_is_refused_where_it_may_not_be(contract: Contract) -> None:
    assert "not empty" in str(refused(contract, {"type": "[Name]", "nonempty": True}, []))


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ([{"uuid": str(VM)}, {"uuid": "x"}], "secrets[1].uuid"),
        ([{}], "secrets[0].uuid"),
        ([{"uuid": str(VM), "extra": 1}], "secrets[0].extra"),
        ([{"uuid": str(VM), "key": 5}], "secrets[0].key"),
        ([7], "secrets[0]"),
    ],
)
def test_the_path_leads_to_the_wrong_field(contract: Contract, value: Any, path: str) -> None:
    with pytest.raises(Mismatch) as caught:
        decode(contract, {"secrets": "[TestItem]"}, {"secrets": value})
    assert caught.value.field == path


def test_a_scalar_is_expected_in_words_where_the_contract_has_them(contract: Contract) -> None:
    assert refused(contract, "Told", "abc").expected == "a letter"
    assert refused(contract, "[Told]", ["abc"]).expected == "a letter"
    assert refused(contract, "Name", "abcd").expected == "Name, text that matches [a-z]{1,3}"


@pytest.mark.parametrize("name", sorted(n for n, s in load_contract().scalars.items() if s.pattern))
def test_no_caller_is_shown_a_regular_expression(name: str) -> None:
    assert load_contract().scalars[name].expected


@pytest.mark.parametrize("port", ["1", "80", "6789", "9999", "10000", "59999", "64999", "65535"])
def test_a_monitor_has_a_port_that_exists(port: str) -> None:
    for host in ("a", "v2:10.0.1.1", "[::1]"):
        text = f"{host}:{port}"
        assert decode(load_contract(), {"m": "Monitor"}, {"m": text}) == {"m": text}


@pytest.mark.parametrize("port", ["0", "65536", "65540", "65600", "66000", "70000", "99999", ""])
def test_a_monitor_whose_port_does_not_exist_is_refused(port: str) -> None:
    assert "as 10.0.1.1:6789" in refused(load_contract(), "Monitor", f"a:{port}").expected
