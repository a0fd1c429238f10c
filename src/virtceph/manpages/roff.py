"""Write man(7): what a page says, in the few requests that every reader of manual pages understands."""

from __future__ import annotations

import re
import textwrap

# Of the pages' words, not of the moment they are made: that would make each run's pages other ones.
ISSUED = "2026-11-25"
_COLUMNS = 78
_SPECIAL = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
_MARKED = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def literal(text: str) -> str:
    """Text that is to be typed or read as it stands: nothing in it means anything to roff."""
    return "".join(_SPECIAL.get(c, c if c.isascii() else f"\\[u{ord(c):04X}]") for c in text)


def bold(text: str) -> str:
    """A literal in bold."""
    return f"\\fB{literal(text)}\\fR"


def prose(text: str) -> str:
    """Running text: `code` and **strong** become bold, the rest stands for itself. In lines as short as the
    tools like them."""
    parts, at = [], 0
    for match in _MARKED.finditer(text):
        parts += [literal(text[at : match.start()]), bold(match[1] or match[2])]
        at = match.end()
    told = "".join([*parts, literal(text[at:])])
    lines = textwrap.wrap(told, _COLUMNS, break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(_guarded, lines))


def _guarded(line: str) -> str:
    """A line that does not begin as a request does."""
    return f"\\&{line}" if line.startswith(".") else line


class Page:
    """A manual page as it is written."""

    def __init__(self, name: str, section: int, version: str, about: str) -> None:
        self._lines = [
            '.\\" Made by `make generate`; do not edit.',
            f'.TH {literal(name.upper())} {section} {ISSUED} "virtceph {version}" "virtceph"',
            # A line that holds little but a long path cannot be spread to the margin.
            ".ad l",
            ".SH NAME",
            f"{literal(name)} \\- {literal(about)}",
        ]

    def section(self, title: str) -> None:
        """A section's head, in capitals as is the custom; a table of a file as it stands there."""
        self._lines.append(f".SH {_quoted(title if title.startswith('[') else title.upper())}")

    def subsection(self, title: str) -> None:
        """A subsection's head."""
        self._lines.append(f".SS {_quoted(title)}")

    def paragraph(self, text: str) -> None:
        """A paragraph of prose, whose line breaks do not matter."""
        # The first one under a head begins by itself.
        begin = [] if self._lines[-1].startswith((".SH", ".SS")) else [".PP"]
        self._lines += [*begin, prose(" ".join(text.split()))]

    def entry(self, head: str, *texts: str) -> None:
        """A term, bold, and what it means; each text a paragraph of its own."""
        told = [prose(" ".join(text.split())) for text in texts if text.strip()]
        # A term with nothing behind it would swallow what comes next.
        self._lines += [".TP", bold(head), *(told[:1] or ["\\&"])]
        for text in told[1:]:
            self._lines += [".IP", text]

    def example(self, text: str) -> None:
        """Lines as they stand, a little to the right."""
        self._lines += [".RS 4", ".nf", *_as_they_stand(text), ".fi", ".RE"]

    def synopsis(self, text: str) -> None:
        """The lines of a usage, as they stand."""
        self._lines += [".nf", *_as_they_stand(text), ".fi"]

    def text(self) -> str:
        """The whole page."""
        return "\n".join(self._lines) + "\n"


def _as_they_stand(text: str) -> list[str]:
    return [_guarded(literal(line)) for line in text.rstrip("\n").split("\n")]


def _quoted(title: str) -> str:
    return '"' + literal(title).replace('"', "\\(dq") + '"'
