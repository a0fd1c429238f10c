"""The contract's files: YAML for people, and the same as one JSON file for a quick start."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

VERB_FILES = (
    "host",
    "job",
    "vm",
    "storagedomain",
    "volume",
    "volumesnapshot",
    "volumeremoval",
    "volumedata",
)
FILES = ("types", "errors", *VERB_FILES, "events")
COMPILED = "contract.json"


def contract_folder() -> Path:
    """Where the files are: in the installed package, or at the top of a checkout."""
    installed = Path(__file__).parent.parent / "contract"
    return installed if installed.is_dir() else Path(__file__).parents[3] / "schema"


def read_files(folder: Path) -> dict[str, Any]:
    """The parsed files by name, from the compiled one where it is fresh. Blocks."""
    compiled = _read_compiled(folder)
    return _read_yaml(folder) if compiled is None else compiled


def compile_files(folder: Path) -> str:
    """What `contract.json` has to say: the parsed YAML files and their digest. Blocks."""
    compiled = {"sha256": _digest(folder), "files": _read_yaml(folder)}
    return json.dumps(compiled, ensure_ascii=False, indent=1) + "\n"


def _read_compiled(folder: Path) -> dict[str, Any] | None:
    try:
        compiled: dict[str, Any] = json.loads((folder / COMPILED).read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    # A package may carry the compiled file alone.
    if not any(folder.glob("*.yml")) or compiled.get("sha256") == _digest(folder):
        files: dict[str, Any] = compiled["files"]
        return files
    return None


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for name in FILES:
        content = (folder / f"{name}.yml").read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _read_yaml(folder: Path) -> dict[str, Any]:
    import yaml  # slow to import, and not needed where the compiled file is fresh

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return {n: yaml.load((folder / f"{n}.yml").read_text("utf-8"), loader) for n in FILES}
