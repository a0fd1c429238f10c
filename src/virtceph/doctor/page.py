"""The table of findings in `docs/doctor.md`: `python -m virtceph.doctor.page docs/`."""

from __future__ import annotations

import sys
from pathlib import Path

from virtceph.doctor.catalogue import CATALOGUE, Severity
from virtceph.schema.markdown import renew

_BEGIN, _END = "<!-- findings: made by make generate -->\n", "<!-- end of findings -->\n"


def doctor_page(text: str) -> str:
    """The page with the table as the catalogue is now."""
    before, _, rest = text.partition(_BEGIN)
    after = rest.partition(_END)[2]
    rows = [
        f"| `{code}` | {kind.severity.word} | {_cell(kind.sentence)} | {_cell(kind.advice) or '–'} |\n"
        for severity in sorted(Severity, reverse=True)
        for code, kind in CATALOGUE.items()
        if kind.severity is severity
    ]
    head = "| code | severity | what it says | what to do |\n| --- | --- | --- | --- |\n"
    return f"{before}{_BEGIN}\n{head}{''.join(rows)}\n{_END}{after}"


def _cell(text: str) -> str:
    # Facts stand in braces; to Markdown an angle bracket would begin HTML.
    return text.replace("|", "\\|").replace("<", "\\<").replace("{", "*").replace("}", "*")


def main(argv: list[str]) -> int:
    """Write the page if it changed, and name it. Blocks."""
    path = Path(argv[0]) / "doctor.md"
    renew(path, doctor_page(path.read_text("utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
