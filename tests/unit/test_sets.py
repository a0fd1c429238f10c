"""Sets of snapshots: all or nothing, never called better than they are, and found again by their notes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.fakes.fake_domains import VM, rbd_disk
from tests.fakes.snapshot_host import FILE_DISK, UNFIT, SnapshotHost
from tests.fakes.waiting import until
from virtceph import errors
from virtceph.ceph.workers import NoReply
from virtceph.host.jobs import JobInfo
from virtceph.host.making import Making
from virtceph.host.restoring import RestoreRequest
from virtceph.host.retention import Keep
from virtceph.host.setnotes import SnapshotSet, read_note
from virtceph.host.sets import DeleteRequest, SetRequest
from virtceph.virt.xml import Disk, Domain

RBD = ("vda", "vdb")


class Host(SnapshotHost):
    def make(
        self,
        name: str = "nightly",
        *,
        disks: tuple[str, ...] | None = RBD,
        freeze: str = "required",
        at_most_s: float = 5.0,
        memory: str | None = None,
        job: UUID | None = None,
    ) -> JobInfo:
        asked = SetRequest(VM, name, disks, freeze, at_most_s, memory, None)
        return self.run(lambda ident: self.sets.create(asked, ident), job)

    def delete(self, name: str = "nightly") -> JobInfo:
        return self.run(lambda ident: self.sets.delete(DeleteRequest(VM, name), ident))

    def restore(
        self,
        into: str = "rollback",
        prefix: str | None = None,
        name: str = "nightly",
        *,
        memory: bool | None = None,
    ) -> JobInfo:
        asked = RestoreRequest(VM, name, into, prefix, memory)
        return self.run(lambda ident: self.sets.restore(asked, ident))

    def listed(self) -> list[SnapshotSet]:
        return self.sets.listed(VM)

    def detach(self, target: str) -> None:
        disks = tuple(disk for disk in self.domains.domain.disks if disk.target != target)
        self.domains.domain = Domain("web", disks, "connected")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host.of_alice(tmp_path) as made:
        yield made


def reason_of(job: JobInfo) -> str:
    assert job.status == "failed", job
    assert job.error is not None
    return job.error.message


def nothing_is_left(host: Host) -> bool:
    return (
        all(not snapshots for snapshots in host.images.values())
        and not host.agent.frozen
        and not host.leases.frozen_count()
        and host.intents_on_disk() == []
        and not host.worker.open
    )


# --- made ---


def test_a_set_is_made_noted_and_told_alike(host: Host) -> None:
    told = host.make()
    assert told.status == "done", told.error
    assert (told.result.consistency, told.result.complete) == ("filesystem", True)
    assert [disk.volume_name for disk in told.result.disks] == ["web-root", "web-data"]
    assert set(told.result.steps) == {"prepare", "freeze", "snapshots", "thaw"}
    (listed,) = host.listed()
    assert (listed.set_id, listed.reason) == (told.result.set_id, told.result.reason)
    assert host.images == {
        "web-root": {"nightly": "filesystem"},
        "web-data": {"nightly": "filesystem"},
    }
    assert host.intents_on_disk() == []
    assert not host.worker.open


def test_everything_is_prepared_before_the_guest_is_frozen(host: Host) -> None:
    seen: list[Any] = []
    host.agent.in_freeze = lambda: seen.append(
        (sorted(host.worker.open), len(host.intents_on_disk()), host.worker.made("create_snapshot"))
    )
    assert host.make().status == "done"
    assert seen == [(["web-data", "web-root"], 1, [])]


def test_the_notes_are_written_after_the_thaw(host: Host) -> None:
    noted: list[list[str]] = []
    host.agent.in_thaw = lambda: noted.append(host.worker.made("annotate_snapshot"))
    host.make()
    assert noted == [[]]


@pytest.mark.parametrize(
    "outcome", [errors.CephUnavailable("no answer"), NoReply()], ids=["error", "no reply"]
)
@pytest.mark.parametrize("freeze", ["required", "preferred", "no"])
def test_a_snapshot_that_fails_thaws_first_and_then_undoes_all(
    host: Host, outcome: Any, freeze: str
) -> None:
    frozen: list[bool] = []
    host.worker.outcomes["web-data"] = outcome
    host.before("remove_snapshot", lambda _left_s: frozen.append(host.agent.frozen))
    assert "snapshot of vdb" in reason_of(host.make(freeze=freeze))
    assert frozen == [False]
    assert host.images == {"web-root": {}, "web-data": {}}
    assert not host.agent.frozen


@pytest.mark.parametrize("mood", ["absent", "refusing", "paused"])
def test_a_required_freeze_that_fails_makes_nothing(host: Host, mood: str) -> None:
    host.agent.mood = mood
    assert "freeze: " in reason_of(host.make())
    assert host.worker.made("create_snapshot") == []
    host.agent.mood = "well"
    until(lambda: nothing_is_left(host))


@pytest.mark.parametrize("mood", ["absent", "refusing", "silent"])
def test_a_preferred_freeze_that_fails_is_told(host: Host, mood: str) -> None:
    host.agent.mood = mood
    told = host.make(freeze="preferred")
    host.agent.wake()
    assert told.status == "done", told.error
    assert told.result.consistency == "crash"
    assert "not frozen: " in told.result.reason
    assert told.result.frozen_for_s is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda host: setattr(host.agent, "thawed_count", 1), "1 thawed"),
        (lambda host: setattr(host.agent, "count", 1), "1 of 2"),
        (lambda host: setattr(host.agent, "file_system_list", []), "found no file system"),
    ],
    ids=["a freeze that did not hold", "one file system left out", "nothing frozen"],
)
@pytest.mark.parametrize("freeze", ["required", "preferred"])
def test_a_freeze_that_is_not_good_enough_is_never_called_filesystem(
    host: Host, spoil: Any, reason: str, freeze: str
) -> None:
    spoil(host)
    told = host.make(freeze=freeze)
    if freeze == "required":
        assert reason in reason_of(told)
        assert nothing_is_left(host)
    else:
        assert told.result.consistency == "crash"
        assert reason in told.result.reason


def test_a_freeze_whose_thaw_is_not_answered_is_never_called_filesystem(host: Host) -> None:
    def falls_silent() -> None:
        host.agent.in_thaw = lambda: None
        host.agent.mood = "silent"

    host.agent.in_thaw = falls_silent
    told = host.make(freeze="preferred")
    host.agent.wake()
    assert told.result.consistency == "crash"
    assert "the thaw failed" in told.result.reason
    until(lambda: not host.agent.frozen)


def test_a_lease_that_runs_out_thaws_the_guest_whatever_the_job_waits_for(host: Host) -> None:
    thawed_meanwhile: list[bool] = []

    def slow(_left_s: float) -> None:
        until(lambda: not host.agent.frozen)
        thawed_meanwhile.append(True)

    host.before("create_snapshot", slow)
    assert "were left of its time" in reason_of(host.make(at_most_s=0.3))
    assert thawed_meanwhile == [True]
    assert nothing_is_left(host)


@pytest.mark.parametrize("freeze", ["required", "preferred", "no"])
def test_a_snapshot_that_comes_after_the_budget_is_undone_without_killing_its_worker(
    host: Host, freeze: str
) -> None:
    left: list[float] = []

    def slow(left_s: float) -> None:
        left.append(left_s)
        time.sleep(0.35)

    host.before("create_snapshot", slow)
    assert "were left of its time" in reason_of(host.make(at_most_s=0.3, freeze=freeze))
    # The time-out of snapshots is 1 s here.
    assert left[0] > 0.9
    assert nothing_is_left(host)


def test_a_paused_vm_waits_for_no_snapshot_longer_than_its_budget(host: Host) -> None:
    left: list[float] = []
    host.before("create_snapshot", left.append)
    host.worker.outcomes.update({image: NoReply() for image in host.images})
    memory = f"{host.folder}/memory"
    assert "left of its time" in reason_of(host.make(at_most_s=0.5, memory=memory))
    assert left[0] <= 0.5
    assert host.domains.state == "Up"


def test_what_is_left_of_the_budget_is_what_saving_the_memory_gets(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.before("create_snapshot", lambda _left_s: time.sleep(0.2))
    got: list[float] = []
    abort = Making._abort_when_late

    def noting(making: Making, done: threading.Event, timeout_s: float) -> None:
        got.append(timeout_s)
        abort(making, done, timeout_s)

    monkeypatch.setattr(Making, "_abort_when_late", noting)
    assert host.make(at_most_s=1.0, memory=f"{host.folder}/memory").status == "done"
    assert 0 < got[0] <= 0.8


def test_an_owner_that_does_not_answer_is_blamed_after_the_time_out_only(host: Host) -> None:
    host.worker.outcomes["web-data"] = NoReply()
    assert "owner does not answer" in reason_of(host.make(at_most_s=0.5))


def test_a_guest_that_shall_not_be_asked_is_not(host: Host) -> None:
    told = host.make(freeze="no")
    assert (told.result.consistency, told.result.reason) == ("crash", "not frozen, as asked")
    assert not host.agent.froze
    assert not host.agent.thaws


def test_monitors_that_do_not_answer_are_found_out_before_the_freeze(host: Host) -> None:
    host.storage.one.monitors_answer = False
    assert "prepare" in reason_of(host.make())
    assert not host.agent.froze


def test_a_name_that_somebody_else_is_making_is_refused_before_the_freeze(host: Host) -> None:
    with host.names.reserve([host.storage.one.snapshot_name("web-data", "nightly")]):
        assert "prepare" in reason_of(host.make())
    assert host.worker.calls == []
    assert not host.agent.froze
    assert host.make().status == "done"


def test_an_intent_that_cannot_be_written_makes_nothing(host: Host) -> None:
    (host.runtime / "snapshots").touch()
    assert "the intent cannot be recorded" in reason_of(host.make())
    assert host.worker.made("create_snapshot") == []


def test_a_set_that_cannot_be_noted_is_undone(host: Host) -> None:
    host.worker.failing["annotate_snapshot", "web-data"] = errors.CephUnavailable("no answer")
    assert "note" in reason_of(host.make())
    assert nothing_is_left(host)


def test_what_could_not_be_undone_is_tried_again_and_kept_for_the_next_daemon(host: Host) -> None:
    host.worker.outcomes["web-data"] = errors.CephUnavailable("no answer")
    host.worker.failing["remove_snapshot", "web-root"] = errors.CephUnavailable("no answer")
    assert host.make().status == "failed"
    assert host.storage.one.given_up == [("web-root", "nightly")]
    assert len(host.intents_on_disk()) == 1


def test_the_intent_of_what_could_not_be_undone_ends_when_all_of_it_is(host: Host) -> None:
    host.worker.outcomes.update({image: NoReply() for image in ("web-root", "web-data")})
    assert host.make().status == "failed"
    first, second = host.storage.one.afterwards
    first()
    assert len(host.intents_on_disk()) == 1
    second()
    assert host.intents_on_disk() == []


def test_a_bug_leaves_no_guest_frozen_and_its_intent_behind(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_all: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("virtceph.host.making.Making.make", breaks)
    assert host.make().status == "failed"
    assert not host.agent.frozen
    assert len(host.intents_on_disk()) == 1
    assert not host.worker.open


# --- overlays and memory ---


def test_overlays_come_last_and_lie_beside_their_files(host: Host) -> None:
    done: list[list[str]] = []
    snapshot = host.domains.snapshot

    def noting(*all_: Any, **named: Any) -> None:
        done.append(host.worker.made("create_snapshot"))
        snapshot(*all_, **named)

    host.domains.snapshot = noting  # type: ignore[method-assign]
    told = host.make(disks=None)
    assert done == [["web-root", "web-data"]]
    (made,) = host.domains.snapshots
    assert made[1:] == ({"vdc": "/images/c.nightly"}, False, None)
    assert told.result.disks[2].path == "/images/c.nightly"


def test_an_overlay_that_cannot_be_made_undoes_the_rest(host: Host) -> None:
    host.domains.snapshot_error = errors.LibvirtFailed("snapshot the domain", 1, "disk full")
    assert "disk full" in reason_of(host.make(disks=None))
    assert nothing_is_left(host)


def test_an_overlay_that_cannot_be_taken_back_is_named(host: Host) -> None:
    host.agent.thawed_count = 1
    assert "/images/c.nightly" in reason_of(host.make(disks=None))
    assert host.images == {"web-root": {}, "web-data": {}}


def test_memory_is_saved_while_the_vm_is_paused_and_frozen(host: Host) -> None:
    states: list[tuple[str, bool]] = []
    snapshot = host.domains.snapshot

    def noting(*all_: Any, **named: Any) -> None:
        states.append((host.domains.state, host.agent.frozen))
        snapshot(*all_, **named)

    host.domains.snapshot = noting  # type: ignore[method-assign]
    path = f"{host.folder}/memory"
    told = host.make(memory=path)
    assert told.result.memory_path == path
    assert states == [("Paused", True)]
    assert (host.domains.state, host.agent.frozen) == ("Up", False)
    assert "memory" in told.result.steps


def test_the_memory_of_a_set_that_failed_is_removed(host: Host) -> None:
    path = host.folder / "memory"
    host.domains.snapshot = lambda *_a, **_n: path.touch()  # type: ignore[method-assign]
    host.agent.thawed_count = 1
    assert host.make(memory=str(path)).status == "failed"
    assert not path.exists()
    assert host.domains.state == "Up"


# --- refused at once ---


@pytest.mark.parametrize(
    ("disks", "error", "field"),
    [
        (("vda", "vda"), errors.InvalidParameter, "disks[1]"),
        (("vdz",), errors.NoSuchDrive, "disks[0]"),
        (("vda", "vdd"), errors.InvalidParameter, "disks[1]"),
        (("vda", "vde"), errors.InvalidParameter, "disks[1]"),
        (("vdc",), errors.InvalidParameter, "disks"),
        (None, errors.InvalidParameter, "disks: vdd"),
    ],
)
def test_a_disk_that_cannot_be_part_of_a_set_is_named(
    host: Host, disks: tuple[str, ...] | None, error: type[Any], field: str
) -> None:
    others = (Disk("vdd", "block", path="/dev/sdx"), rbd_disk("vde", "x", pool="elsewhere"))
    host.domains.domain = Domain("web", (*host.domains.domain.disks, *others), "connected")
    with pytest.raises(error) as caught:
        host.make(disks=disks)
    assert caught.value.field == field


def test_an_overlay_that_exists_is_refused(host: Host, tmp_path: Path) -> None:
    base = tmp_path / "c"
    (tmp_path / "c.nightly").symlink_to("/nowhere")
    disks = (rbd_disk("vda", "web-root"), Disk("vdc", "file", path=str(base)))
    host.domains.domain = Domain("web", disks, "connected")
    with pytest.raises(errors.PathExists):
        host.make(disks=None)


@pytest.mark.parametrize(("change", "error"), UNFIT)
def test_a_vm_in_no_fit_state_is_refused(
    host: Host, change: dict[str, Any], error: type[Exception]
) -> None:
    vars(host.domains).update(change)
    with pytest.raises(error):
        host.make()
    assert host.jobs.describe(None, []) == {}


def test_a_vm_that_is_off_is_snapshotted_when_nobody_is_to_be_frozen(host: Host) -> None:
    host.domains.state = "Down"
    done = host.make(freeze="no")
    assert done.status == "done", done.error
    assert done.result.consistency == "crash"


def test_a_vm_that_is_off_gets_no_overlay_and_has_no_memory(host: Host, tmp_path: Path) -> None:
    host.domains.state = "Down"
    requests: list[dict[str, Any]] = [{"disks": None}, {"memory": str(tmp_path / "memory")}]
    for request in requests:
        with pytest.raises(errors.VMDown):
            host.make(freeze="no", **request)
    assert host.jobs.describe(None, []) == {}


def test_the_same_request_under_the_same_id_is_one_job(host: Host) -> None:
    job = uuid4()
    first = host.make(job=job)
    assert host.make(job=job).result is first.result
    assert host.agent.froze == 1
    with pytest.raises(errors.JobExists):
        host.make("other", job=job)


# --- found again ---


def test_sets_are_listed_oldest_first_and_only_the_vms_own(host: Host) -> None:
    host.make("one")
    host.make("two", disks=("vda",))
    note = dict(host.storage.one.images.set_notes["web-root", "one"])
    host.images["web-root"]["theirs"] = "crash"
    host.storage.one.images.set_notes["web-root", "theirs"] = {
        **note, "vmID": str(uuid4()), "setID": str(uuid4()), "snapshotName": "theirs",
    }  # fmt: skip
    assert [one.snapshot_name for one in host.listed()] == ["one", "two"]


def test_a_disk_that_was_detached_is_still_part_of_its_set(host: Host) -> None:
    host.make()
    host.detach("vdb")
    assert host.listed()[0].complete


@pytest.mark.parametrize("gone", ["snapshot", "image"])
def test_a_snapshot_that_is_gone_is_missing(host: Host, gone: str) -> None:
    host.make()
    if gone == "image":
        del host.images["web-data"]
    else:
        host.storage.one.images.forget("web-data", "nightly")
    (told,) = host.listed()
    assert not told.complete
    assert [(m.disk, m.reason) for m in told.missing] == [("vdb", "its snapshot is gone")]


def test_a_snapshot_of_that_name_that_was_made_anew_is_not_the_sets(host: Host) -> None:
    host.make()
    host.storage.one.images.forget("web-data", "nightly")
    host.images["web-data"]["nightly"] = "crash"
    assert not host.listed()[0].complete
    assert host.delete().status == "done"
    assert host.images == {"web-root": {}, "web-data": {"nightly": "crash"}}


def test_a_snapshot_that_another_set_has_noted_is_not_this_ones(host: Host) -> None:
    host.make()
    notes = host.storage.one.images.set_notes
    notes["web-data", "nightly"] = {**notes["web-data", "nightly"], "setID": str(uuid4())}
    assert [one.complete for one in host.listed()] == [False, False]


def test_what_takes_a_snapshots_name_while_it_is_deleted_stays(host: Host) -> None:
    host.make(disks=("vda",))
    workers = host.storage.one.workers
    run = workers.run

    def remade_first(calls: list[Any], timeout_s: float) -> list[Any]:
        host.storage.one.images.forget("web-root", "nightly")
        host.images["web-root"]["nightly"] = "theirs"
        return run(calls, timeout_s)

    workers.run = remade_first  # type: ignore[method-assign]
    assert host.delete().status == "done"
    assert host.images["web-root"] == {"nightly": "theirs"}


@pytest.mark.parametrize(
    "change",
    [
        {"setID": "no uuid"},
        {"disks": None},
        {"disks": [{"disk": "vda"}]},
        {"created": "now"},
        {"created": float("nan")},
        {"created": 1e12},
        {"consistency": "perfect"},
        {"steps": []},
        {"vmName": 1},
    ],
    ids=str,
)
def test_what_is_no_note_is_ignored(host: Host, change: dict[str, Any]) -> None:
    host.make()
    notes = host.storage.one.images.set_notes
    for place, note in notes.items():
        notes[place] = {**note, **change}
        assert read_note(notes[place]) is None
    assert host.listed() == []


def test_an_unknown_vm_is_told_and_one_without_known_disks_has_no_sets(host: Host) -> None:
    host.make()
    host.storage.connected = False
    assert host.listed() == []
    with pytest.raises(errors.NoSuchVM):
        host.sets.listed(uuid4())


# --- deleted ---


def test_deleting_removes_what_is_there(host: Host) -> None:
    host.make()
    host.storage.one.images.forget("web-data", "nightly")
    assert host.delete().status == "done"
    assert host.listed() == []
    assert "web-root, web-data@nightly" in reason_of(host.delete())


def test_a_disk_that_cannot_be_cleared_does_not_keep_the_others(host: Host) -> None:
    host.make()
    host.worker.failing["remove_snapshot", "web-root"] = errors.SnapshotProtected("web-root", "x")
    assert "protected" in reason_of(host.delete())
    assert host.images["web-data"] == {}


def test_nothing_of_a_set_is_deleted_while_a_part_of_it_is_protected(host: Host) -> None:
    host.make()
    host.storage.one.images.protected.add(("web-data", "nightly"))
    assert "protected" in reason_of(host.delete())
    (found,) = host.listed()
    assert found.complete


# --- pruned ---


def test_pruning_counts_complete_sets_only(host: Host) -> None:
    for name in ("one", "half", "two", "three"):
        host.make(name)
    host.storage.one.images.forget("web-data", "half")
    dry = host.sets.prune(VM, Keep(last=2), dry_run=True)
    assert (dry.kept, dry.deleted) == (["two", "three"], ["one"])
    assert "one" in host.images["web-root"]
    assert host.sets.prune(VM, Keep(last=2), dry_run=False) == dry
    assert list(host.images["web-root"]) == ["half", "two", "three"]


def test_pruning_by_a_prefix_leaves_what_somebody_else_made(host: Host) -> None:
    for name in ("daily-1", "before-upgrade", "daily-2", "daily-3"):
        host.make(name)
    pruned = host.sets.prune(VM, Keep(last=1), "daily-", dry_run=False)
    assert (pruned.kept, pruned.deleted) == (["daily-3"], ["daily-1", "daily-2"])
    assert list(host.images["web-root"]) == ["before-upgrade", "daily-3"]


def test_pruning_by_a_label_leaves_what_only_begins_with_it(host: Host) -> None:
    theirs = ["daily-before-upgrade", "daily-db-20261124-030000", "daily-20261124-030000-b"]
    for name in (*theirs, "daily-20261124-030000", "daily-20261125-030000"):
        host.make(name)
    pruned = host.sets.prune(VM, Keep(last=1), label="daily", dry_run=False)
    assert (pruned.kept, pruned.deleted) == (["daily-20261125-030000"], ["daily-20261124-030000"])
    assert list(host.images["web-root"]) == [*theirs, "daily-20261125-030000"]


def test_pruning_without_a_wish_deletes_nothing(host: Host) -> None:
    host.make()
    with pytest.raises(errors.InvalidParameter):
        host.sets.prune(VM, Keep(), dry_run=False)
    assert host.listed()


# --- restored ---


def test_a_rollback_takes_every_disk_back(host: Host) -> None:
    host.make()
    host.domains.state = "Down"
    told = host.restore()
    assert told.status == "done", told.error
    assert host.worker.rolled_back == [("web-root", "nightly"), ("web-data", "nightly")]
    assert [disk.volume_name for disk in told.result.disks] == ["web-root", "web-data"]


def test_a_running_vm_is_not_rolled_back(host: Host) -> None:
    host.make()
    with pytest.raises(errors.VMRunning):
        host.restore()


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda h: h.storage.one.images.watchers.update({"web-data": ["10.0.1.9:0/1"]}), "in use"),
        (lambda h: h.storage.one.images.forget("web-data", "nightly"), "does not exist: web-data"),
        (lambda h: h.detach("vdb"), "no disk of the VM"),
    ],
    ids=["a disk in use", "a snapshot gone", "a disk detached"],
)
def test_a_rollback_that_cannot_be_whole_touches_nothing(
    host: Host, spoil: Any, reason: str
) -> None:
    host.make()
    host.domains.state = "Down"
    spoil(host)
    assert reason in reason_of(host.restore())
    assert host.worker.rolled_back == []


def test_a_worker_that_ends_in_a_rollback_is_not_blamed_on_the_owner(host: Host) -> None:
    host.make()
    host.domains.state = "Down"
    host.worker.failing["roll_back", "web-data"] = NoReply()
    assert "web-data: the worker process ended" in reason_of(host.restore())


def test_file_disks_are_not_rolled_back(host: Host) -> None:
    host.make(disks=None)
    host.domains.state = "Down"
    assert "file disk" in reason_of(host.restore())
    assert host.worker.rolled_back == []


def test_clones_are_made_beside_a_running_vm(host: Host) -> None:
    host.make()
    told = host.restore("clones", "copy-")
    assert [disk.volume_name for disk in told.result.disks] == ["copy-web-root", "copy-web-data"]
    assert set(host.images) == {"web-root", "web-data", "copy-web-root", "copy-web-data"}


@pytest.mark.parametrize(
    "outcome", [errors.VolumeExists("copy-web-data"), NoReply()], ids=["taken", "no reply"]
)
def test_clones_are_all_made_or_none(host: Host, outcome: Any) -> None:
    host.make()
    host.worker.failing["clone", "web-data"] = outcome
    assert host.restore("clones", "copy-").status == "failed"
    assert set(host.images) == {"web-root", "web-data"}


def test_a_clone_whose_name_nobody_saw_free_is_not_removed(host: Host) -> None:
    host.make()
    host.images["copy-web-data"] = {}
    host.worker.failing["clone", "web-data"] = NoReply(begun=False)
    assert host.restore("clones", "copy-").status == "failed"
    assert set(host.images) == {"web-root", "web-data", "copy-web-data"}


def test_a_clone_that_was_there_before_is_not_removed(host: Host) -> None:
    host.make()
    host.images["copy-web-data"] = {}
    assert "Volume exists" in reason_of(host.restore("clones", "copy-"))
    assert set(host.images) == {"web-root", "web-data", "copy-web-data"}


@pytest.mark.parametrize(("into", "prefix"), [("clones", None), ("rollback", "copy-")])
def test_a_prefix_belongs_to_clones(host: Host, into: str, prefix: str | None) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        host.restore(into, prefix)
    assert caught.value.field == "clonePrefix"


# --- restored with memory ---


@pytest.fixture
def saved(host: Host) -> Path:
    """The memory of the set `nightly`, saved while the guest was frozen; the VM is off now."""
    host.detach("vdc")
    path = host.folder / "memory"
    assert host.make(memory=str(path)).status == "done"
    host.domains.state = "Down"
    return path


def starts_frozen(host: Host) -> None:
    host.agent.frozen = True


def test_memory_is_loaded_when_every_disk_is_back_and_the_guest_is_thawed(
    host: Host, saved: Path
) -> None:
    rolled_back: list[int] = []

    def loaded() -> None:
        rolled_back.append(len(host.worker.rolled_back))
        starts_frozen(host)

    host.domains.in_restore = loaded
    told = host.restore()
    assert told.status == "done", told.error
    assert rolled_back == [2]
    assert host.domains.restored == [str(saved)]
    assert (told.result.memory_path, told.result.guest) == (str(saved), "thawed")
    assert not host.agent.frozen
    assert not host.leases.frozen_count()


def test_a_guest_that_does_not_thaw_in_time_is_told_and_asked_again(
    host: Host, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.host.savedmemory._THAW_S", 0.05)
    host.domains.in_restore = lambda: starts_frozen(host)
    host.agent.mood = "silent"
    told = host.restore()
    assert (told.status, told.result.guest) == ("done", "unknown")
    assert host.leases.frozen_count() == 1
    host.agent.wake()
    until(lambda: not host.agent.frozen and not host.leases.frozen_count())


def test_a_guest_whose_restore_was_not_answered_is_thawed_all_the_same(
    host: Host, saved: Path
) -> None:
    def lost() -> None:
        host.domains.state = "Up"
        starts_frozen(host)
        raise errors.LibvirtUnavailable("libvirtd went away")

    host.domains.in_restore = lost
    assert "went away" in reason_of(host.restore())
    until(lambda: not host.agent.frozen and not host.leases.frozen_count())


def test_a_guest_that_was_frozen_by_somebody_else_is_thawed_too(host: Host) -> None:
    host.detach("vdc")
    host.make(memory=f"{host.folder}/memory", freeze="no")
    host.domains.state = "Down"
    host.domains.in_restore = lambda: starts_frozen(host)
    assert host.restore().result.guest == "thawed"


def test_a_guest_that_was_not_frozen_is_not_thawed(host: Host) -> None:
    host.detach("vdc")
    host.make(memory=f"{host.folder}/memory", freeze="no")
    host.domains.state = "Down"
    assert host.restore().result.guest == "thawed"
    assert host.agent.thaws == 0


def test_memory_that_is_not_wanted_is_not_looked_at(host: Host, saved: Path) -> None:
    saved.unlink()
    told = host.restore(memory=False)
    assert (told.status, told.result.memory_path, told.result.guest) == ("done", None, None)
    assert len(host.worker.rolled_back) == 2
    assert host.domains.restored == []


def note_path(host: Host, path: str) -> None:
    notes = host.storage.one.images.set_notes
    for place, note in notes.items():
        notes[place] = {**note, "memoryPath": path}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda host, path: path.unlink(), "the file is gone"),
        (lambda host, path: note_path(host, "/etc/passwd"), "expected a path under"),
        (lambda host, path: path.chmod(0o666), "can be written to by others"),
        (lambda host, path: host.domains.memories.clear(), "magic is incorrect"),
        (
            lambda host, path: host.domains.memories.update(
                {str(path): (uuid4(), host.domains.domain)}
            ),
            "the memory of the VM",
        ),
        (
            lambda host, path: host.domains.memories.update(
                {str(path): (VM, Domain("web", (*host.domains.domain.disks, FILE_DISK), ""))}
            ),
            "vdc too, which is not of the set",
        ),
    ],
    ids=["gone", "elsewhere", "of others", "no memory", "of another VM", "with another disk"],
)
def test_memory_that_cannot_be_used_touches_no_disk(
    host: Host, saved: Path, spoil: Any, reason: str
) -> None:
    spoil(host, saved)
    assert reason in reason_of(host.restore())
    assert host.worker.rolled_back == []
    assert host.domains.restored == []


def test_memory_that_a_set_does_not_have_is_told(host: Host) -> None:
    host.make()
    host.domains.state = "Down"
    assert "withMemory" in reason_of(host.restore(memory=True))
    assert host.worker.rolled_back == []


def test_clones_come_without_memory(host: Host, saved: Path) -> None:
    assert host.restore("clones", "copy-").status == "done"
    assert host.domains.restored == []
    with pytest.raises(errors.InvalidParameter) as caught:
        host.restore("clones", "copy-", memory=True)
    assert caught.value.field == "withMemory"


def test_a_budget_longer_than_this_hosts_leases_starts_nothing(host: Host) -> None:
    with pytest.raises(errors.InvalidParameter, match="maxFrozen: expected at most 600"):
        host.make(at_most_s=601.0)
    assert host.listed() == []
    # Without a freeze there is no lease.
    assert host.make(freeze="no", at_most_s=601.0).status == "done"
