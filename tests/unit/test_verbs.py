"""Every verb of the contract has its function, and every verb and error its test."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.contracts import small_contract
from virtceph import errors
from virtceph.schema import Contract, ContractError, check_wire_classes, codec, load_contract
from virtceph.schema.agree import check_errors
from virtceph.schema.spec import FieldSpec, leaf_type
from virtceph.verbs import registry

TESTS = Path(__file__).parents[1]
CONTRACT = load_contract()
FUNCTIONS = registry.load_verbs(CONTRACT)


@pytest.mark.parametrize("name", CONTRACT.verbs)
def test_a_verb_has_a_function_with_the_contracts_arguments(name: str) -> None:
    arguments = list(inspect.signature(FUNCTIONS[name]).parameters)
    assert arguments == ["host", *(param.python for param in CONTRACT.verbs[name].params)]


@pytest.mark.parametrize("name", CONTRACT.verbs)
def test_a_verb_is_plain_and_says_what_it_does_and_raises(name: str) -> None:
    function = FUNCTIONS[name]
    assert not inspect.iscoroutinefunction(function)
    told = function.__doc__ or ""
    waits = CONTRACT.verbs[name].lane != "inline"
    assert ("Blocks" in told) == waits, "it says `Blocks` if it may wait, and only then"
    # What the decoder answers is no function's business.
    of_decoder = {"InvalidParameter", *(param.invalid for param in CONTRACT.verbs[name].params)}
    own = set(CONTRACT.verbs[name].errors) - of_decoder
    unsaid = {error for error in own if not re.search(rf"\b{error}\b", told)}
    assert not unsaid, f"its docstring does not name {sorted(unsaid)}"


def test_classes_and_errors_agree_with_the_contract(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests register classes of their own.
    ours = {n: c for n, c in codec._wire_classes.items() if c.__module__.startswith("virtceph.")}
    assert ours
    monkeypatch.setattr(codec, "_wire_classes", ours)
    check_wire_classes(CONTRACT)
    check_errors(CONTRACT)


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> dict[str, Callable[..., Any]]:
    copied = dict(FUNCTIONS)
    monkeypatch.setattr(registry, "_functions", copied)
    return copied


def test_a_verb_without_a_function_stops_the_start(
    functions: dict[str, Callable[..., Any]],
) -> None:
    del functions["VM.thaw"]
    with pytest.raises(ContractError, match=r"VM\.thaw"):
        registry.load_verbs(CONTRACT)


def test_a_function_without_a_verb_stops_the_start(
    functions: dict[str, Callable[..., Any]],
) -> None:
    registry.verb("VM.explode")(lambda host: None)
    with pytest.raises(ContractError, match=r"VM\.explode"):
        registry.load_verbs(CONTRACT)


@pytest.mark.parametrize(
    "function",
    [
        lambda host, vm_id: None,
        lambda host, force, vm_id: None,
        lambda host, vm_id, force, more: None,
        lambda host, vm, force: None,
    ],
)
def test_other_arguments_stop_the_start(
    functions: dict[str, Callable[..., Any]], function: Callable[..., Any]
) -> None:
    functions["VM.thaw"] = function
    with pytest.raises(ContractError, match=r"VM\.thaw: the function takes"):
        registry.load_verbs(CONTRACT)


def test_a_bound_verb_is_given_the_host() -> None:
    bound = registry.bind({"x": lambda host, a: (host, a)}, "the host")  # type: ignore[arg-type]
    assert bound["x"](a=1) == ("the host", 1)


def test_an_error_that_the_contract_does_not_have_stops_the_start() -> None:
    with pytest.raises(ContractError, match="do not both have"):
        check_errors(small_contract())


def mentions() -> str:
    files = [path for path in TESTS.rglob("*.py") if path.parent.name != "fakes"]
    return "\n".join(path.read_text() for path in files)


@pytest.mark.parametrize("kind", ["verb", "error"])
def test_every_verb_and_every_error_is_mentioned_by_a_test(kind: str) -> None:
    names = CONTRACT.verbs if kind == "verb" else errors.all_errors()
    text = mentions()
    silent = [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)]
    assert not silent, f"no test speaks of {', '.join(silent)}"


def test_a_verb_raises_nothing_but_errors_of_the_contract() -> None:
    """Whatever a function's docstring names is in the contract, for its verb."""
    for name, function in FUNCTIONS.items():
        told = set(re.findall(r"\b[A-Z][A-Za-z]+\b", function.__doc__ or ""))
        said = told & set(errors.all_errors())
        extra = said - set(contract_errors(CONTRACT, name))
        assert not extra, f"{name} names {sorted(extra)}"


def contract_errors(contract: Contract, name: str) -> list[str]:
    return contract.errors_of(contract.verbs[name])


def may_be_refused(spec: FieldSpec) -> bool:
    """Whether a value of the right kind can be impossible all the same."""
    name = leaf_type(spec.type)
    if name in CONTRACT.objects:
        return any(may_be_refused(inner) for inner in CONTRACT.objects[name].fields)
    limits = (spec.minimum, spec.maximum, spec.above)
    bounded = spec.nonempty or any(limit is not None for limit in limits)
    return bounded or name in CONTRACT.scalars or name in CONTRACT.enums


@pytest.mark.parametrize("name", CONTRACT.verbs)
def test_a_verb_that_may_refuse_a_value_says_so(name: str) -> None:
    """Else a caller's mistake would be told him as a bug of ours."""
    verb = CONTRACT.verbs[name]
    for param in filter(may_be_refused, verb.params):
        assert (param.invalid or "InvalidParameter") in CONTRACT.errors_of(verb), param.name
