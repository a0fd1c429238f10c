"""The fault mutants do not rot: each still applies, and the test that is to kill it exists."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.faults.mutants import PROJECT, Mutant, all_mutants

MUTANTS = all_mutants()


def test_there_are_mutants() -> None:
    assert MUTANTS


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_applies_and_names_a_test(mutant: Mutant) -> None:
    assert mutant.apply(PROJECT, check_only=True) is None
    file, _, name = mutant.killer.partition("[")[0].partition("::")
    tree = ast.parse((PROJECT / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert mutant.protects.endswith(".")


def test_a_mutant_that_does_not_apply_is_told(tmp_path: Path) -> None:
    assert "No such file" in (MUTANTS[0].apply(tmp_path, check_only=True) or "")
