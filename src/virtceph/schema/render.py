"""Write everything that is generated from the contract: `python -m virtceph.schema.render docs/`.

That is `docs/verbs.md`, `docs/errors.md`, `docs/events.md`, `schema/contract.json` and
`contrib/completion/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from virtceph.schema.completion import completion_script
from virtceph.schema.eventpage import events_page
from virtceph.schema.files import COMPILED, compile_files, contract_folder
from virtceph.schema.markdown import renew
from virtceph.schema.pages import errors_page, verbs_page
from virtceph.schema.spec import Contract, load_contract

# The names under which the shells look for a completion of `virtceph`.
_SCRIPTS = {"bash": "virtceph", "zsh": "_virtceph", "fish": "virtceph.fish"}


def generated(contract: Contract, docs: Path) -> dict[Path, str]:
    """Every generated file's path and text; `docs` is the folder of the pages. Blocks."""
    completion = docs.resolve().parent / "contrib" / "completion"
    return {
        docs / "verbs.md": verbs_page(contract),
        docs / "errors.md": errors_page(contract),
        docs / "events.md": events_page(contract),
        contract_folder() / COMPILED: compile_files(contract_folder()),
        **{completion / n: completion_script(contract, s) for s, n in _SCRIPTS.items()},
    }


def main(argv: list[str]) -> int:
    """Write the files whose text changed, and name them. Blocks."""
    if len(argv) != 1:
        print("usage: python -m virtceph.schema.render docs/", file=sys.stderr)
        return 2
    for path, text in generated(load_contract(), Path(argv[0])).items():
        renew(path, text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
