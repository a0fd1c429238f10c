"""What the commands print with `-h`, taken apart: usage, prose, options, exit codes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TERM = re.compile(r"  (\S.*?)(?:  +(\S.*))?")
_MAX_TERM_INDENT = 2


@dataclass
class Help:
    """One help text. `terms` are by the heads they stand under, as `options`; `notes` are its last lines, as
    `exit code: …`."""

    usage: str = ""
    prose: list[str] = field(default_factory=list)
    terms: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    notes: list[tuple[str, str]] = field(default_factory=list)


def read(text: str) -> Help:
    """Take a help text apart."""
    found = Help()
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = block.split("\n")
        if block.startswith("usage: "):
            found.usage = block.removeprefix("usage: ")
        elif lines[0].endswith(":") and len(lines) > 1 and lines[1].startswith("  "):
            found.terms[lines[0][:-1]] = _terms(lines[1:])
        elif (note := re.fullmatch(r"(exit code): (.*)", block, re.DOTALL)) is not None:
            found.notes.append((note[1], " ".join(note[2].split())))
        else:
            found.prose.append(" ".join(block.split()))
    # A usage of several lines stands under its first word.
    found.usage = re.sub(r"(?m)^       ", "", found.usage)
    return found


def _terms(lines: list[str]) -> list[tuple[str, str]]:
    terms: list[tuple[str, str]] = []
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if indent <= _MAX_TERM_INDENT and (match := _TERM.fullmatch(line)) is not None:
            terms.append((match[1], match[2] or ""))
        elif terms:
            head, text = terms[-1]
            terms[-1] = head, f"{text} {line.strip()}".strip()
    return terms
