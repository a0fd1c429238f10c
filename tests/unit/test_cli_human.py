"""`--human`: what people see of results."""

from __future__ import annotations

import time
from typing import Any

import pytest

from virtceph.cli.human import render
from virtceph.cli.table import bold, duration
from virtceph.schema import load_contract

CONTRACT = load_contract()
VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"


def shown(verb: str, result: Any) -> list[str]:
    return render(CONTRACT, CONTRACT.verbs[verb].result, result).split("\n")


def test_true_is_ok() -> None:
    assert shown("Host.ping2", True) == ["ok"]


def test_an_answer_that_says_nothing_more_is_ok() -> None:
    assert shown("VM.hotunplugDisk", {}) == ["ok"]
    assert shown("VM.hotplugDisk", {}) == ["ok"]
    assert shown("VM.hotplugDisk", {"disk": "vdb"}) == ["disk  vdb"]


def test_a_new_size_is_told_for_people() -> None:
    assert shown("VM.diskSizeExtend", 20 << 30) == ["20.0 GiB"]
    told = shown("Volume.extendSize", {"size": 20 << 30, "vms": [VM], "unaware": ["10.0.1.2:0/7"]})
    assert told == ["size     20.0 GiB", f"vms      {VM}", "unaware  10.0.1.2:0/7"]


def test_an_empty_list_says_none() -> None:
    assert shown("Host.getVMList", []) == ["none"]


def test_vms_are_a_table() -> None:
    rows = [
        {"vmId": VM, "name": "web", "status": "Up", "statusTime": "17"},
        {"vmId": VM, "name": "database", "status": "Paused", "statusTime": "17"},
    ]
    assert shown("Host.getVMList", rows) == [
        f"vmId{' ' * 34}name      status",
        f"{VM}  web       Up",
        f"{VM}  database  Paused",
    ]


def test_a_list_of_sets_fits_a_screen() -> None:
    disks = [{"disk": f"vd{letter}", "volumeName": "web-root-of-1994"} for letter in "abcd"]
    one = {"setID": VM, "snapshotName": "nightly-2026-11-24", "created": 1.0, "frozenFor": 0.12}
    one |= {"consistency": "filesystem", "reason": "4 file systems were frozen throughout"}
    one |= {"steps": {"thaw": 0.1}, "disks": disks, "complete": True, "missing": []}
    header, row = shown("VM.listConsistentSnapshots", [{**one, "method": "group"}])
    assert header.split()[:3] == ["snapshotName", "created", "consistency"]
    assert {"filesystem", "group", "yes"} <= set(row.split())
    assert len(row) <= 100


def test_volumes_have_sizes_for_people() -> None:
    rows = [{"volumeName": "a", "size": 10 << 30}, {"volumeName": "big", "size": 5 << 20}]
    assert shown("Volume.list", rows) == [
        "volumeName      size",
        "a           10.0 GiB",
        "big          5.0 MiB",
        "",
        "2 volumes   10.0 GiB",
    ]


def test_snapshots_are_a_tree_with_what_hangs_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    clone = {"pool": "vms", "namespace": "", "id": "1a", "inTrash": False}
    clones = [
        {**clone, "volumeName": "web-copy"},
        {**clone, "volumeName": "old", "namespace": "tenant", "inTrash": True},
        {**clone, "pool": "dark"},
    ]
    one = {"id": 4, "size": 1 << 30, "created": 1741529100.5, "protected": False, "clones": []}
    rows = [
        {**one, "snapshotName": "monday", "consistency": "filesystem", "clones": clones},
        {**one, "snapshotName": "tuesday", "protected": True, "clones": clones[:1]},
    ]
    when = "2025-03-09 14:05:00  1.0 GiB"
    assert shown("Volume.listSnapshots", rows) == [
        f"{'snapshot':35}  {'created':19}     size  consistency",
        f"{'├─ monday':35}  {when}  filesystem",
        "│  ├─ vms/web-copy",
        "│  ├─ vms/tenant/old (in the trash)",
        "│  └─ dark/(image id 1a)",
        f"{'└─ tuesday':35}  {when}  -            protected",
        "   └─ vms/web-copy",
    ]


