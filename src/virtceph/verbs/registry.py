"""Every verb by its name, compared with the contract when the daemon starts."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from virtceph.host.host import Host
from virtceph.schema import Contract, ContractError, VerbSpec

Function = TypeVar("Function", bound=Callable[..., Any])

_MODULES = (
    "host",
    "job",
    "vm",
    "vmdisk",
    "storagedomain",
    "volume",
    "volumesnapshot",
    "volumeremoval",
    "volumedata",
)
_functions: dict[str, Callable[..., Any]] = {}


def verb(name: str) -> Callable[[Function], Function]:
    """Say that a function is the verb `name`. Its first argument is the Host."""

    def register(function: Function) -> Function:
        _functions[name] = function
        return function

    return register


def load_verbs(contract: Contract) -> dict[str, Callable[..., Any]]:
    """The verbs by name. Raises ContractError where function and contract differ."""
    for module in _MODULES:
        importlib.import_module(f"virtceph.verbs.{module}")
    if set(_functions) != set(contract.verbs):
        raise ContractError(f"verbs and contract differ: {set(_functions) ^ set(contract.verbs)}")
    for name, function in _functions.items():
        _compare(contract.verbs[name], function)
    return dict(_functions)


def bind(functions: dict[str, Callable[..., Any]], host: Host) -> dict[str, Callable[..., Any]]:
    """The verbs as functions of their parameters alone."""

    def bound(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda **parameters: function(host, **parameters)

    return {name: bound(function) for name, function in functions.items()}


def _compare(spec: VerbSpec, function: Callable[..., Any]) -> None:
    ours = list(inspect.signature(function).parameters)[1:]
    theirs = [param.python for param in spec.params]
    if ours != theirs:
        raise ContractError(f"{spec.name}: the function takes {ours}, the contract {theirs}")
