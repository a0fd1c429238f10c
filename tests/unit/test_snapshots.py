"""VM.snapshot: what is made, undone and told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_domains import VM
from tests.fakes.snapshot_host import UNFIT, SnapshotHost
from tests.fakes.waiting import until
from virtceph import errors
from virtceph.ceph.workers import NoReply
from virtceph.host import pauses
from virtceph.host.drives import SnapDrive
from virtceph.host.jobs import JobInfo
from virtceph.host.making import Making
from virtceph.host.snapshots import SnapshotRequest

JOB = UUID(int=7)


class Host(SnapshotHost):
    def ask(self, *names: str, frozen: bool = False, memory: str | None = None) -> JobInfo:
        drives = tuple(_drive(disk=name, snapshot_name="s") for name in names)
        return self.start(SnapshotRequest(VM, drives, memory, frozen, 5.0, 5.0))

    def start(self, asked: SnapshotRequest) -> JobInfo:
        return self.run(lambda job: self.snapshots.start(asked, job), JOB)


def _drive(**given: Any) -> SnapDrive:
    return SnapDrive(**{**dict.fromkeys(SnapDrive.__dataclass_fields__), **given})


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host.of_alice(tmp_path) as made:
        yield made


def test_a_snapshot_under_our_freeze_is_consistent_and_noted(host: Host) -> None:
    told = host.ask("vda", "vdb")
    assert told.status == "done"
    assert told.result.consistency == "filesystem"
    assert host.images == {"web-root": {"s": "filesystem"}, "web-data": {"s": "filesystem"}}
    assert not host.agent.frozen


def test_a_guest_that_cannot_be_frozen_is_snapshotted_and_told(host: Host) -> None:
    host.agent.mood = "absent"
    told = host.ask("vda")
    assert told.result.consistency == "crash"
    assert "not frozen" in told.result.reason
    assert host.images["web-root"] == {"s": "crash"}


@pytest.mark.parametrize(
    "outcome", [errors.CephUnavailable("no answer"), NoReply()], ids=["error", "no reply"]
)
def test_a_failed_snapshot_thaws_the_guest_and_removes_what_it_made(
    host: Host, outcome: Any
) -> None:
    host.storage.one.worker.outcomes["web-data"] = outcome
    told = host.ask("vda", "vdb")
    assert told.status == "failed"
    assert told.error is not None
    assert told.error.code == 48
    assert host.images == {"web-root": {}, "web-data": {}}
    assert not host.agent.frozen
    assert not host.leases.frozen_count()


def test_a_snapshot_of_that_name_which_was_there_before_is_left_alone(host: Host) -> None:
    host.images["web-root"]["s"] = "filesystem"
    told = host.ask("vda")
    assert told.status == "failed"
    assert host.images["web-root"] == {"s": "filesystem"}
    assert not host.agent.froze


def test_a_bug_while_it_is_made_leaves_no_guest_frozen(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_all: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(Making, "make", breaks)
    assert host.ask("vda").status == "failed"
    assert not host.agent.frozen
    assert not host.leases.frozen_count()


def test_a_failed_snapshot_thaws_first_and_then_undoes(host: Host) -> None:
    frozen: list[bool] = []
    host.worker.outcomes["web-data"] = errors.CephUnavailable("no answer")
    host.before("remove_snapshot", lambda _left_s: frozen.append(host.agent.frozen))
    assert host.ask("vda", "vdb").status == "failed"
    assert frozen == [False]


def test_a_caller_whose_lease_ran_out_is_refused_and_nothing_is_made(host: Host) -> None:
    host.leases.freeze(VM, 0.05)
    until(lambda: not host.agent.frozen)
    with pytest.raises(errors.SnapshotFailed, match="the lease ran out"):
        host.ask("vda", frozen=True)
    assert host.worker.calls == []


def test_under_the_callers_freeze_it_is_pending_until_the_thaw(host: Host) -> None:
    host.leases.freeze(VM, 60)
    told = host.ask("vda", "vdb", frozen=True)
    assert (told.status, told.result.consistency) == ("done", "pending")
    assert host.agent.frozen
    assert host.agent.froze == 1
    host.leases.thaw(VM, force=False)
    assert host.job(JOB).result.consistency == "filesystem"
    until(lambda: host.images["web-root"] == {"s": "filesystem"})


def test_a_callers_freeze_that_did_not_hold_makes_it_crash_consistent(host: Host) -> None:
    host.leases.freeze(VM, 60)
    host.ask("vda", frozen=True)
    host.agent.thawed_count = 1
    host.leases.thaw(VM, force=False)
    assert host.job(JOB).result.consistency == "crash"


def test_a_callers_freeze_that_ended_meanwhile_is_not_pending_for_ever(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window ends after the guest was asked, and before the snapshot listens for its end."""
    host.leases.freeze(VM, 60)
    window = host.leases.window_of(VM)
    assert window is not None
    asked: list[tuple[str, None]] = []

    def ask(_vm_id: UUID) -> tuple[str, None]:
        asked.append(("frozen", None))
        if len(asked) == 2:
            host.leases.thaw(VM, force=True)
        return "frozen", None

    monkeypatch.setattr(host.leases, "ask", ask)
    told = host.ask("vda", frozen=True)
    assert told.result.consistency == "crash"
    assert "ended while" in told.result.reason


def test_a_guest_called_frozen_that_is_not_is_told_as_crash(host: Host) -> None:
    told = host.ask("vda", frozen=True)
    assert (told.result.consistency, told.result.reason) == ("crash", "the guest was not frozen")
    assert not host.agent.froze


