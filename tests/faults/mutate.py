"""`make fault-mutants`: take out one protection after the other, and see the test fail that names it.

    python -m tests.faults.mutate [NAME…]

Each patch is applied to a copy of the project, in a folder of its own, and its test runs there. The copy's
source is what runs: pytest's `pythonpath` and the lab's daemon take it from beside the tests. The tests have
to pass there before the first mutant.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.faults.mutants import PROJECT, Mutant, all_mutants

# What a test needs of the project, besides the environment.
PARTS = ("src", "tests", "schema", "pyproject.toml")
# The copy's own source as it was; the project's may be worked on meanwhile.
WHOLE = "src.whole"
REPORT = "report.xml"
TIMEOUT_S = 900.0


@dataclass(frozen=True)
class Run:
    """One run of pytest: how many tests there were, and how they ended. `errors` are those that broke before
    they began or after they ended: in a fixture, or when they were looked for. All are 0 when pytest did
    not come to an end."""

    output: str
    tests: int = 0
    failures: int = 0
    errors: int = 0
    skipped: int = 0

    @property
    def green(self) -> bool:
        """Whether there were tests, and nothing went wrong."""
        return bool(self.tests) and not (self.failures or self.errors)

    def word(self) -> str:
        """What became of a mutant whose test ran so."""
        if self.failures and not self.skipped:
            return "killed"
        if self.green and not self.skipped:
            return "SURVIVED"
        # A lab that does not start fails no test: that says nothing of the mutant.
        return "COULD NOT RUN"


@contextmanager
def copy_of_project() -> Iterator[Path]:
    """A copy of the project, which the daemon's user can reach. Removed at the end. Blocks."""
    with tempfile.TemporaryDirectory(prefix="virtceph-mutants-", dir="/var/tmp") as name:
        tree = Path(name)
        tree.chmod(0o755)
        for part in PARTS:
            source, ignore = PROJECT / part, shutil.ignore_patterns("__pycache__")
            if source.is_dir():
                shutil.copytree(source, tree / part, ignore=ignore)
            else:
                shutil.copy(source, tree / part)
        shutil.copytree(tree / "src", tree / WHOLE)
        shutil.copytree(PROJECT / ".venv", tree / ".venv", symlinks=True)
        yield tree


def renew_source(tree: Path) -> None:
    """Undo what a patch changed. Blocks."""
    shutil.rmtree(tree / "src")
    shutil.copytree(tree / WHOLE, tree / "src")


def require_own_source(tree: Path) -> None:
    """See that the copy runs its own source. Blocks. Raises RuntimeError."""
    environment = {**_environment(), "PYTHONPATH": str(tree / "src")}
    argv = [str(tree / ".venv/bin/python"), "-c", "import virtceph; print(virtceph.__file__)"]
    done = subprocess.run(
        argv, cwd=tree, env=environment, capture_output=True, text=True, check=True
    )
    if not Path(done.stdout.strip()).is_relative_to(tree):
        raise RuntimeError(f"the copy runs {done.stdout.strip()}")


def require_green(tree: Path, mutants: Sequence[Mutant]) -> None:
    """See that the tests pass as long as nothing is taken out. Blocks. Raises RuntimeError."""
    run = run_tests(tree, sorted({mutant.killer for mutant in mutants}))
    if not run.green:
        raise RuntimeError(f"not green before any mutant:\n{run.output}")


def run_tests(tree: Path, tests: Sequence[str]) -> Run:
    """Run tests in the copy up to the first that fails. Blocks."""
    report = tree / REPORT
    report.unlink(missing_ok=True)
    options = ["-q", "-x", "--tb=line", "-p", "no:cacheprovider", f"--junit-xml={report}"]
    argv = [str(tree / ".venv/bin/python"), "-m", "pytest", *options, *tests]
    try:
        done = subprocess.run(
            argv,
            cwd=tree,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as late:
        return Run(f"{late}")
    return Run(done.stdout + done.stderr, **_counts(report))


def _counts(report: Path) -> dict[str, int]:
    if not report.exists():
        return {}
    (suite,) = ElementTree.parse(report).iterfind("testsuite")
    return {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}


def try_mutant(tree: Path, mutant: Mutant) -> tuple[str, str]:
    """What became of one mutant, in a word, and what its test printed. Blocks."""
    problem = mutant.apply(tree)
    if problem is not None:
        return "DOES NOT APPLY", problem
    run = run_tests(tree, [mutant.killer])
    return run.word(), run.output


def _environment() -> dict[str, str]:
    # No source but the copy's, and no byte code of an unpatched module with the same time and size.
    dropped = ("PYTHONPATH", "PYTEST_ADDOPTS")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants that are named, or all; 0 when each was killed."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.mutate")
    parser.add_argument("names", nargs="*", help="mutants to try (default: all)")
    names = parser.parse_args(arguments).names
    mutants = [mutant for mutant in all_mutants() if not names or mutant.name in names]
    if len(mutants) < len(set(names)):
        parser.error(f"there are {', '.join(mutant.name for mutant in all_mutants())}")
    survivors = 0
    with copy_of_project() as tree:
        require_own_source(tree)
        require_green(tree, mutants)
        for mutant in mutants:
            began_s = time.monotonic()
            verdict, output = try_mutant(tree, mutant)
            took_s = time.monotonic() - began_s
            print(f"{verdict:15}{mutant.name:36}{took_s:6.1f} s  {mutant.protects}", flush=True)
            if verdict != "killed":
                survivors += 1
                print(f"    {mutant.killer}\n{output}", flush=True)
            renew_source(tree)
    print(f"{len(mutants) - survivors} of {len(mutants)} killed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
