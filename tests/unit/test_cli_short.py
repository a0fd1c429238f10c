"""The short forms against a daemon: which verbs they are made of, what they refuse, and their exit codes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import virtceph
from tests.fakes.fake_daemon import Failure, FakeDaemon
from virtceph.cli.main import main
from virtceph.cli.shortjobs import Log, Screen
from virtceph.cli.slots import NoSlot, slot

WEB = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"
DB = "6d7b2f7d-3066-4a1c-8e80-4b202d3c8f12"
OFF = "7e8c308e-4177-4b2d-9f91-5c313e4d9a23"
VMS = [
    {"vmId": WEB, "name": "web", "status": "Up", "statusTime": "1"},
    {"vmId": DB, "name": "db", "status": "Up", "statusTime": "1"},
    {"vmId": OFF, "name": "off", "status": "Down", "statusTime": "1"},
]
CREATE, PRUNE = "VM.createConsistentSnapshot", "VM.pruneConsistentSnapshots"
RESTORE = "VM.restoreConsistentSnapshot"


def a_set(name: str = "daily-1", **other: Any) -> dict[str, Any]:
    made = {
        "setID": WEB,
        "snapshotName": name,
        "created": time.time() - 3600,
        "consistency": "filesystem",
        "reason": "2 file systems on these disks were frozen throughout",
        "frozenFor": 0.1,
        "steps": {},
        "disks": [{"disk": "vda", "pool": "rbd", "namespace": "", "volumeName": "web-a"}],
        "complete": True,
        "missing": [],
        "method": "parallel",
    }
    return {**made, **other}


class Site:
    """A daemon whose jobs end at once; `results` says with what, by the verb."""

    def __init__(self, daemon: FakeDaemon) -> None:
        self.daemon = daemon
        self.results: dict[str, Any] = {CREATE: a_set(), RESTORE: {"disks": []}}
        self.jobs: dict[str, dict[str, Any]] = {}
        daemon.answers.update(
            {
                "Host.getVMList": VMS,
                "Host.getJobs": lambda params: self._asked(params),
                "VM.getInfo": self.info("Down"),
                "VM.listConsistentSnapshots": [a_set()],
                PRUNE: {"kept": ["daily-1"], "deleted": []},
                CREATE: lambda params: self._started(CREATE, params),
                RESTORE: lambda params: self._started(RESTORE, params),
            }
        )

    def info(self, state: str) -> dict[str, Any]:
        return {"vmId": WEB, "name": "web", "state": state, "agent": "connected", "disks": []}

    def _started(self, verb: str, params: dict[str, Any]) -> bool:
        result = self.results[verb]
        if callable(result):
            result = result(params)
        job = {"id": params["jobUUID"], "description": verb, "job_type": "virt", "status": "done"}
        if isinstance(result, Failure):
            error = {"code": result.code, "message": result.message}
            self.jobs[params["jobUUID"]] = {**job, "status": "failed", "error": error}
        else:
            self.jobs[params["jobUUID"]] = {**job, "result": result}
        return True

    def _asked(self, params: dict[str, Any]) -> dict[str, Any]:
        ids = params.get("job_ids")
        return {k: v for k, v in self.jobs.items() if ids is None or k in ids}

    def sent(self, verb: str) -> list[dict[str, Any]]:
        """The parameters of each call of a verb, without the job's id."""
        calls = [params for method, params in self.daemon.calls if method == verb]
        return [{k: v for k, v in p.items() if k != "jobUUID"} for p in calls]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with FakeDaemon(tmp_path / "sock") as daemon:
        monkeypatch.setenv("VIRTCEPH_SOCKET", daemon.path)
        monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
        yield Site(daemon)


# --- snapshot ---


def test_a_snapshot_is_required_to_be_frozen_and_named_by_label_and_time(site: Site) -> None:
    assert main(["snapshot", "web", "--label", "daily"]) == 0
    (asked,) = site.sent(CREATE)
    assert (asked["vmID"], asked["freeze"]) == (WEB, "required")
    assert asked["snapshotName"].startswith("daily-2")
    assert site.sent(PRUNE) == []


def test_a_vm_that_is_named_twice_is_snapshotted_once(site: Site) -> None:
    assert main(["snapshot", "web", WEB, "db", "web"]) == 0
    assert [asked["vmID"] for asked in site.sent(CREATE)] == [WEB, DB]


@pytest.mark.parametrize(("option", "longest"), [("--name", 95), ("--label", 79)])
def test_a_name_that_the_daemon_would_not_take_is_told_before_it_is_asked(
    site: Site, option: str, longest: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["snapshot", "web", option, "a" * (longest + 1)]) == 2
    assert f"{option}: expected" in capsys.readouterr().err
    assert site.daemon.calls == []
    assert main(["snapshot", "web", option, "a" * longest]) == 0
    (asked,) = site.sent(CREATE)
    assert len(asked["snapshotName"]) == 95


