"""Volume.getInfo, Volume.deleteSnapshot and the rest: what must hold before an image is changed."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_storage import STORAGE_DOMAIN, FakeStorageDomains
from virtceph import errors
from virtceph.ceph.images import ImageInfo, Watch
from virtceph.ceph.workers import NoReply
from virtceph.host.names import SnapshotNames
from virtceph.host.volumes import Volumes
from virtceph.units import GiB, MiB

LAYERS = ["layering", "exclusive-lock", "object-map"]
INFO = ImageInfo(
    name="web-root",
    id="1a2b",
    size_bytes=GiB,
    object_size_bytes=4 * MiB,
    features=LAYERS,
    data_pool=None,
    created_at_s=1.0,
    parent=None,
    snapshots=[],
    watchers=[],
    lock_owner=None,
)


class Images:
    """As `ceph.images.Images`, with one image that `found` describes."""

    def __init__(self) -> None:
        self.found = INFO
        self.snapshots_there: set[str] = set()
        self.created: list[tuple[Any, ...]] = []

    def info(self, name: str) -> ImageInfo:
        if name != self.found.name:
            raise errors.NoSuchVolume(name)
        return self.found

    def create(self, name: str, *how: Any) -> None:
        if name == self.found.name:
            raise errors.VolumeExists(name)
        self.created.append((name, *how))

    def has_snapshot(self, name: str, snapshot: str) -> bool:
        return snapshot in self.snapshots_there


@pytest.fixture
def storage() -> FakeStorageDomains:
    made = FakeStorageDomains()
    made.one.images = Images()  # type: ignore[assignment]
    return made


@pytest.fixture
def images(storage: FakeStorageDomains) -> Images:
    return storage.one.images  # type: ignore[return-value]


@pytest.fixture
def answers(storage: FakeStorageDomains, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the next calls in a worker come to; a function is called first."""
    given: list[Any] = []

    def run(_calls: object, _timeout_s: float) -> list[Any]:
        answer = given.pop(0)
        return [answer() if callable(answer) else answer]

    monkeypatch.setattr(storage.one.workers, "run", run)
    return given


@pytest.fixture
def volumes(storage: FakeStorageDomains) -> Volumes:
    return Volumes(storage, 12.0, SnapshotNames())  # type: ignore[arg-type]


def create(volumes: Volumes, name: str = "new", **other: Any) -> None:
    how = {
        "size_bytes": GiB,
        "object_size_bytes": 4 * MiB,
        "features": LAYERS,
        "data_pool": None,
        **other,
    }
    volumes.create(STORAGE_DOMAIN, name, **how)


def test_an_image_is_created_as_asked(volumes: Volumes, images: Images) -> None:
    create(volumes)
    assert images.created == [("new", GiB, 4 * MiB, LAYERS, None)]


def test_creating_the_same_again_is_no_error(volumes: Volumes) -> None:
    create(volumes, "web-root")


@pytest.mark.parametrize(
    "other", [{"size_bytes": 1}, {"object_size_bytes": MiB}, {"features": []}, {"data_pool": "x"}]
)
def test_an_image_of_other_properties_is_in_the_way(
    volumes: Volumes, other: dict[str, Any]
) -> None:
    with pytest.raises(errors.VolumeExists):
        create(volumes, "web-root", **other)


@pytest.mark.parametrize(
    ("other", "field"),
    [
        ({"object_size_bytes": 3 * MiB}, "objectSize"),
        ({"features": ["object-map"]}, "features"),
        ({"features": ["exclusive-lock", "fast-diff"]}, "features"),
    ],
)
def test_impossible_layouts_are_refused(
    volumes: Volumes, images: Images, other: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        create(volumes, **other)
    assert caught.value.field == field
    assert images.created == []


def test_an_image_in_use_is_not_deleted(volumes: Volumes, images: Images) -> None:
    images.found = dataclasses.replace(INFO, watchers=[Watch("10.0.1.9:0/1", 4)])
    with pytest.raises(errors.VolumeInUse, match=r"10\.0\.1\.9"):
        volumes.delete(STORAGE_DOMAIN, "web-root")


def test_an_image_with_snapshots_is_not_deleted(volumes: Volumes, images: Images) -> None:
    images.found = dataclasses.replace(INFO, snapshots=["nightly"])
    with pytest.raises(errors.VolumeHasSnapshots, match="nightly"):
        volumes.delete(STORAGE_DOMAIN, "web-root")


def test_a_deletion_that_takes_too_long_is_no_success(volumes: Volumes, answers: list[Any]) -> None:
    answers.append(NoReply())
    with pytest.raises(errors.CephUnavailable, match="repeat it"):
        volumes.delete(STORAGE_DOMAIN, "web-root")


def test_a_snapshot_that_is_there_is_told(volumes: Volumes, answers: list[Any]) -> None:
    answers.append(errors.SnapshotExists("web-root", "s"))
    with pytest.raises(errors.SnapshotExists):
        volumes.create_snapshot(STORAGE_DOMAIN, "web-root", "s")


def test_a_snapshot_of_before_is_not_taken_for_one_that_was_never_begun(
    volumes: Volumes, images: Images, answers: list[Any]
) -> None:
    images.snapshots_there = {"s"}
    answers.append(NoReply(begun=False))
    with pytest.raises(errors.CephUnavailable, match="could not be opened"):
        volumes.create_snapshot(STORAGE_DOMAIN, "web-root", "s")


def test_a_snapshot_whose_owner_does_not_answer_is_given_up(
    volumes: Volumes, answers: list[Any]
) -> None:
    answers.append(NoReply())
    with pytest.raises(errors.LockOwnerStalled) as caught:
        volumes.create_snapshot(STORAGE_DOMAIN, "web-root", "s")
    assert caught.value.timeout_s == 12.0


def test_a_snapshot_that_was_made_without_a_reply_is_a_success(
    volumes: Volumes, images: Images, answers: list[Any]
) -> None:
    def made() -> NoReply:
        images.snapshots_there.add("s")
        return NoReply()

    answers.append(made)
    volumes.create_snapshot(STORAGE_DOMAIN, "web-root", "s")


@pytest.mark.parametrize("left", [True, False])
def test_a_deletion_without_a_reply_is_judged_by_what_is_there(
    volumes: Volumes, images: Images, answers: list[Any], left: bool
) -> None:
    images.snapshots_there = {"s"} if left else set()
    answers.append(NoReply())
    if left:
        with pytest.raises(errors.LockOwnerStalled):
            volumes.delete_snapshot(STORAGE_DOMAIN, "web-root", "s")
    else:
        volumes.delete_snapshot(STORAGE_DOMAIN, "web-root", "s")


def test_an_error_of_the_worker_is_the_verbs(volumes: Volumes, answers: list[Any]) -> None:
    answers.append(errors.SnapshotProtected("web-root", "s"))
    with pytest.raises(errors.SnapshotProtected):
        volumes.delete_snapshot(STORAGE_DOMAIN, "web-root", "s")


def test_an_image_is_told_whole(volumes: Volumes, images: Images) -> None:
    images.found = dataclasses.replace(INFO, snapshots=["a"], watchers=[Watch("x", 4)])
    told = volumes.info(STORAGE_DOMAIN, "web-root")
    assert (told.size_bytes, told.snapshots, told.watchers[0].client) == (GiB, 1, 4)


def test_a_domain_that_is_not_connected_is_told(volumes: Volumes) -> None:
    with pytest.raises(errors.NoSuchStorageDomain):
        volumes.info(UUID(int=1), "web-root")
