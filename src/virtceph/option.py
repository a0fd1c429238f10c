"""One option of the configuration file: its default, its comment, and what it may be."""

from __future__ import annotations

import dataclasses
from typing import Any


def option(default: Any, comment: str, **bounds: Any) -> Any:
    """A field of a section. `bounds`: `minimum` and `maximum`, or `choices`."""
    metadata = {"comment": comment, **bounds}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def required(comment: str, example: Any) -> Any:
    """A field of a table that must be there; `example` stands in the commented example."""
    return dataclasses.field(kw_only=True, metadata={"comment": comment, "example": example})