def test_what_is_kept_goes_by_the_label(site: Site) -> None:
    words = ["snapshot", "web", "--label", "d", "--keep", "2", "--keep-daily", "7"]
    assert main([*words, "--keep-weekly", "4", "--keep-monthly", "12"]) == 0
    assert site.sent(PRUNE) == [
        {
            "vmID": WEB,
            "label": "d",
            "keepLast": 2,
            "keepDaily": 7,
            "keepWeekly": 4,
            "keepMonthly": 12,
        }
    ]


@pytest.mark.parametrize(
    ("words", "freeze", "code", "prunes"),
    [
        (["--freeze", "preferred"], "preferred", 3, False),
        (["--allow-crash"], "preferred", 0, True),
        (["--allow-crash", "--freeze", "required"], "required", 0, True),
        (["--freeze", "no"], "no", 0, True),
    ],
)
def test_only_crash_consistent_ends_with_3_and_removes_nothing_unless_it_is_allowed(
    site: Site, words: list[str], freeze: str, code: int, prunes: bool
) -> None:
    site.results[CREATE] = a_set(consistency="crash", reason="not frozen")
    assert main(["snapshot", "web", "--keep", "1", *words]) == code
    assert site.sent(CREATE)[0]["freeze"] == freeze
    assert bool(site.sent(PRUNE)) is prunes


def test_a_vm_that_fails_does_not_keep_the_others_and_removes_nothing(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    def made(params: dict[str, Any]) -> Any:
        return Failure(48, "Snapshot failed: full") if params["vmID"] == WEB else a_set()

    site.results[CREATE] = made
    assert main(["snapshot", "web", "nosuch", "db", "--keep", "3"]) == 1
    assert [p["vmID"] for p in site.sent(CREATE)] == [WEB, DB]
    assert [p["vmID"] for p in site.sent(PRUNE)] == [DB]
    out, err = capsys.readouterr()
    assert "web: (code=48, message=Snapshot failed: full)" in err
    assert "nosuch" in err
    assert out.startswith("db@daily-1: filesystem")


def test_all_are_those_that_run(site: Site) -> None:
    assert main(["snapshot", "--all"]) == 0
    assert [p["vmID"] for p in site.sent(CREATE)] == [WEB, DB]
    # One name for all: they are of one round.
    assert len({p["snapshotName"] for p in site.sent(CREATE)}) == 1


def test_a_vm_that_is_off_is_left_out_only_when_that_is_said(site: Site) -> None:
    assert main(["snapshot", "off", "--skip-off"]) == 0
    assert site.sent(CREATE) == []
    site.results[CREATE] = Failure(5003, "VM is down")
    assert main(["snapshot", "off"]) == 1


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["web", "--all"],
        ["web", "--name", "x", "--keep", "1"],
        ["web", "--name", "x", "--label", "y"],
        ["web", "--label", "a/b"],
        ["web", "--keep", "0"],
        ["web", "--keep-daily", "10001"],
        ["web", "--keep", "many"],
        ["web", "--at-once", "0"],
        ["web", "--freeze", "perhaps"],
    ],
)
def test_a_wrong_snapshot_asks_nothing(site: Site, words: list[str]) -> None:
    assert main(["snapshot", *words]) == 2
    assert site.daemon.calls == []


def test_a_wrong_number_to_keep_is_told_by_its_option(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["snapshot", "web", "--keep-daily", "10001"]) == 2
    assert "--keep-daily: expected 1 to 10000" in capsys.readouterr().err


# --- slots ---


def test_there_are_as_many_slots_as_said_and_they_are_given_back(tmp_path: Path) -> None:
    with (
        slot(tmp_path, 2, 0),
        slot(tmp_path, 2, 0),
        pytest.raises(NoSlot, match="2 were at it"),
        slot(tmp_path, 2, 0.1),
    ):
        pass
    with slot(tmp_path, 1, 0):
        pass


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NoSlot, match="file"), slot(tmp_path / "file", 1, 0):
        pass


# --- restore ---


