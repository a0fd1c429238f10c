"""The contract of events: in agreement with the classes, and fit for those who hear them."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any
from uuid import UUID

import pytest

from virtceph import __version__
from virtceph.events import Event, all_events
from virtceph.host.events import Events
from virtceph.host.job import JobError
from virtceph.rpc.relay import notices
from virtceph.schema import ContractError, load_contract
from virtceph.schema.agree import check_events
from virtceph.schema.files import contract_folder, read_files
from virtceph.schema.spec import LEVELS, read_contract

CONTRACT = load_contract()
NAMES = sorted(CONTRACT.events)
_SAMPLES: dict[str, Any] = {
    "UUID": UUID(int=7),
    "str": "text",
    "int": 1,
    "float": 1.5,
    "bool": True,
    "list[UUID]": [UUID(int=7)],
    "list[str]": ["vda"],
    "Any": JobError(48, "Snapshot failed", {"step": "prepare"}),
}


def sample(name: str) -> Event:
    """One event of a kind, with everything that it may say."""
    spec, cls = CONTRACT.events[name], all_events()[name]
    values: dict[str, Any] = {}
    types = {param.python: param.type for param in spec.params}
    for field in fields(cls):  # type: ignore[arg-type]
        enum = CONTRACT.enums.get(types[field.name])
        plain = str(field.type).removesuffix(" | None")
        values[field.name] = enum.values[-1] if enum is not None else _SAMPLES[plain]
    return cls(**values)


@pytest.mark.parametrize("name", NAMES)
def test_every_event_can_be_told_as_its_contract_says(name: str) -> None:
    events = Events(CONTRACT, kept=16)
    events.tell(sample(name))
    assert (events.counts[name], events.broken) == (1, 0)


@pytest.mark.parametrize("name", NAMES)
def test_engines_can_match_every_event_by_four_parts(name: str) -> None:
    spec, events = CONTRACT.events[name], Events(CONTRACT, kept=16)
    import orjson

    params = orjson.loads(events.encode(sample(name)))
    told = list(notices(spec, params))
    assert told[0][0].split("|")[1:3] == ["virtceph", name]
    for method, _ in told:
        parts = method.split("|")
        assert len(parts) == 4
        assert parts[0] == ""
        assert all(parts[1:])


def test_engines_hear_what_they_have_always_known_in_their_own_words() -> None:
    vm, job = str(UUID(int=1)), str(UUID(int=2))
    status = {"vmId": vm, "status": "Down", "exitCode": 1, "exitMessage": "it crashed"}
    theirs = list(notices(CONTRACT.events["vm_status"], status))[1]
    rest = {"status": "Down", "exitCode": 1, "exitMessage": "it crashed"}
    assert theirs == (f"|virt|VM_status|{vm}", {vm: rest})
    done = {"id": job, "status": "done", "description": "snapshot_vm", "job_type": "virt"}
    assert list(notices(CONTRACT.events["job_status"], done))[1] == (f"|jobs|status|{job}", done)
    # Of a job that goes on engines have never been told.
    running = {**done, "status": "running"}
    assert len(list(notices(CONTRACT.events["job_status"], running))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("vm_frozen"), "do not both have vm_frozen"),
        (lambda e: e["vm_frozen"]["params"].pop("owner"), "vm_frozen: .*owner"),
        (lambda e: e["vm_frozen"]["params"]["owner"].update(type="integer"), "vm_frozen: .*'int'"),
        (lambda e: e["vm_status"]["params"]["exitCode"].pop("optional"), "vm_status"),
    ],
)
def test_a_class_that_says_otherwise_than_the_contract_stops_the_start(
    change: Any, message: str
) -> None:
    files = _files()
    change(files["events"])
    with pytest.raises(ContractError, match=message):
        check_events(read_contract(files))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"level": "god"}, "unknown level god"),
        ({"subject": "vm"}, "vm is no parameter"),
        ({"engines": {"component": "a", "operation": "b", "when": {"x": []}}}, "x is no parameter"),
        ({"params": {"vmId": "Nothing"}}, "unknown type Nothing"),
        ({"colour": "red"}, "malformed"),
    ],
)
def test_an_event_that_contradicts_itself_is_refused(change: Any, message: str) -> None:
    files = _files()
    files["events"]["vm_frozen"].update(change)
    with pytest.raises(ContractError, match=message):
        read_contract(files)


def _files() -> dict[str, Any]:
    import json

    return dict(json.loads(json.dumps(read_files(contract_folder()))))


# --- since ---


def test_everything_says_since_when_it_is_there() -> None:
    files = read_files(contract_folder())
    types = files["types"]
    owners = [
        *types["scalars"].values(),
        *types["enums"].values(),
        *types["objects"].values(),
        *files["errors"].values(),
        *files["events"].values(),
        *(
            v
            for name in files
            if name not in ("types", "errors", "events")
            for v in files[name].values()
        ),
    ]
    assert len(owners) > 200
    for owner in owners:
        assert re.fullmatch(r"[0-9]+\.[0-9]+", owner["since"]), owner
    release = tuple(int(part) for part in __version__.split(".")[:2])
    for owner in owners:
        assert tuple(map(int, owner["since"].split("."))) <= release


def test_a_field_is_as_old_as_its_owner_unless_it_says_otherwise() -> None:
    files = _files()
    files["vm"]["VM.freeze"]["since"] = "0.3"
    files["vm"]["VM.freeze"]["params"]["timeout"]["since"] = "0.4"
    files["types"]["objects"]["JobInfo"]["since"] = "0.5"
    contract = read_contract(files)
    freeze = contract.verbs["VM.freeze"]
    assert [param.since for param in freeze.params] == ["0.3", "0.4"]
    assert freeze.result.since == "0.3"
    assert {field.since for field in contract.objects["JobInfo"].fields} == {"0.5"}
    assert contract.errors["NoSuchVM"].facts[0].since == "0.1"


def test_levels_of_events_are_those_of_verbs() -> None:
    assert {event.level for event in CONTRACT.events.values()} <= set(LEVELS)
    # What secrets there are, only operators may list.
    secrets = {e.level for e in CONTRACT.events.values() if e.name.startswith("secrets_")}
    assert secrets == {CONTRACT.verbs["Host.listSecrets"].level}
