"""The contract as a whole: read, compiled, consistent, and in agreement with the error classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from virtceph.schema import ContractError, load_contract, python_name
from virtceph.schema.agree import check_errors
from virtceph.schema.files import COMPILED, FILES, compile_files, contract_folder, read_files
from virtceph.schema.spec import Contract, read_contract


@pytest.fixture
def files() -> dict[str, Any]:
    """The parsed files, free to be changed."""
    return dict(json.loads(json.dumps(read_files(contract_folder()))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the YAML files, and the compiled one made from them."""
    for name in FILES:
        shutil.copy(contract_folder() / f"{name}.yml", tmp_path)
    (tmp_path / COMPILED).write_text(compile_files(tmp_path), "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("vm", "VM.freeze", "lane"), "fast", "VM.freeze: unknown lane fast"),
        (("vm", "VM.freeze", "level"), "god", "VM.freeze: .*level god"),
        (("vm", "VM.freeze", "key"), "uuid", "VM.freeze: its key uuid is no parameter"),
        (("vm", "VM.freeze", "errors"), ["Oops"], "VM.freeze: unknown error Oops"),
        (("vm", "VM.snapshot", "jobErrors"), ["Oops"], "unknown error Oops"),
        (("vm", "VM.freeze", "params", "vmID", "invalid"), "Oops", "unknown error Oops"),
        (("vm", "VM.freeze", "params", "vmID", "type"), "[Vm]", r"VM\.freeze\.vmID: unknown type"),
        (("vm", "VM.freeze", "params", "vmID", "unit"), "hours", "unknown unit hours"),
        (("vm", "VM.freeze", "params", "vmID", "colour"), "red", "malformed: .*colour"),
        (("vm", "VM.freeze", "result", "type"), "Nothing", r"VM\.freeze\.result: unknown type"),
        (("types", "objects", "VMInfo", "fields", "name"), "Text2", r"VMInfo\.name: unknown type"),
        (("errors", "NoSuchVM", "facts", "vmId"), "Id", r"NoSuchVM\.vmId: unknown type"),
        (("errors", "NoSuchVM", "colour"), "red", "malformed"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(
    files: dict[str, Any], path: tuple[str, ...], value: Any, message: str
) -> None:
    place = files
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ContractError, match=message):
        read_contract(files)


def test_a_missing_section_is_a_contract_error(files: dict[str, Any]) -> None:
    del files["types"]["enums"]
    with pytest.raises(ContractError, match="enums"):
        read_contract(files)


@pytest.mark.parametrize(
    ("wire", "unit", "python"),
    [
        ("storageDomainID", None, "storage_domain_id"),
        ("vmID", None, "vm_id"),
        ("size", "bytes", "size_bytes"),
        ("freeze_timeout", "minutes", "freeze_timeout_s"),
        ("expiresIn", "seconds", "expires_in_s"),
    ],
)
def test_python_names_carry_the_unit(wire: str, unit: str | None, python: str) -> None:
    assert python_name(wire, unit) == python


def test_a_verb_answers_its_own_errors_and_those_of_its_lane() -> None:
    contract = load_contract()
    errors = contract.errors_of(contract.verbs["VM.getInfo"])
    assert {"NoSuchVM", "InvalidParams", "LibvirtUnavailable"} <= set(errors)
    assert "CephUnavailable" not in errors
    assert contract.errors_of(contract.verbs["Host.ping2"]) == ["InvalidParams"]


def test_what_carries_a_secret_is_known_at_any_depth() -> None:
    contract = load_contract()
    assert contract.carries_secret("[SecretInfo]")
    assert contract.carries_secret("SecretValue")
    assert not contract.carries_secret("[RegisteredSecret]")


def test_a_fresh_compiled_contract_is_read_instead_of_the_yaml(folder: Path) -> None:
    compiled = json.loads((folder / COMPILED).read_text("utf-8"))
    compiled["files"] = {"from": "json"}
    (folder / COMPILED).write_text(json.dumps(compiled))
    assert read_files(folder) == {"from": "json"}


def test_the_compiled_contract_says_what_the_yaml_says(folder: Path) -> None:
    from_json = read_files(folder)
    (folder / COMPILED).unlink()
    assert read_files(folder) == from_json


@pytest.mark.parametrize("text", ["", "{", '{"sha256": "0", "files": {}}'])
def test_a_stale_or_broken_compiled_contract_is_passed_over(folder: Path, text: str) -> None:
    (folder / COMPILED).write_text(text)
    assert "VM.freeze" in read_files(folder)["vm"]


def test_changed_yaml_makes_the_compiled_contract_stale(folder: Path) -> None:
    with (folder / "vm.yml").open("a") as vm:
        vm.write("VM.dance: {}\n")
    assert "VM.dance" in read_files(folder)["vm"]


def test_the_compiled_contract_serves_where_there_is_no_yaml(folder: Path) -> None:
    for path in folder.glob("*.yml"):
        path.unlink()
    assert "VM.freeze" in read_files(folder)["vm"]


def test_the_error_classes_agree_with_the_contract() -> None:
    check_errors(load_contract())


def without(contract: Contract, name: str) -> Contract:
    errors = {n: e for n, e in contract.errors.items() if n != name}
    return contract._replace(errors=errors)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"code": 2}, "code"),
        ({"kind": "state"}, "kind"),
        ({"title": "No VM"}, "title"),
        ({"facts": ()}, "facts"),
    ],
)
def test_an_error_that_differs_is_named(change: dict[str, Any], what: str) -> None:
    contract = load_contract()
    changed = contract.errors["NoSuchVM"]._replace(**change)
    errors = {**contract.errors, "NoSuchVM": changed}
    with pytest.raises(ContractError, match=f"NoSuchVM: its {what} is"):
        check_errors(contract._replace(errors=errors))


def test_an_error_only_one_side_has_is_named() -> None:
    with pytest.raises(ContractError, match="do not both have NoSuchVM"):
        check_errors(without(load_contract(), "NoSuchVM"))
