"""Sets of one instant: an RBD group of their own, which holds them and nothing else, or is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.fakes.fake_domains import VM
from tests.fakes.fake_storage import FakeGroup, FakeStorageDomain
from tests.fakes.snapshot_host import SnapshotHost, until
from virtceph import errors, request
from virtceph.ceph.spec import PoolSpec
from virtceph.ceph.workers import NoReply
from virtceph.host.drives import Planner
from virtceph.host.jobs import JobInfo
from virtceph.host.restoring import RestoreRequest
from virtceph.host.sets import DeleteRequest, SetRequest
from virtceph.virt.xml import Disk, Domain, RbdSource

IMAGES = ["web-root", "web-data"]


class Host(SnapshotHost):
    def make(self, name: str = "nightly", freeze: str = "required") -> JobInfo:
        asked = SetRequest(VM, name, ("vda", "vdb"), freeze, 5.0, None, None, "group")
        return self.run(lambda ident: self.sets.create(asked, ident))

    def groups(self) -> dict[str, FakeGroup]:
        return self.storage.one.images.groups

    def asked(self) -> list[str]:
        return [call.operation for call in self.worker.calls]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    (tmp_path / "exchange").mkdir(mode=0o700)
    (tmp_path / "run").mkdir()
    request.enter(request.Request("1", "alice", float("inf")))
    made = Host(tmp_path / "exchange", tmp_path / "run")
    yield made
    made.close()


def nothing_is_left(host: Host) -> bool:
    return not (host.groups() or host.agent.frozen or host.intents_on_disk())


def test_a_group_holds_the_set_and_its_images_have_left_it(host: Host) -> None:
    job = host.make()
    assert job.status == "done", job.error
    ((name, group),) = host.groups().items()
    assert name == f"virtceph-{job.result.set_id}"
    assert (group.snapshot, group.members) == ("nightly", set())
    assert group.noted == dict.fromkeys(IMAGES, "filesystem")
    assert host.asked() == ["join_group", "make_group_snapshot", "annotate_group"]
    assert host.intents_on_disk() == []
    (listed,) = host.sets.listed(VM)
    assert (listed.method, listed.complete, listed.set_id) == ("group", True, job.result.set_id)


def test_the_intent_names_the_group_before_there_is_one(host: Host) -> None:
    seen: list[Any] = []
    join = host.worker._join_group

    def look(*args: Any, **named: Any) -> None:
        seen.append(host.intents_on_disk()[0].read_text())
        join(*args, **named)

    host.worker._join_group = look  # type: ignore[method-assign]
    job = host.make()
    assert f'"group": "virtceph-{job.result.set_id}"' in seen[0]


def test_without_a_freeze_it_is_told_that_it_is_of_one_instant(host: Host) -> None:
    result = host.make(freeze="no").result
    assert (result.consistency, result.reason) == (
        "crash",
        "not frozen, as asked; all disks at one instant",
    )


@pytest.mark.parametrize("operation", ["join_group", "make_group_snapshot", "annotate_group"])
@pytest.mark.parametrize("outcome", [errors.CephUnavailable("no answer"), NoReply()])
def test_a_group_that_is_not_whole_is_removed(host: Host, operation: str, outcome: Any) -> None:
    host.worker.failing[operation, "group"] = outcome
    assert host.make().status == "failed"
    assert host.groups() == {}
    assert not host.agent.frozen


def test_a_required_freeze_that_fails_leaves_no_group(host: Host) -> None:
    host.agent.mood = "silent"
    assert host.make().status == "failed"
    assert host.groups() == {}


def test_a_group_that_cannot_be_removed_is_kept_for_the_next_daemon_and_tried_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.host.names._LOOK_AGAIN_S", 0.01)
    host.worker.failing["make_group_snapshot", "group"] = errors.CephUnavailable("no answer")
    host.worker.failing["remove_group", "group"] = errors.LockOwnerStalled("web-root", 2.0)
    assert host.make().status == "failed"
    assert len(host.groups()) == len(host.intents_on_disk()) == 1
    host.worker.failing.clear()
    until(lambda: not host.groups())


def test_deleting_removes_the_group(host: Host) -> None:
    host.make()
    job = host.run(lambda ident: host.sets.delete(DeleteRequest(VM, "nightly"), ident))
    assert job.status == "done", job.error
    assert nothing_is_left(host)
    assert host.sets.listed(VM) == []


def restore(host: Host, into: str, prefix: str | None = None) -> JobInfo:
    asked = RestoreRequest(VM, "nightly", into, prefix, None)
    return host.run(lambda ident: host.sets.restore(asked, ident))


def test_a_rollback_takes_the_whole_group_back_at_once(host: Host) -> None:
    host.make()
    host.domains.state = "Down"
    job = restore(host, "rollback")
    assert job.status == "done", job.error
    assert host.worker.rolled_back == [(image, "nightly") for image in IMAGES]
    assert host.asked()[-1] == "roll_back_group"


def test_clones_of_a_group_are_copies(host: Host) -> None:
    host.make()
    job = restore(host, "clones", "new-")
    assert job.status == "done", job.error
    assert host.asked()[-2:] == ["copy_snapshot", "copy_snapshot"]
    assert {"new-web-root", "new-web-data"} <= set(host.images)
    assert host.intents_on_disk() == []


def test_of_two_requests_for_one_copy_the_second_is_refused(host: Host) -> None:
    host.make()
    second = uuid4()
    copy = host.worker._copy_snapshot

    def ask_again(*args: Any, **named: Any) -> None:
        host.worker._copy_snapshot = copy  # type: ignore[method-assign]
        host.sets.restore(RestoreRequest(VM, "nightly", "clones", "new-", None), second)
        until(lambda: host.job(second).status == "failed")
        copy(*args, **named)

    host.worker._copy_snapshot = ask_again  # type: ignore[method-assign]
    assert restore(host, "clones", "new-").status == "done"
    assert "Volume exists: new-web-root" in str(host.job(second).error)
    assert {"new-web-root", "new-web-data"} <= set(host.images)


@pytest.mark.parametrize("outcome", [errors.CephUnavailable("no answer"), NoReply(begun=False)])
def test_copies_are_all_made_or_none_and_no_part_is_left(host: Host, outcome: Any) -> None:
    host.make()
    host.worker.failing["copy_snapshot", "web-data"] = outcome
    assert restore(host, "clones", "new-").status == "failed"
    assert set(host.images) == set(IMAGES)
    # Whether the part of the one that failed is there nobody can tell: it is removed.
    assert [name for name in host.worker.made("remove") if name.startswith(".virtceph-")]
    assert host.intents_on_disk() == []


def test_a_part_that_cannot_be_removed_is_on_record_until_it_is(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.host.names._LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr("virtceph.host.names._SWEEP_S", 0.2)
    host.make()
    host.worker.failing["copy_snapshot", "web-data"] = NoReply(begun=False)
    remove = host.worker._remove

    def refuse(name: str) -> None:
        if name.startswith(".virtceph-"):
            raise errors.VolumeInUse(name, ["10.0.1.9:0/1"])
        remove(name)

    host.worker._remove = refuse  # type: ignore[method-assign]
    assert restore(host, "clones", "new-").status == "failed"
    assert len(host.intents_on_disk()) == 1
    until(lambda: host.intents_on_disk() == [])


@pytest.mark.parametrize("method", ["group", "parallel"])
def test_a_set_whose_snapshots_are_called_otherwise_by_now_is_still_whole(
    host: Host, method: str
) -> None:
    asked = SetRequest(VM, "nightly", ("vda", "vdb"), "required", 5.0, None, None, method)
    host.run(lambda ident: host.sets.create(asked, ident))
    images = host.storage.one.images
    if method == "group":
        ((old, group),) = list(images.groups.items())
        images.groups = {"by-hand": group}
        group.snapshot = "other"
        for image in IMAGES:
            images.set_notes[image, "by-hand"] = images.set_notes.pop((image, old))
    else:
        for image in IMAGES:
            images.by_name[image]["other"] = images.by_name[image].pop("nightly")
            images.set_notes[image, "other"] = images.set_notes.pop((image, "nightly"))
    (listed,) = host.sets.listed(VM)
    assert (listed.snapshot_name, listed.complete) == ("nightly", True)
    job = host.run(lambda ident: host.sets.delete(DeleteRequest(VM, "nightly"), ident))
    assert job.status == "done", job.error
    assert images.groups == {}
    assert all(snapshots == {} for snapshots in host.images.values())


@pytest.mark.parametrize(
    "other",
    [
        {"cluster": SimpleNamespace(fsid=UUID(int=1))},
        {"pool": PoolSpec("more", "tenant")},
        {"settings": SimpleNamespace(user="bob", storage_domain_id=UUID(int=2), pool="more")},
    ],
    ids=["cluster", "namespace", "user"],
)
def test_disks_that_no_group_can_hold_together_are_refused(
    host: Host, other: dict[str, Any]
) -> None:
    ours, theirs = host.storage.one, FakeStorageDomain(**{"pool": PoolSpec("more"), **other})
    storage: Any = SimpleNamespace(of=lambda source: ours if source.pool == "vms" else theirs)
    disks = [
        Disk("vda", "rbd", RbdSource("vms", "", "web-root", ())),
        Disk("vdb", "rbd", RbdSource("more", "", "web-data", ())),
    ]
    planner = Planner(storage, host.planner._exchange)
    domain = Domain("web", tuple(disks), "connected")
    with pytest.raises(errors.InvalidParameter) as raised:
        planner.plan_set(VM, domain, "nightly", None, None, grouped=True)
    assert raised.value.field == "method"
    assert len(planner.plan_set(VM, domain, "nightly", None, None).rbd) == 2