def test_memory_and_disks_are_taken_while_the_vm_is_paused(host: Host) -> None:
    states: list[str] = []
    snapshot = host.domains.snapshot

    def noting(*all_: Any, **named: Any) -> None:
        states.append(host.domains.state)
        snapshot(*all_, **named)

    host.domains.snapshot = noting  # type: ignore[method-assign]
    told = host.ask("vda", memory=f"{host.folder}/memory")
    assert told.result.memory_path == f"{host.folder}/memory"
    assert (states, host.domains.state) == (["Paused"], "Up")
    assert not host.agent.froze


def test_the_vm_runs_again_when_saving_its_memory_fails(host: Host) -> None:
    host.domains.snapshot_error = errors.LibvirtFailed("snapshot the domain", 1, "disk full")
    told = host.ask("vda", memory=f"{host.folder}/memory")
    assert told.status == "failed"
    assert host.domains.state == "Up"
    assert host.images["web-root"] == {}


def test_memory_that_is_not_saved_in_its_time_is_given_up_as_soon_as_libvirt_has_begun(
    host: Host,
) -> None:
    aborts: list[UUID] = []
    given_up = threading.Event()

    def abort(vm_id: UUID) -> None:
        aborts.append(vm_id)
        if len(aborts) == 1:
            raise errors.LibvirtFailed("abort the job", 55, "no job is active")
        given_up.set()

    def save(*_all: Any, **_named: Any) -> None:
        reason = "canceled by client" if given_up.wait(2) else "never asked to stop"
        raise errors.LibvirtFailed("snapshot the domain", 1, reason)

    host.domains.abort_job, host.domains.snapshot = abort, save  # type: ignore[method-assign]
    drives = (_drive(disk="vda", snapshot_name="s"),)
    told = host.start(SnapshotRequest(VM, drives, f"{host.folder}/memory", False, 0.05, 5.0))
    assert told.error is not None
    assert "canceled by client" in told.error.message
    assert host.domains.state == "Up"
    assert host.images["web-root"] == {}


def test_a_vm_that_is_paused_for_its_memory_waits_for_no_snapshot_longer_than_that(
    host: Host,
) -> None:
    left: list[float] = []
    host.before("create_snapshot", left.append)
    host.worker.outcomes["web-root"] = NoReply()
    drives = (_drive(disk="vda", snapshot_name="s"),)
    told = host.start(SnapshotRequest(VM, drives, f"{host.folder}/memory", False, 0.5, 5.0))
    assert told.error is not None
    assert "left of its time" in told.error.message
    assert left[0] <= 0.5
    assert host.domains.state == "Up"


def test_the_agents_time_out_is_put_back_after_it_was_asked(host: Host) -> None:
    host.ask("vda", frozen=True)
    assert host.agent.put_backs == 2


def test_libvirt_is_not_asked_where_it_has_nothing_to_do(host: Host) -> None:
    host.ask("vda")
    assert host.domains.snapshots == []


@pytest.mark.parametrize(("change", "error"), UNFIT)
def test_what_can_be_refused_at_once_starts_no_job(
    host: Host, change: dict[str, Any], error: type[Exception]
) -> None:
    vars(host.domains).update(change)
    with pytest.raises(error):
        host.ask("vda")
    assert host.jobs.describe(None, []) == {}


def test_the_same_request_under_the_same_id_is_one_job(host: Host) -> None:
    asked = SnapshotRequest(VM, (_drive(disk="vda", snapshot_name="s"),), None, False, 5.0, 5.0)
    host.start(asked)
    assert host.start(asked).status == "done"
    assert host.agent.froze == 1


def test_a_resume_that_fails_at_first_is_tried_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "_AGAIN_S", 0.0)
    host.domains.resume_failures = 3
    told = host.ask("vda", memory=f"{host.folder}/memory")
    assert (told.status, host.domains.state) == ("done", "Up")


def test_a_vm_that_cannot_be_resumed_is_told_and_nothing_is_left(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "_AGAIN_S", 0.0)
    host.domains.resume_failures = 99
    told = host.ask("vda", memory=f"{host.folder}/memory")
    assert told.error is not None
    assert "still paused" in told.error.message
    assert host.images["web-root"] == {}


@pytest.mark.parametrize("begun", [True, False])
def test_only_a_snapshot_that_was_begun_is_undone(host: Host, begun: bool) -> None:
    """One that was not begun and is there all the same is somebody else's of the same name."""
    host.worker.outcomes["web-data"] = NoReply(begun=begun)
    host.before("create_snapshot", lambda _left_s: host.images["web-data"].update(s="theirs"))
    assert host.ask("vda", "vdb").status == "failed"
    assert host.images["web-root"] == {}
    assert host.images["web-data"] == ({} if begun else {"s": "theirs"})


def test_a_stalled_owner_is_found_out_before_the_guest_is_frozen(host: Host) -> None:
    host.storage.one.images.silent.add("web-data")
    told = host.ask("vda", "vdb")
    assert told.error is not None
    assert "prepare" in told.error.message
    assert not host.agent.froze
    assert host.worker.made("create_snapshot") == []


def test_a_snapshot_without_an_answer_is_watched_for(host: Host) -> None:
    host.storage.one.worker.outcomes["web-data"] = NoReply()
    host.ask("vda", "vdb")
    assert host.storage.one.given_up == [("web-data", "s")]
