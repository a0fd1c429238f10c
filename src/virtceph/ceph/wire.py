"""What the daemon and its worker processes say to each other: one JSON object a line, over a
socket pair. The first line carries the key; it passes through no argument, file or environment."""

from __future__ import annotations

import base64
import json
from typing import Any

from virtceph.ceph.spec import ClusterSpec
from virtceph.errors import CephFailed, VirtcephError, all_errors, facts_of
from virtceph.sensitive import Sensitive

MAX_LINE_BYTES = 1 << 20
# Operations whose worker says, before it replies, that what cannot be taken back begins now.
ANNOUNCED = frozenset({"create_snapshot", "make_group_snapshot", "clone", "copy_snapshot"})


def dump(message: dict[str, Any]) -> bytes:
    """One message as a line."""
    return json.dumps(message).encode() + b"\n"


def load(line: bytes) -> dict[str, Any]:
    """The message in a line."""
    message: dict[str, Any] = json.loads(line)
    return message


def dump_spec(spec: ClusterSpec) -> bytes:
    return dump(write_spec(spec))


def load_spec(line: bytes) -> ClusterSpec:
    return read_spec(json.loads(line))


def write_spec(spec: ClusterSpec) -> dict[str, Any]:
    """A connection as JSON, with its key in it: only for a socket pair."""
    return {
        "monitors": list(spec.monitors),
        "user": spec.user,
        "key": spec.key.reveal_base64(),
        "op_timeout_s": spec.op_timeout_s,
    }


def read_spec(raw: dict[str, Any]) -> ClusterSpec:
    key = Sensitive(base64.b64decode(raw["key"]))
    return ClusterSpec(
        monitors=tuple(raw["monitors"]),
        user=raw["user"],
        key=key,
        op_timeout_s=raw["op_timeout_s"],
    )


def dump_error(error: VirtcephError) -> dict[str, Any]:
    """An error as class name and facts (those that cross here are text, numbers and lists of text)."""
    return {"class": type(error).__name__, "facts": facts_of(error)}


def load_error(raw: dict[str, Any]) -> VirtcephError:
    cls = all_errors().get(raw["class"])
    if cls is None:
        return CephFailed("worker", 0, f"unknown error {raw['class']}")
    return cls(**raw["facts"])
