"""Nothing is asked of an image's owner before everybody who has the image open has answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import rbd

from tests.fakes import notified
from virtceph import errors
from virtceph.ceph.snapshots import OwnedImages
from virtceph.ceph.spec import PoolSpec

POOL, OWNER, OURS, OTHER = PoolSpec("vms"), 4119, 4200, 4300


class FakeImage:
    """As rbd.Image: an image with one snapshot, `old`, that a VM (`OWNER`) has open and locked, and so
    have we. `steps` is what was asked, and of whom."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.snapshots = ["old"]
        self.watchers = {OWNER, OURS}
        self.silent: set[int] = set()
        self.locked = True
        self.owner_leaves = False
        # How often it is between two requests when the question comes, and has the lock again after.
        self.owner_is_between = 0

    def id(self) -> str:
        return "1f2e3d"

    def list_lockers(self) -> dict[str, Any]:
        """As it was when this handle was opened."""
        return {"lockers": [(f"client.{OWNER}", "auto 1", "10.0.1.2:0/1")]}

    def list_snaps(self) -> list[dict[str, Any]]:
        self.steps.append("names listed")
        return [{"name": name, "id": number} for number, name in enumerate(self.snapshots, 1)]

    def watchers_list(self) -> list[dict[str, Any]]:
        """As a roll back sees them before it asks."""
        return [{"id": OURS, "addr": "10.0.1.3:0/1"}]

    def close(self) -> None:
        self.steps.append("closed")

    def features(self) -> int:
        return 61

    def create_snap(self, _name: str) -> None:
        self.steps.append("created")

    def remove_snap(self, _name: str) -> None:
        self.steps.append("removed")

    def rollback_to_snap(self, _name: str) -> None:
        self.steps.append("rolled back")

    def metadata_set(self, _key: str, _value: str) -> None:
        self.steps.append("noted")

    def metadata_remove(self, key: str) -> None:
        raise KeyError(key)

    def aio_notify(
        self, header: str, complete: Callable[..., None], _payload: str, _timeout_ms: int
    ) -> None:
        """As rados.Ioctx's, for this image's header."""
        assert header == "rbd_header.1f2e3d"
        self.steps.append("users asked")
        if self.owner_leaves:
            self.watchers.discard(OWNER)
            self.locked = False
        if self.owner_is_between:
            self.owner_is_between -= 1
            notified.tell(complete, self.watchers - {OWNER}, self.silent)
        else:
            notified.tell(complete, self.watchers, self.silent)


class Reopened:
    """The same, opened anew."""

    def __init__(self, image: FakeImage, *_name: str, image_id: str, read_only: bool) -> None:
        assert (image_id, read_only) == (image.id(), True)
        self._image = image

    def list_lockers(self) -> dict[str, Any] | list[Any]:
        return self._image.list_lockers() if self._image.locked else []

    def watchers_list(self) -> list[dict[str, Any]]:
        return [{"id": one, "addr": f"10.0.1.3:0/{one}"} for one in sorted(self._image.watchers)]

    def close(self) -> None:
        """Nothing to give back."""


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> FakeImage:
    monkeypatch.setattr(rbd, "Image", Reopened)
    return FakeImage()


@pytest.fixture
def images(image: FakeImage) -> OwnedImages:
    cluster: Any = SimpleNamespace(
        spec=SimpleNamespace(user="virtceph"),
        client_id=OURS,
        ioctx=lambda _pool: image,
        using=contextlib.nullcontext,
    )
    handles: Any = {(POOL, "web-root"): image}
    return OwnedImages(cluster, POOL, handles, lambda: image.steps.append("begun"))


REQUESTS: dict[str, Callable[[OwnedImages], None]] = {
    "open": lambda images: images.open_image("web-root", "new"),
    "create": lambda images: images.create_snapshot("web-root", "new"),
    "remove": lambda images: images.remove_snapshot("web-root", "old"),
    "note": lambda images: images.annotate_snapshot("web-root", "old", "crash"),
    "roll back": lambda images: images.roll_back("web-root", "old", 1),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_an_owner_that_does_not_answer_is_asked_for_nothing(
    image: FakeImage, images: OwnedImages, request_: Callable[[OwnedImages], None]
) -> None:
    image.silent.add(OWNER)
    with pytest.raises(errors.LockOwnerStalled):
        request_(images)
    assert image.steps == ["names listed", "users asked"]


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_an_owner_that_no_longer_watches_is_asked_for_nothing_unless_it_is_known_to_be_dead(
    image: FakeImage, images: OwnedImages, request_: Callable[[OwnedImages], None]
) -> None:
    image.watchers.remove(OWNER)
    with pytest.raises(errors.LockOwnerStalled):
        request_(images)
    images.dead = {OWNER}
    request_(images)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_an_owner_that_leaves_in_order_while_it_is_asked_is_not_called_stalled(
    image: FakeImage, images: OwnedImages, request_: Callable[[OwnedImages], None]
) -> None:
    image.owner_leaves = True
    request_(images)
    assert image.watchers == {OURS}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_an_owner_that_left_in_order_and_came_back_is_not_called_stalled(
    image: FakeImage, images: OwnedImages, request_: Callable[[OwnedImages], None]
) -> None:
    image.owner_is_between = 2
    request_(images)
    assert image.owner_is_between == 0


@pytest.mark.parametrize(
    ("silent", "dead"),
    [
        pytest.param(OTHER, set(), id="the owner is not blamed for it"),
        pytest.param(OTHER, {OTHER}, id="nor when that one is known to be dead"),
        # What is asked meanwhile takes long, is killed, and leaves a watch of its own.
        pytest.param(OWNER, {OWNER}, id="its lock is nobody's, and its watch is there"),
    ],
)
def test_a_user_that_does_not_answer_and_owns_no_lock_is_to_be_waited_for(
    image: FakeImage, images: OwnedImages, silent: int, dead: set[int]
) -> None:
    image.watchers.add(silent)
    image.silent.add(silent)
    images.dead = dead
    told = f"0/{OWNER}.*, and not all of them answer; .* forgotten within 30 s"
    with pytest.raises(errors.CephUnavailable, match=told) as caught:
        images.create_snapshot("web-root", "new")
    assert f"0/{silent}" in caught.value.message
    assert not {"begun", "created"} & {*image.steps}


def test_a_snapshot_is_begun_once_its_name_was_seen_free_and_its_users_have_answered(
    image: FakeImage, images: OwnedImages
) -> None:
    images.create_snapshot("web-root", "new")
    assert image.steps == ["names listed", "users asked", "begun", "created"]


@pytest.mark.parametrize("request_", [OwnedImages.open_image, OwnedImages.create_snapshot])
def test_a_name_that_is_taken_is_never_begun(
    image: FakeImage, images: OwnedImages, request_: Callable[..., None]
) -> None:
    with pytest.raises(errors.SnapshotExists):
        request_(images, "web-root", "old")
    assert "begun" not in image.steps


def test_no_clone_is_begun_under_a_name_that_is_taken(
    image: FakeImage, images: OwnedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rbd, "Image", lambda *_all, **_named: image)
    with pytest.raises(errors.VolumeExists):
        images.clone("web-root", "old", 1, "web-data")
    assert "begun" not in image.steps


def test_of_a_snapshot_that_was_made_anew_nothing_is_removed(
    image: FakeImage, images: OwnedImages
) -> None:
    with pytest.raises(errors.NoSuchSnapshot):
        images.remove_snapshot("web-root", "old", snap_id=7)
    assert "removed" not in image.steps
