"""Volume.createSnapshot, deleteSnapshot and Volume.rollback: what is made of what a worker comes to."""

from __future__ import annotations

import pytest

from tests.fakes.fake_storage import STORAGE_DOMAIN
from tests.fakes.fake_volumes import FullDomain, FullDomains, no_reply, snapshot
from virtceph import errors
from virtceph.ceph.workers import NoReply
from virtceph.host.names import SnapshotNames
from virtceph.host.volumesnapshots import VolumeSnapshots


@pytest.fixture
def snapshots(storage: FullDomains) -> VolumeSnapshots:
    return VolumeSnapshots(storage, 12.0, SnapshotNames())  # type: ignore[arg-type]


def has(domain: FullDomain, *names: str) -> None:
    states = [snapshot(number, name) for number, name in enumerate(names, 1)]
    domain.change("web-root", snapshots=states)


def test_a_snapshot_that_is_there_is_told(snapshots: VolumeSnapshots, domain: FullDomain) -> None:
    domain.workers.answers["create_snapshot"] = errors.SnapshotExists("web-root", "s")
    with pytest.raises(errors.SnapshotExists):
        snapshots.create(STORAGE_DOMAIN, "web-root", "s")


def test_a_snapshot_of_before_is_not_taken_for_one_that_was_never_begun(
    snapshots: VolumeSnapshots, domain: FullDomain
) -> None:
    has(domain, "s")
    domain.workers.answers["create_snapshot"] = no_reply(begun=False)
    with pytest.raises(errors.CephUnavailable, match="could not be opened"):
        snapshots.create(STORAGE_DOMAIN, "web-root", "s")


def test_a_snapshot_whose_owner_does_not_answer_is_given_up(
    snapshots: VolumeSnapshots, domain: FullDomain
) -> None:
    domain.workers.answers["create_snapshot"] = no_reply
    with pytest.raises(errors.LockOwnerStalled) as caught:
        snapshots.create(STORAGE_DOMAIN, "web-root", "s")
    assert caught.value.timeout_s == 12.0
    assert domain.given_up == ["web-root@s"]


def test_a_snapshot_that_was_made_without_a_reply_is_a_success(
    snapshots: VolumeSnapshots, domain: FullDomain
) -> None:
    def made() -> NoReply:
        has(domain, "s")
        return no_reply()

    domain.workers.answers["create_snapshot"] = made
    snapshots.create(STORAGE_DOMAIN, "web-root", "s")
    assert domain.given_up == []


@pytest.mark.parametrize("left", [True, False])
def test_a_deletion_without_a_reply_is_judged_by_what_is_there(
    snapshots: VolumeSnapshots, domain: FullDomain, left: bool
) -> None:
    has(domain, *(["s"] if left else []))
    domain.workers.answers["remove_snapshot"] = no_reply
    if left:
        with pytest.raises(errors.LockOwnerStalled):
            snapshots.delete(STORAGE_DOMAIN, "web-root", "s")
    else:
        snapshots.delete(STORAGE_DOMAIN, "web-root", "s")


def test_an_error_of_the_worker_is_the_verbs(
    snapshots: VolumeSnapshots, domain: FullDomain
) -> None:
    domain.workers.answers["remove_snapshot"] = errors.SnapshotProtected("web-root", "s")
    with pytest.raises(errors.SnapshotProtected):
        snapshots.delete(STORAGE_DOMAIN, "web-root", "s")


def test_a_rollback_goes_to_the_snapshot_of_that_number_and_is_waited_for(
    snapshots: VolumeSnapshots, domain: FullDomain
) -> None:
    has(domain, "old", "s")
    snapshots.roll_back(STORAGE_DOMAIN, "web-root", "s")
    (call,) = domain.workers.calls
    assert call.arguments == {"name": "web-root", "snapshot": "s", "snap_id": 2}
    assert domain.workers.timeouts_s == [float("inf")]


def test_a_rollback_to_what_is_not_there_asks_nothing(
    snapshots: VolumeSnapshots, domain: FullDomain
) -> None:
    with pytest.raises(errors.NoSuchSnapshot):
        snapshots.roll_back(STORAGE_DOMAIN, "web-root", "s")
    assert domain.workers.calls == []


def test_a_rollback_whose_worker_ended_is_not_called_done(
    snapshots: VolumeSnapshots, domain: FullDomain
) -> None:
    has(domain, "s")
    domain.workers.answers["roll_back"] = no_reply
    with pytest.raises(errors.CephUnavailable, match="partly rolled back"):
        snapshots.roll_back(STORAGE_DOMAIN, "web-root", "s")
