"""Volume.explainDelete, Volume.delete: what is in the way, in which order it goes, what force does of it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes.fake_domains import VM, FakeDomains
from tests.fakes.fake_storage import STORAGE_DOMAIN
from tests.fakes.fake_volumes import (
    LAYERS,
    OUR_ADDRESS,
    OURS,
    FullDomain,
    FullDomains,
    clone,
    entry,
    no_reply,
    snapshot,
    watched,
)
from virtceph import errors, request
from virtceph.ceph.imageinfo import Lock, Watch
from virtceph.cli.values import params_of
from virtceph.host.deletion import DeletionPlan, Deletions
from virtceph.host.users import ImageUsers
from virtceph.schema import load_contract

CONTRACT = load_contract()
SET_NOTE = {
    "setID": str(VM), "vmID": str(VM), "vmName": "web", "snapshotName": "nightly", "created": 1.0,
    "consistency": "crash", "reason": "", "frozenFor": None, "steps": {}, "description": None,
    "memoryPath": None, "method": "group", "disks": [], "imageID": "id-web-root", "snapID": 5,
}  # fmt: skip


@pytest.fixture
def deletions(storage: FullDomains, domains: FakeDomains) -> Deletions:
    domains.state = "Down"
    return Deletions(storage, ImageUsers(domains))  # type: ignore[arg-type]


def explain(deletions: Deletions) -> DeletionPlan:
    return deletions.explain(STORAGE_DOMAIN, "web-root")


def delete(deletions: Deletions, *, force: bool = False) -> None:
    deletions.delete(STORAGE_DOMAIN, "web-root", force)


def refused(deletions: Deletions, domain: FullDomain, *, force: bool = True) -> Any:
    """The error of a deletion that changed nothing."""
    with pytest.raises(errors.StateError) as caught:
        delete(deletions, force=force)
    assert domain.workers.calls == []
    return caught.value


def with_snapshots(domain: FullDomain, *states: Any) -> None:
    domain.change("web-root", snapshots=list(states))


# --- each obstacle ---


def watcher(domain: FullDomain) -> None:
    domain.change("web-root", **watched())


def dead_lock(domain: FullDomain) -> None:
    domain.change("web-root", lock=Lock("10.0.1.9:0/1", 4119, "auto 1"))


def migration(domain: FullDomain) -> None:
    domain.change("web-root", features=[*LAYERS, "migrating"])


def mirroring(domain: FullDomain) -> None:
    domain.change("web-root", mirroring="primary")


def foreign_group(domain: FullDomain) -> None:
    domain.change("web-root", group="nightly", group_pool="vms")


def our_group(domain: FullDomain) -> None:
    domain.change("web-root", group=f"virtceph-{VM}", group_pool="vms")


def group_snapshot(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "gs", "group", group="g", group_pool="slow"))


def our_group_snapshot(domain: FullDomain) -> None:
    group_snapshot(domain)
    metadata = {"virtceph.snapshot.5.set": json.dumps(SET_NOTE)}
    domain.change("web-root", metadata=metadata)


def own_clone(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "s"))
    domain.images.clones_of["web-root"] = [clone(5, "kid", "fast")]


def clone_elsewhere(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "s"))
    domain.images.clones_of["web-root"] = [clone(5, "kid", "far", namespace="ns")]


def clone_of_a_deleted_snapshot(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "s", "deleted"))
    domain.images.clones_of["web-root"] = [clone(5, "kid", "fast")]


def clone_in_the_trash(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "s"))
    domain.images.clones_of["web-root"] = [clone(5, "kid", image_id="1a2b", in_trash=True)]


def clone_of_a_job(domain: FullDomain) -> None:
    """The contract takes no such name for a volume's."""
    with_snapshots(domain, snapshot(5, "s"))
    domain.images.clones_of["web-root"] = [clone(5, ".virtceph-1", "fast")]


def clone_that_cannot_be_seen(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "s", "deleted"))


def protected(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "s", protected=True))


def plain_snapshot(domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "s"))


SD = f"storageDomainID={STORAGE_DOMAIN}"
FAST = "storageDomainID=0c9b1d7e-64a2-4f0b-8a5e-2f1e3d4c5b01"
OBSTACLES: dict[Callable[[FullDomain], None], tuple[str, str, bool]] = {
    watcher: ("watcher", f"virtceph Volume getInfo {SD} volumeName=web-root", False),
    dead_lock: ("lock", f"virtceph Volume evict {SD} volumeName=web-root client=4119", False),
    migration: ("migration", "rbd migration commit vms/web-root", False),
    mirroring: ("mirroring", "rbd mirror image disable vms/web-root", False),
    foreign_group: ("group", "rbd group image remove vms/nightly vms/web-root", False),
    our_group: ("group", f"rbd group image remove vms/virtceph-{VM} vms/web-root", True),
    group_snapshot: ("group-snapshot", "rbd group snap remove slow/g@gs", False),
    our_group_snapshot: (
        "group-snapshot",
        f"virtceph VM deleteConsistentSnapshot vmID={VM} snapshotName=nightly",
        False,
    ),
    own_clone: ("clone", f"virtceph Volume flatten {FAST} volumeName=kid", False),
    clone_elsewhere: ("clone", "rbd flatten far/ns/kid", False),
    clone_of_a_deleted_snapshot: ("clone", f"virtceph Volume flatten {FAST} volumeName=kid", False),
    clone_of_a_job: ("clone", "rbd rm fast/.virtceph-1", False),
    clone_in_the_trash: ("clone", f"virtceph Volume purge {SD} id=1a2b", False),
    clone_that_cannot_be_seen: ("deleted-snapshot", "rbd children --all vms/web-root", False),
    protected: ("protected-snapshot", "rbd snap unprotect vms/web-root@s", False),
    plain_snapshot: (
        "snapshot",
        f"virtceph Volume deleteSnapshot {SD} volumeName=web-root snapshotName=s",
        True,
    ),
}


