"""What counts as a mutant that is killed: only that its test fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import mutate
from tests.faults.mutants import PROJECT


@pytest.mark.parametrize(
    ("test", "word"),
    [
        ("def test_it(): assert not 1", "killed"),
        ("def test_it(): pass", "SURVIVED"),
        ("def test_it(no_such_lab): pass", "COULD NOT RUN"),
        ("import no_such_module", "COULD NOT RUN"),
        ("import pytest\ndef test_it(): pytest.skip()", "COULD NOT RUN"),
        ("import os\ndef test_it(): os._exit(1)", "COULD NOT RUN"),
    ],
)
def test_only_a_test_that_fails_kills(tmp_path: Path, test: str, word: str) -> None:
    (tmp_path / ".venv").symlink_to(PROJECT / ".venv")
    (tmp_path / "test_one.py").write_text(f"{test}\n")
    run = mutate.run_tests(tmp_path, ["test_one.py::test_it"])
    assert run.word() == word, run.output