def test_a_plan_is_a_list_of_steps_with_their_commands() -> None:
    step = {"obstacle": "snapshot", "what": "it has the snapshot s", "command": "do this"}
    plan = {"volumeName": "a", "deletable": False, "forceable": True, "steps": [step]}
    assert shown("Volume.explainDelete", {**plan, "stepCount": 3}) == [
        "a cannot be deleted. First, in this order; force=true does it:",
        "  1. it has the snapshot s",
        "     do this",
        "     … and 2 steps more",
    ]
    done = {**plan, "deletable": True, "steps": [], "stepCount": 0}
    assert shown("Volume.explainDelete", done) == ["a can be deleted"]


def test_what_has_no_fields_is_told_to_have_none() -> None:
    limits = {"volume": {"iops": 500, "bandwidth": 10 << 20, "iopsBurstTime": 2}, "pool": {}}
    assert shown("Volume.getQos", limits) == [
        "",
        "volume:",
        "  iops           500",
        "  iopsBurstTime  2.0 s",
        "  bandwidth      10.0 MiB/s",
        "",
        "pool:",
        "  none",
    ]


def test_a_vm_shows_its_disks_below_it() -> None:
    disk = {"disk": "vda", "type": "rbd", "snapshotReady": True, "reason": ""}
    volume = {"pool": "vms", "namespace": "", "volumeName": "root"}
    file = {"disk": "vdb", "type": "file", "path": "/x", "snapshotReady": False, "reason": "raw"}
    info = {
        "vmId": VM,
        "name": "web",
        "state": "Up",
        "agent": "connected",
        "disks": [{**disk, "volume": volume}, file],
    }
    assert shown("VM.getInfo", info) == [
        f"vmId   {VM}",
        "name   web",
        "state  Up",
        "agent  connected",
        "",
        "disks:",
        "  disk  type  volume    path  snapshotReady  reason",
        "  vda   rbd   vms/root  -     yes            -",
        "  vdb   file  -         /x    no             raw",
    ]


def test_jobs_show_progress_errors_and_outcomes() -> None:
    base = {"description": "snapshot", "job_type": "virt"}
    jobs = {
        "a": {**base, "id": "a", "status": "running", "progress": 40},
        "b": {**base, "id": "b", "status": "failed", "error": {"code": 48, "message": "no"}},
        "c": {**base, "id": "c", "status": "done", "result": {"consistency": "crash", "d": [1]}},
    }
    lines = shown("Host.getJobs", jobs)
    assert lines[0].split() == [
        "id", "status", "description", "progress", "error", "result",
    ]  # fmt: skip
    assert "40%" in lines[1]
    assert "48: no" in lines[2]
    assert lines[3].endswith("consistency=crash")


def test_stats_have_units() -> None:
    stats = {"reachable": True, "latency": 0.0042, "capacity": 3 << 40, "used": 1 << 30}
    assert shown("StorageDomain.getStats", {**stats, "health": "HEALTH_OK"}) == [
        "reachable  yes",
        "latency    4 ms",
        "capacity   3.0 TiB",
        "used       1.0 GiB",
        "health     HEALTH_OK",
    ]


def test_names_cannot_steer_the_terminal() -> None:
    odd = "a\x1b[2Jb\n"
    assert shown("Volume.list", [{"volumeName": odd, "size": 1}])[1] == "a?[2Jb?      1 B"
    step = {"what": odd, "command": odd}
    plan = {"volumeName": odd, "deletable": False, "forceable": False, "steps": [step]}
    clone = {"pool": "p", "volumeName": odd, "id": "1"}
    snapshot = {"snapshotName": odd, "size": 1, "created": 1, "clones": [clone]}
    text = shown("Volume.explainDelete", {**plan, "stepCount": 1})
    text += shown("Volume.listSnapshots", [snapshot])
    assert "\x1b" not in "".join(text)


def test_an_answer_of_another_shape_is_shown_as_json() -> None:
    assert shown("VM.getInfo", ["odd"]) == ["[", '    "odd"', "]"]
    assert shown("Volume.list", "odd") == ['"odd"']
    assert shown("Volume.list", {"a": 1}) == ["{", '    "a": 1', "}"]


def test_colours_emphasise_the_headers() -> None:
    rows = [{"name": "a"}]
    text = render(CONTRACT, CONTRACT.verbs["Host.getVMList"].result, rows, bold)
    assert text == "\x1b[1mname\x1b[0m\na"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.34, "340 ms"), (12.34, "12.3 s"), (485, "8 min 5 s"), (7500, "2 h 5 min")],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text
