"""Sets of one instant: an RBD group of their own, which holds them and nothing else, or is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

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


def test_a_note_that_names_another_sets_group_is_not_believed(host: Host) -> None:
    job = host.make()
    group = f"virtceph-{job.result.set_id}"
    for image in IMAGES:
        note = host.storage.one.images.set_notes[image, group]
        note["setID"] = str(UUID(int=7))
    assert [found.complete for found in host.sets.listed(VM)] == [False]
    host.run(lambda ident: host.sets.delete(DeleteRequest(VM, "nightly"), ident))
    assert group in host.groups()


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
