"""What the generated pages share: how they are written, cells, tables and links."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from virtceph.schema.spec import Contract, FieldSpec, leaf_type
from virtceph.schema.words import bounds_words, default_words, unit_words

RENEW = "python -m virtceph.schema.render docs/"
GENERATED = f"<!-- Generated from schema/*.yml by `{RENEW}`. Do not edit. -->\n\n"


def renew(path: Path, text: str) -> None:
    """Write a generated file, and its folder, if its text changed, and print its name. Blocks."""
    if not path.is_file() or path.read_text("utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        print(path)


def type_cell(contract: Contract, spec: FieldSpec, page: str = "") -> str:
    """A field's type, with a link to where it is described: on `page`, or on the same one."""
    leaf = leaf_type(spec.type)
    words = unit_words(spec)
    if contract.defines(leaf):
        words = words.replace(leaf, f"[{leaf}]({page}{anchor(leaf)})")
    return words


def default_cell(spec: FieldSpec) -> str:
    """`required`, `optional`, or the default."""
    words = default_words(spec)
    return words if words in ("required", "optional") else f"`{words}`"


def presence_cell(spec: FieldSpec) -> str:
    """The same where nothing is said of what is always there."""
    words = default_cell(spec)
    return "" if words == "required" else words


def about_cell(spec: FieldSpec, owner_since: str) -> str:
    """What a field means, with its bounds, and since when it is there if its owner is older."""
    bounds = bounds_words(spec)
    words = f"{spec.description} {bounds[:1].upper()}{bounds[1:]}{'.' if bounds else ''}".strip()
    return words if spec.since == owner_since else f"{words} Since {spec.since}."


def anchor(name: str) -> str:
    """The place of a heading."""
    return "#" + name.lower().replace(".", "")


def verb_link(name: str) -> str:
    """A link to a verb."""
    return f"[{name}](verbs.md{anchor(name)})"


def error_link(name: str) -> str:
    """A link to an error."""
    return f"[{name}](errors.md{anchor(name)})"


def table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table."""
    lines = [headers, ("---",) * len(headers), *rows]
    return "\n".join("| " + " | ".join(map(_escaped, cells)) + " |" for cells in lines) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").strip()
