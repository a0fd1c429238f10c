"""CI's second look at what failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.twice import FEW, main

Run = Callable[[str], int]

ONCE = """
from pathlib import Path
SEEN = Path(__file__).with_suffix(".seen")

def test_late():
    if not SEEN.exists():
        SEEN.touch()
        assert False, "late"

def test_other():
    with SEEN.with_suffix(".others").open("a") as others:
        others.write("x")
"""
SKIPPED = (
    ONCE
    + """
def test_looking_back(request):
    if len(request.session.items) < 3:
        import pytest
        pytest.skip("not all")
    assert False
"""
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs these tests as CI does; the exit status."""

    def run(text: str) -> int:
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        (tmp_path / "test_it.py").write_text(text)
        return main(["-q", "-c", str(tmp_path / "pytest.ini"), str(tmp_path)])

    return run


def test_what_fails_once_is_named_and_passes(
    run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(ONCE) == 0
    told = capfd.readouterr().out
    assert "tried once more by themselves:\n  test_it.py::test_late" in told
    assert (tmp_path / "test_it.others").read_text() == "x"  # the others ran once


@pytest.mark.parametrize(
    "text",
    [
        "def test_broken(): assert False",
        "".join(f"def test_{n}(): assert False\n" for n in range(FEW + 1)),
        SKIPPED,
    ],
    ids=["fails twice", "many", "left out the second time"],
)
def test_what_is_broken_fails(run: Run, text: str) -> None:
    assert run(text) == 1


def test_what_cannot_be_collected_fails_at_once(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("import nosuch") not in (0, 1)
    assert "once more" not in capfd.readouterr().out
