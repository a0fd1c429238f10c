"""`make test` runs every test once, and says what became of them."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import parts
from tests.lab.state import PROJECT
from tests.parts import AFTERWARDS, LOOKING_BACK, PARTS, Part, closing_line

REPORT = '<testsuites><testsuite errors="{}" failures="{}" skipped="{}" tests="{}"/></testsuites>'


def report(folder: Path, name: str, *counts: int) -> Path:
    made = folder / f"{name}.xml"
    made.write_text(REPORT.format(*counts))
    return made


def test_every_test_of_a_folder_in_parts_is_in_one_of_them() -> None:
    parts = [part for part in PARTS if part.letters]
    for folder in {part.folder for part in parts}:
        words = [word for part in parts if part.folder == folder for word in part.words]
        once = [word for word in words if Path(word).stem not in LOOKING_BACK]
        there = (PROJECT / folder).glob("test_*.py")
        assert sorted(once) == sorted(
            str(path.relative_to(PROJECT)) for path in there if path.stem not in LOOKING_BACK
        )


def test_each_part_of_a_folder_looks_back_on_itself() -> None:
    for part in PARTS:
        if part.letters:
            looking = {path.stem for path in (PROJECT / part.folder).glob("*.py")} & {*LOOKING_BACK}
            assert looking
            assert looking <= {Path(word).stem for word in part.words}


def test_all_other_tests_are_in_a_part_too() -> None:
    (others,) = [part for part in PARTS if not part.letters]
    apart = {part.folder for part in PARTS if part.letters} | {AFTERWARDS}
    assert others.words == [
        "tests",
        *(f"--ignore={folder}" for folder in sorted(apart - {AFTERWARDS})),
        f"--ignore={AFTERWARDS}",
    ]
    assert all((PROJECT / folder).is_dir() for folder in apart)


SLOW = """
import pathlib, time
def test_slow():
    here = pathlib.Path(__file__).parent
    try:
        (here / "began").touch()
        time.sleep(60)
    finally:
        time.sleep(0.5)
        (here / "cleaned").touch()
"""


@pytest.mark.parametrize("runner", ["pytest", "tests.twice"])
def test_a_part_that_is_interrupted_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    monkeypatch.setattr(parts, "FOLDER", tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    (tmp_path / "test_slow.py").write_text(SLOW)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(parts.run, Part("slow", str(tmp_path)), runner)
        while not (tmp_path / "began").exists():
            assert not running.done()
            time.sleep(0.05)
        parts.interrupt()
        assert running.result(30) == pytest.ExitCode.INTERRUPTED
    signal.signal(signal.SIGINT, before)
    assert (tmp_path / "cleaned").exists()


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
