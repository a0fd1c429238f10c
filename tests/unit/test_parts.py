"""`make test` runs every test once, and says what became of them."""

from __future__ import annotations

import time
from pathlib import Path

from tests.lab.state import PROJECT
from tests.parts import LAST, PARTS, closing_line

REPORT = '<testsuites><testsuite errors="{}" failures="{}" skipped="{}" tests="{}"/></testsuites>'


def report(folder: Path, name: str, *counts: int) -> Path:
    made = folder / f"{name}.xml"
    made.write_text(REPORT.format(*counts))
    return made


def test_every_test_is_in_one_part() -> None:
    ignored = {word.removeprefix("--ignore=") for word in PARTS["others"][1:]}
    apart = [word for name, words in PARTS.items() if name != "others" for word in words]
    assert PARTS["others"][0] == "tests"
    assert ignored == {*apart, LAST}
    assert all((PROJECT / folder).is_dir() for folder in ignored)


def test_the_closing_line_counts_all_parts(tmp_path: Path) -> None:
    ended = [(report(tmp_path, "a", 1, 2, 3, 20), 1), (report(tmp_path, "b", 0, 0, 0, 4), 0)]
    assert closing_line(ended, time.monotonic()).startswith(
        "all parts: 18 passed, 3 failed, 3 skipped in "
    )


def test_what_passed_at_the_second_look_has_passed(tmp_path: Path) -> None:
    line = closing_line([(report(tmp_path, "a", 0, 2, 0, 20), 0)], time.monotonic())
    assert line.startswith("all parts: 20 passed in ")


def test_a_part_that_left_no_report_is_named(tmp_path: Path) -> None:
    line = closing_line([(tmp_path / "faults.xml", -9)], time.monotonic())
    assert line == "faults: pytest ended with status -9, without a report"
