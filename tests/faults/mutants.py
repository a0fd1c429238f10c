"""The fault mutants: patches that take one protection out of the product, each with the test that notices."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
FOLDER = Path(__file__).with_name("mutants")
_PROTECTS, _KILLS = "# protects: ", "# kills: "


@dataclass(frozen=True)
class Mutant:
    """One patch. `protects` says what it takes out; `killer` is the test that is to fail, as pytest names
    it."""

    path: Path
    protects: str
    killer: str

    @property
    def name(self) -> str:
        """The patch's name."""
        return self.path.stem

    def apply(self, tree: Path, *, check_only: bool = False) -> str | None:
        """Apply it to a tree, or see whether that could be done; why not, if not. Blocks."""
        # Wherever the tree lies, it is not to be taken for a part of another repository.
        argv = ["git", "apply", *(["--check"] if check_only else []), str(self.path)]
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "GIT_DIR": "/nonexistent"}
        done = subprocess.run(
            argv, cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        return None if done.returncode == 0 else done.stderr.strip()


def read(path: Path) -> Mutant:
    """A patch with its two lines of heading. Raises ValueError when they are not there."""
    protects, killer = path.read_text().splitlines()[:2]
    if not (protects.startswith(_PROTECTS) and killer.startswith(_KILLS)):
        raise ValueError(f"{path.name}: begins with neither {_PROTECTS!r} nor {_KILLS!r}")
    return Mutant(path, protects.removeprefix(_PROTECTS), killer.removeprefix(_KILLS))


def all_mutants() -> list[Mutant]:
    """Every patch beside the tests, by name."""
    return [read(path) for path in sorted(FOLDER.glob("*.patch"), key=lambda path: path.stem)]
