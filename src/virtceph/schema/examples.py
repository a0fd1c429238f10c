"""Example parameters and command lines for every verb, made from the contract."""

from __future__ import annotations

import json
from typing import Any

from virtceph.schema.spec import Contract, FieldSpec, VerbSpec, leaf_type

_UUID = "1f2e3d4c-5b6a-4789-8abc-def012345678"
_EXCHANGE = "/var/lib/virtceph/exchange"
_BY_NAME: dict[str, Any] = {
    "vmID": "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01",
    "storageDomainID": "8e0d2c5a-7b1f-4c39-a3a5-6f2b90c1d402",
    "secretUUID": "c0ffee00-1b2c-4d3e-8f90-a1b2c3d4e5f6",
    "jobUUID": "0a9b8c7d-6e5f-4a3b-9c2d-1e0f2a3b4c5d",
    "uuid": "c0ffee00-1b2c-4d3e-8f90-a1b2c3d4e5f6",
    "uuids": ["c0ffee00-1b2c-4d3e-8f90-a1b2c3d4e5f6"],
    "message": "hello",
    "monitors": ["10.0.1.1:6789", "10.0.1.2:6789"],
    "user": "virtceph",
    "pool": "vms",
    "volumeName": "web-root",
    "snapshotName": "nightly",
    "toSnapshot": "tuesday",
    "newName": "web-copy",
    "path": f"{_EXCHANGE}/web-root.raw",
    "paths": [f"{_EXCHANGE}/monday.diff", f"{_EXCHANGE}/tuesday.diff"],
    "size": "10GiB",
    "newSize": "20GiB",
    "usageType": "ceph",
    "usageID": "ovirt/vms",
    "password": "<the key in base64>",
}
# What a reader should see although it is not required.
_SHOWN: dict[str, dict[str, Any]] = {
    "VM.freeze": {"timeout": 30},
    "Volume.exportDiff": {"fromSnapshot": "monday", "path": f"{_EXCHANGE}/tuesday.diff"},
    "Volume.importDiff": {"path": f"{_EXCHANGE}/tuesday.diff"},
    "Volume.mergeDiffs": {"path": f"{_EXCHANGE}/week.diff"},
    "VM.hotplugDisk": {name: _BY_NAME[name] for name in ("storageDomainID", "volumeName")},
    "VM.hotunplugDisk": {"disk": "vdb"},
    "VM.diskSizeExtend": {"disk": "vdb"},
    "VM.pruneConsistentSnapshots": {"keepDaily": 7},
    "VM.snapshot": {"snapDrives": [{"disk": "vda", "snapshotName": "nightly"}], "frozen": True},
}
_BY_TYPE: dict[str, Any] = {"boolean": True, "integer": 1, "number": 1, "UUID": _UUID}


def example_params(contract: Contract, verb: VerbSpec) -> dict[str, Any]:
    """Parameters that a caller might pass: the required ones, and some that are worth showing."""
    required = {p.name: _example(contract, p) for p in verb.params if p.required}
    return {**required, **_SHOWN.get(verb.name, {})}


def example_command(contract: Contract, verb: VerbSpec) -> str:
    """The same as a command line; parameters with a secret inside come from a file."""
    words = ["virtceph", *verb.name.split(".")]
    params = example_params(contract, verb)
    if any(contract.carries_secret(p.type) for p in verb.params):
        document = json.dumps(params, indent=4)
        return f"{' '.join(words)} -f - <<'END'\n{document}\nEND"
    return " ".join([*words, *(f"{name}={_shell(value)}" for name, value in params.items())])


def _example(contract: Contract, spec: FieldSpec) -> Any:
    if spec.name in _BY_NAME:
        return _BY_NAME[spec.name]
    leaf = leaf_type(spec.type)
    value = _BY_TYPE.get(leaf, "example")
    if leaf in contract.enums:
        value = contract.enums[leaf].values[0]
    elif leaf in contract.objects:
        fields = contract.objects[leaf].fields
        value = {f.name: _example(contract, f) for f in fields if f.required}
    return [value] if spec.type.startswith("[") else value


def _shell(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return ",".join(map(str, value))
    if isinstance(value, str):
        return value
    text = json.dumps(value)
    return f"'{text}'" if isinstance(value, (list, dict)) else text
