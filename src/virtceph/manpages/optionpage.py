"""virtcephd.toml(5): every option, from the classes that read the file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from virtceph import __version__
from virtceph.config import Config
from virtceph.manpages.roff import Page


def option_page(config: type[Any] = Config) -> str:
    """The page's text; `config` is the class of the whole file."""
    page = Page("virtcephd.toml", 5, __version__, "configuration of virtcephd")
    page.section("Description")
    for text in (
        "`/etc/virtceph/virtcephd.toml` is TOML. Every option may be absent, and so may the "
        "file: each has a "
        "default. An option that does not exist is an error, and so is a value that cannot "
        "be: the daemon does "
        "not start, and says which and what was expected.",
        "`virtcephd --print-config` writes all of it, commented. `virtceph doctor --suggest` "
        "writes the parts "
        "that would serve a host as it is.",
    ):
        page.paragraph(text)
    hints = get_type_hints(config)
    for section in dataclasses.fields(config):
        kind = hints[section.name]
        tables = [part for part in get_args(kind) if dataclasses.is_dataclass(part)]
        if dataclasses.is_dataclass(kind):
            page.section(f"[{section.name}]")
            _options(page, kind)
        elif tables:
            name = section.metadata.get("name", section.name)
            page.section(f"[[{name}]]")
            if comment := section.metadata.get("comment"):
                page.paragraph(comment)
            _options(page, tables[0])
    page.section("See also")
    page.paragraph("`virtcephd(8)`, `virtceph(1)`")
    return page.text()


def _options(page: Page, kind: Any) -> None:
    hints = get_type_hints(kind)
    for option in dataclasses.fields(kind):
        rule, about = option.metadata, option.metadata.get("comment", "")
        facts = [_type(hints[option.name]), *_bounds(rule), _default(option)]
        page.entry(option.name, about, f"({'; '.join(facts)})")


def _type(hint: Any) -> str:
    names = {float: "number", int: "whole number", str: "text", bool: "true or false"}
    return names.get(hint, "list of text" if "str" in str(hint) else "table")


def _bounds(rule: Mapping[str, Any]) -> list[str]:
    if "choices" in rule:
        return [f"one of {', '.join(rule['choices'])}"]
    low, high = rule.get("minimum"), rule.get("maximum")
    return [] if low is None and high is None else [f"{low:g} to {high:g}"]


def _default(option: dataclasses.Field[Any]) -> str:
    if option.default is not dataclasses.MISSING:
        return f"default {json.dumps(option.default, default=str)}"
    if option.default_factory is not dataclasses.MISSING:
        return f"default {json.dumps(option.default_factory(), default=str)}"
    return "required"
