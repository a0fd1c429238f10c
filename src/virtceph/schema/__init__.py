"""The contract in `schema/*.yml`: read (`spec`), and enforced in both directions (`codec`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from virtceph.schema.spec import (
    MISSING,
    Contract,
    ContractError,
    ErrorSpec,
    FieldSpec,
    VerbSpec,
    load_contract,
    python_name,
)

if TYPE_CHECKING:
    from virtceph.schema.codec import Codec, Mismatch, check_wire_classes, wire

__all__ = [
    "MISSING", "Codec", "Contract", "ContractError", "ErrorSpec", "FieldSpec", "Mismatch",
    "VerbSpec", "check_wire_classes", "load_contract", "python_name", "wire",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    # The codec is imported when somebody asks for it: the CLI mostly does without.
    if name not in ("Codec", "Mismatch", "check_wire_classes", "wire"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from virtceph.schema import codec

    return getattr(codec, name)
