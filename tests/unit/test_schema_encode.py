"""Results and facts on their way to the wire, and whether classes agree with the contract."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.contracts import small_contract
from virtceph.schema import Codec, Contract, ContractError, FieldSpec, check_wire_classes, wire
from virtceph.sensitive import Sensitive

VM = UUID("5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01")


@pytest.fixture
def contract() -> Contract:
    return small_contract()


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    # The real contract must not see the classes of these tests.
    monkeypatch.setattr("virtceph.schema.codec._wire_classes", {})


def test_results_are_encoded_by_their_wire_names_and_units(contract: Contract) -> None:
    result = SimpleNamespace(vm_id=VM, wait_s=90.0, size_bytes=5, reason=None)
    encode = Codec(contract).encoder(FieldSpec.read("result", "[TestResult]"))
    assert encode([result]) == [{"vmId": str(VM), "wait": 1.5, "size": 5}]


@pytest.mark.parametrize(
    ("spec", "value"),
    [
        ("UUID", str(VM)),
        ("boolean", 1),
        ("integer", True),
        ("string", b"bytes"),
        ("string", Sensitive(b"key")),
        ("Colour", "blue"),
    ],
)
def test_a_wrong_result_is_our_bug_and_not_sent(contract: Contract, spec: str, value: Any) -> None:
    with pytest.raises(TypeError):
        Codec(contract).encoder(FieldSpec.read("result", spec))(value)


def test_a_verb_that_only_acts_answers_true(contract: Contract) -> None:
    assert Codec(contract).encoder(FieldSpec.read("result", "true"))(None) is True


def test_facts_go_by_their_wire_names(contract: Contract) -> None:
    facts = (FieldSpec.read("vmId", "UUID"), FieldSpec.read("reason", "string"))
    encoded = Codec(contract).encode_facts(facts, {"vm_id": VM, "reason": "r"})
    assert encoded == {"vmId": str(VM), "reason": "r"}


def test_a_class_that_differs_from_its_object_is_a_contract_error(contract: Contract) -> None:
    @wire("TestResult")
    @dataclass
    class Result:
        vm_id: UUID
        wait: float

    with pytest.raises(ContractError, match="TestResult: class and contract differ in"):
        check_wire_classes(contract)


def test_a_class_without_an_object_is_a_contract_error(contract: Contract) -> None:
    wire("Nothing")(SimpleNamespace)
    with pytest.raises(ContractError, match="no object Nothing"):
        check_wire_classes(contract)
