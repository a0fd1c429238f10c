"""What jobs come to, as callers are told of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virtceph.host.datajobs import TransferResult
from virtceph.host.restoring import RestoreResult
from virtceph.host.setnotes import SnapshotSet
from virtceph.host.snapshots import SnapshotResult
from virtceph.schema import Codec, Contract, FieldSpec


def result_encoder(contract: Contract) -> Callable[[Any], Any]:
    """A function from the result of any job to JSON values."""
    codec = Codec(contract)
    encoders = {
        cls: codec.encoder(FieldSpec("result", cls.__name__))
        for cls in (SnapshotResult, SnapshotSet, RestoreResult, TransferResult)
    }
    return lambda result: encoders[type(result)](result)