@pytest.mark.parametrize("arrange", OBSTACLES, ids=lambda f: f.__name__)
def test_each_obstacle_is_told_with_its_command(
    deletions: Deletions, domain: FullDomain, arrange: Callable[[FullDomain], None]
) -> None:
    arrange(domain)
    plan = explain(deletions)
    step = plan.steps[0]
    assert (step.obstacle, step.command, step.forced) == OBSTACLES[arrange]
    assert (plan.deletable, plan.forceable) == (False, OBSTACLES[arrange][2])


@pytest.mark.parametrize("arrange", OBSTACLES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("force", [False, True])
def test_each_obstacle_stops_a_deletion_before_it_begins_unless_force_removes_it(
    deletions: Deletions, domain: FullDomain, arrange: Callable[[FullDomain], None], force: bool
) -> None:
    arrange(domain)
    if force and OBSTACLES[arrange][2]:
        delete(deletions, force=True)
        assert domain.workers.asked[-1] == "remove"
        return
    error = refused(deletions, domain, force=force)
    assert any(OBSTACLES[arrange][1] in step for step in error.steps)


@pytest.mark.parametrize("arrange", OBSTACLES, ids=lambda f: f.__name__)
def test_every_command_of_ours_is_one_that_the_contract_takes(
    deletions: Deletions, domain: FullDomain, arrange: Callable[[FullDomain], None]
) -> None:
    arrange(domain)
    for step in explain(deletions).steps:
        program, *words = shlex.split(step.command)
        name = ".".join(words[:2])
        if program == "virtceph":
            params_of(CONTRACT, CONTRACT.verbs[name], words[2:])


def test_a_vm_of_this_host_is_named_and_can_be_unplugged(
    deletions: Deletions, domain: FullDomain, domains: FakeDomains
) -> None:
    domains.state = "Paused"
    domain.change("web-root", **watched(host="10.0.1.2"))
    (step,) = explain(deletions).steps
    assert "the VM web, as its disk vda" in step.what
    assert step.command == f"virtceph VM hotunplugDisk vmID={VM} disk=vda"


def test_vms_of_this_host_are_named_also_where_the_client_may_be_another(
    deletions: Deletions, domain: FullDomain, domains: FakeDomains
) -> None:
    domains.state = "Up"
    watcher(domain)
    assert "VMs of this host that use it: web" in explain(deletions).steps[0].what


def test_a_stalled_vm_of_this_host_is_to_be_destroyed_and_not_evicted(
    deletions: Deletions, domain: FullDomain, domains: FakeDomains
) -> None:
    domains.state = "Up"
    dead_lock(domain)
    assert explain(deletions).steps[0].command == "virsh destroy web"


def test_a_lock_that_a_worker_of_ours_left_is_in_nobodys_way(
    deletions: Deletions, domain: FullDomain
) -> None:
    dead_lock(domain)
    domain.workers.dead = {4119}
    assert explain(deletions).deletable


def test_the_daemon_itself_is_told_as_what_it_is(deletions: Deletions, domain: FullDomain) -> None:
    domain.change("web-root", watchers=[Watch(OUR_ADDRESS, OURS)])
    assert "this daemon, at work" in explain(deletions).steps[0].what


# --- all of it together ---


def test_steps_come_in_the_order_in_which_they_can_be_taken(
    deletions: Deletions, domain: FullDomain
) -> None:
    domain.change("web-root", **watched(), mirroring="primary", group="g", group_pool="vms")
    with_snapshots(
        domain,
        snapshot(1, "old", protected=True),
        snapshot(2, "s"),
        snapshot(3, "gs", "group", group="g", group_pool="vms"),
        snapshot(4, "m", "mirror"),
    )
    domain.images.clones_of["web-root"] = [clone(2, "kid")]
    order = [step.obstacle for step in explain(deletions).steps]
    assert order == [
        "watcher", "mirroring", "group", "group-snapshot", "clone",
        "protected-snapshot", "snapshot", "snapshot",
    ]  # fmt: skip


def test_an_image_in_nobodys_way_can_be_deleted(deletions: Deletions, domain: FullDomain) -> None:
    plan = explain(deletions)
    assert (plan.deletable, plan.forceable, plan.steps) == (True, True, [])
    delete(deletions)
    assert domain.workers.asked == ["remove"]


def test_an_image_in_use_is_told_as_such_whatever_else_is_in_the_way(
    deletions: Deletions, domain: FullDomain
) -> None:
    watcher(domain)
    with_snapshots(domain, snapshot(5, "s"))
    error = refused(deletions, domain)
    assert isinstance(error, errors.VolumeInUse)
    assert (error.watchers, len(error.steps)) == (["10.0.1.9:0/4119"], 2)


def test_nothing_but_snapshots_is_told_as_such(deletions: Deletions, domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(5, "a"), snapshot(6, "b"))
    error = refused(deletions, domain, force=False)
    assert isinstance(error, errors.VolumeHasSnapshots)
    assert (error.snapshots, len(error.steps)) == (["a", "b"], 2)


def test_anything_else_is_told_with_its_reason(deletions: Deletions, domain: FullDomain) -> None:
    own_clone(domain)
    error = refused(deletions, domain)
    assert isinstance(error, errors.VolumeNotDeletable)
    assert error.reason == "fast/kid is a clone of its snapshot s"


def test_nobody_is_told_thousands_of_steps(deletions: Deletions, domain: FullDomain) -> None:
    with_snapshots(domain, *(snapshot(n, f"s{n}") for n in range(3000)))
    plan = explain(deletions)
    assert (len(plan.steps), plan.step_count) == (200, 3000)
    assert len(refused(deletions, domain, force=False).steps) == 200


def test_force_leaves_the_group_then_removes_the_snapshots_then_the_image(
    deletions: Deletions, domain: FullDomain
) -> None:
    our_group(domain)
    with_snapshots(domain, snapshot(5, "a"), snapshot(6, "b"))
    delete(deletions, force=True)
    leave, snapshots, remove = domain.workers.calls
    assert leave.operation == "leave_group"
    assert leave.arguments["group"] == f"virtceph-{VM}"
    assert snapshots.operation == "remove_snapshots"
    assert snapshots.arguments == {"name": "web-root", "snap_ids": [5, 6]}
    assert remove.operation == "remove"


def test_every_cloned_or_protected_snapshot_stays(deletions: Deletions, domain: FullDomain) -> None:
    with_snapshots(domain, snapshot(1, "a"), snapshot(2, "b", protected=True), snapshot(3, "c"))
    domain.images.clones_of["web-root"] = [clone(3, "kid")]
    found = deletions.look_at(domain, "web-root")  # type: ignore[arg-type]
    assert found.forced_snapshots() == [1]


@pytest.mark.parametrize(
    "failure",
    [
        errors.VolumeInUse("web-root", []),
        errors.VolumeHasSnapshots("web-root", ["s"]),
        errors.LockOwnerStalled("web-root", 2.0),
    ],
)
def test_what_changed_since_it_was_looked_at_is_told_with_steps(
    deletions: Deletions, domain: FullDomain, failure: errors.VirtcephError
) -> None:
    def changed() -> errors.VirtcephError:
        watcher(domain)
        return failure

    domain.workers.answers["remove"] = changed
    with pytest.raises(errors.VolumeInUse) as caught:
        delete(deletions)
    assert len(caught.value.steps) == 1


def test_what_is_gone_again_is_to_be_asked_for_again(
    deletions: Deletions, domain: FullDomain
) -> None:
    domain.workers.answers["remove"] = errors.LockOwnerStalled("web-root", 2.0)
    with pytest.raises(errors.CephUnavailable):
        delete(deletions)


def test_a_deletion_that_takes_too_long_is_no_success(
    deletions: Deletions, domain: FullDomain
) -> None:
    domain.workers.answers["remove"] = no_reply
    with pytest.raises(errors.CephUnavailable, match="repeat it"):
        delete(deletions)


def test_no_worker_is_killed_for_a_request_that_is_late_already(
    deletions: Deletions, domain: FullDomain
) -> None:
    request.enter(request.Request("1", "root", 0.0))
    with pytest.raises(errors.CephUnavailable, match="repeat it"):
        delete(deletions)
    assert domain.workers.calls == []


def test_a_deletion_that_was_cut_short_goes_on(deletions: Deletions, domain: FullDomain) -> None:
    domain.images.by_name.clear()
    domain.images.in_trash = [entry("web-root", id="1a", source="removing"), entry("other")]
    delete(deletions)
    (call,) = domain.workers.calls
    assert (call.operation, call.arguments["entry_id"]) == ("purge", "1a")


def test_what_a_user_put_into_the_trash_is_not_deleted_by_its_name(
    deletions: Deletions, domain: FullDomain
) -> None:
    domain.images.by_name.clear()
    domain.images.in_trash = [entry("web-root"), entry("web-root", source="migration")]
    domain.workers.answers["remove_half_made"] = False
    with pytest.raises(errors.NoSuchVolume):
        delete(deletions)
    assert domain.workers.asked == ["remove_half_made"]


def test_a_name_that_leads_to_no_image_is_freed(deletions: Deletions, domain: FullDomain) -> None:
    domain.images.by_name.clear()
    domain.workers.answers["remove_half_made"] = True
    delete(deletions)
    assert domain.workers.asked == ["remove_half_made"]