def test_a_restore_takes_a_set_first_and_then_rolls_back(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", "web@daily-1", "--yes"]) == 0
    (first,), (second,) = site.sent(CREATE), site.sent(RESTORE)
    assert first["snapshotName"].startswith("before-restore-2")
    assert first["freeze"] == "no"
    assert second == {"vmID": WEB, "snapshotName": "daily-1"}
    methods = [method for method, _ in site.daemon.calls]
    assert methods.index(CREATE) < methods.index(RESTORE)
    out = capsys.readouterr().out
    assert out.startswith("CANNOT BE UNDONE: ")
    assert f"virtceph restore web@{first['snapshotName']}" in out


def test_when_the_set_before_cannot_be_made_nothing_is_rolled_back(site: Site) -> None:
    site.results[CREATE] = Failure(5030, "Pool is full")
    assert main(["restore", "web@daily-1", "--yes"]) == 1
    assert site.sent(RESTORE) == []


def test_a_rollback_that_did_not_end_says_what_is_left(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.results[RESTORE] = Failure(5101, "Ceph is unavailable")
    assert main(["restore", "web@daily-1", "--yes", "--no-safety"]) == 1
    assert site.sent(CREATE) == []
    assert "do not start the VM, and repeat" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sets", "state", "told"),
    [
        ([a_set()], "Up", "virsh shutdown web first"),
        ([a_set()], "Paused", "a running VM is not rolled back"),
        ([a_set("other")], "Down", "it has other"),
        ([], "Down", "it has none"),
        (
            [a_set(complete=False, missing=[{"disk": "vda", "reason": "it is gone"}])],
            "Down",
            "vda: it is gone",
        ),
        (
            [a_set(disks=[{"disk": "vdb", "path": "/x.daily-1"}])],
            "Down",
            "vdb of the set is a file",
        ),
    ],
)
def test_what_cannot_be_rolled_back_is_refused_before_anything_is_asked(
    site: Site, capsys: pytest.CaptureFixture[str], sets: list[Any], state: str, told: str
) -> None:
    site.daemon.answers.update({"VM.getInfo": site.info(state), "VM.listConsistentSnapshots": sets})
    assert main(["restore", "web@daily-1", "--yes"]) == 1
    assert told in capsys.readouterr().err
    assert site.sent(CREATE) == site.sent(RESTORE) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("answer", "done"), [("y\n", True), ("n\n", False), ("\n", False), ("", False)]
)
def test_it_asks_and_only_yes_is_yes(
    site: Site, monkeypatch: pytest.MonkeyPatch, answer: str, done: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert main(["restore", "web@daily-1"]) == (0 if done else 1)
    assert bool(site.sent(RESTORE)) is done
    assert bool(site.sent(CREATE)) is done


def test_with_nobody_to_ask_it_does_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    assert main(["restore", "web@daily-1"]) == 2
    assert site.sent(RESTORE) == []


def test_clones_whose_names_could_not_be_are_refused_before_the_plan(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["restore", "web@daily-1", "--clones", "a/b"]) == 2
    told = capsys.readouterr()
    assert (told.out, site.daemon.calls) == ("", [])
    assert "--clones: expected" in told.err


def test_clones_of_a_running_vms_set_are_made_without_asking(site: Site) -> None:
    site.daemon.answers["VM.getInfo"] = site.info("Up")
    assert main(["restore", "web@daily-1", "--clones", "new-"]) == 0
    assert site.sent(CREATE) == []
    assert site.sent(RESTORE)[0]["into"] == "clones"


def test_memory_is_told_and_can_be_left(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.daemon.answers["VM.listConsistentSnapshots"] = [a_set(memoryPath="/m")]
    assert main(["restore", "web@daily-1", "--dry-run"]) == 0
    assert "goes on from its memory, /m" in capsys.readouterr().out
    assert main(["restore", "web@daily-1", "--yes", "--without-memory"]) == 0
    assert site.sent(RESTORE)[0]["withMemory"] is False


@pytest.mark.parametrize("what", [[], ["web"], ["web@"], ["@daily"]])
def test_a_restore_names_a_vm_and_a_set(site: Site, what: list[str]) -> None:
    assert main(["restore", *what]) == 2


# --- status and lists ---


@pytest.fixture
def host(site: Site) -> Site:
    site.daemon.answers.update(
        {
            "Host.getCapabilities": {
                "hostname": "h1",
                "software": "virtceph",
                "version": "0.1",
                "packages2": {"libvirt": {"version": "9.0.0"}},
            },
            "StorageDomain.list": [{"name": "fast", "storageDomainID": DB, "pool": "rbd"}],
            "VM.getInfo": site.info("Up")
            | {"disks": [{"disk": "vda", "type": "rbd", "snapshotReady": True, "reason": ""}]},
        }
    )
    return site


def test_the_status_has_a_line_for_each_vm_with_its_last_set(
    host: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("web"))
    assert "1 of 1 ready" in line
    assert "daily-1" in line
    assert line.endswith("filesystem")
    assert "libvirt 9.0.0" in out


def test_what_could_not_be_told_of_one_vm_is_said_and_the_others_are_told(
    host: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    def listed(params: dict[str, Any]) -> list[Any]:
        if params["vmID"] == WEB:
            raise Failure(5101, "Ceph is unavailable")
        return [a_set()]

    host.daemon.answers["VM.listConsistentSnapshots"] = listed
    assert main(["status"]) == 1
    out = capsys.readouterr().out
    assert "Ceph is unavailable" in out
    assert "daily-1" in out


def test_the_status_of_a_vm_that_is_off_has_no_freeze(
    host: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    host.daemon.answers["VM.getFreezeStatus"] = Failure(5003, "down", {"error": "VMDown"})
    assert main(["status", "web", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["vms"]["web"]
    assert found["freeze"] is None
    assert found["snapshots"][0]["snapshotName"] == "daily-1"


def test_the_sets_of_a_vm_are_listed(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["snapshots", "web"]) == 0
    assert "daily-1" in capsys.readouterr().out
    assert main(["snapshots"]) == 2


# --- jobs ---


def a_job(status: str = "running", **other: Any) -> dict[str, Any]:
    return {"id": WEB, "description": "copy", "status": status, "started": 1.0, **other}


def test_jobs_under_way_are_shown_with_a_bar(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.jobs = {WEB: a_job(progress=50, step="copying"), DB: {**a_job("done"), "id": DB}}
    assert main(["jobs"]) == 0
    out = capsys.readouterr().out
    assert WEB[:8] in out
    assert "50 %" in out
    assert DB[:8] not in out
    assert main(["jobs", "--all"]) == 0
    assert DB[:8] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "code"), [("done", 0), ("failed", 1), ("aborted", 1), ("running", 0)]
)
def test_a_named_jobs_end_is_the_exit_code(site: Site, status: str, code: int) -> None:
    site.jobs = {WEB: a_job(status)}
    assert main(["jobs", WEB[:6]]) == code


def test_a_job_that_is_not_there_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "ffff"]) == 1
    assert "there is no job ffff" in capsys.readouterr().err


def test_a_job_that_is_not_there_is_told_in_one_line(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "99"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "virtceph: jobs: there is no job 99\n")


def test_watching_ends_with_the_named_job(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    states = iter(["running", "running", "done"])

    def asked(_params: dict[str, Any]) -> dict[str, Any]:
        return {WEB: a_job(next(states))}

    site.daemon.answers["Host.getJobs"] = asked
    assert main(["jobs", WEB, "--watch"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[2] for line in lines] == ["running", "done"]
    assert main(["jobs", "--watch", "--json"]) == 2
    assert main(["jobs", ""]) == 2


def test_on_a_terminal_there_is_a_bar_that_grows(site: Site) -> None:
    progress = iter([10, 60])

    def asked(_params: dict[str, Any]) -> dict[str, Any]:
        percent = next(progress, None)
        return {WEB: a_job("done") if percent is None else a_job(progress=percent)}

    site.daemon.answers["Host.getJobs"] = asked
    leader, follower = pty.openpty()
    environment = {
        "VIRTCEPH_SOCKET": site.daemon.path,
        "PYTHONPATH": str(Path(virtceph.__file__).parents[1]),
        "TERM": "xterm",
        "PYTHONIOENCODING": "utf-8",
    }
    words = [sys.executable, "-m", "virtceph.cli", "jobs", WEB[:8], "--watch"]
    with subprocess.Popen(words, env=environment, stdout=follower) as watching:
        os.close(follower)
        text = b""
        # A terminal whose other end is gone answers EIO.
        with contextlib.suppress(OSError):
            while more := os.read(leader, 65536):
                text += more
        assert watching.wait(30) == 0
    os.close(leader)
    shown = text.decode()
    assert "10 %" in shown
    assert "60 %" in shown
    first, second = shown.split("10 %")[0], shown.split("10 %")[1]
    assert second.count("█") > first.count("█") > 0
    assert "done" in shown[shown.index("60 %") :]


def test_a_screen_is_drawn_over_what_was_there() -> None:
    out = io.StringIO()
    screen = Screen(out)
    screen.show([a_job(), {**a_job(), "id": DB}])
    screen.show([a_job()])
    second = out.getvalue().split("\x1b[J")[1]
    assert second.startswith("\x1b[2A")
    assert second.count("\n") == 1


def test_a_log_tells_each_state_once() -> None:
    out = io.StringIO()
    log = Log(out)
    for status in ("running", "running", "failed"):
        log.show(
            [a_job(status, error={"message": "the\x1b[2J reason"} if status == "failed" else {})]
        )
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert "the?[2J reason" in lines[1]
