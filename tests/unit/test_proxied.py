"""What an image's lock owner did before it left is done, whatever librbd makes of its silence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import rbd

from virtceph.ceph import proxied


class FakeImage:
    """As rbd.Image of librbd 18, when the lock owner closes the image before its answer is sent: the change
    is made, and librbd asks anew."""

    def __init__(self) -> None:
        self.snapshots = {"old"}
        self.metadata = {"key": "value"}
        self.parent = True
        self.refuses: rbd.Error | None = None

    def create_snap(self, name: str) -> None:
        for _ in self._tries():
            if name in self.snapshots:
                raise rbd.ImageExists("error creating snapshot", errno=17)
            self.snapshots.add(name)

    def remove_snap(self, name: str) -> None:
        for _ in self._tries():
            if name not in self.snapshots:
                raise rbd.ImageNotFound("error removing snapshot", errno=2)
            self.snapshots.remove(name)

    def metadata_remove(self, key: str) -> None:
        for _ in self._tries():
            del self.metadata[key]

    def flatten(self, on_progress: Callable[[int, int], int]) -> None:
        for _ in self._tries():
            if not self.parent:
                raise rbd.InvalidArgument("error flattening", errno=22)
            on_progress(1, 1)
            self.parent = False

    def get_parent_image_spec(self) -> dict[str, Any]:
        if not self.parent:
            raise rbd.ImageNotFound("no parent", errno=2)
        return {"image_name": "golden"}

    def _tries(self) -> range:
        if self.refuses is not None:
            raise self.refuses
        return range(2)


def test_a_snapshot_that_the_owner_made_before_it_left_is_made() -> None:
    image = FakeImage()
    proxied.create_snapshot(image, "new")
    assert image.snapshots == {"old", "new"}


def test_a_snapshot_that_the_owner_removed_before_it_left_is_removed() -> None:
    image = FakeImage()
    proxied.remove_snapshot(image, "old")
    assert image.snapshots == set()


def test_metadata_that_the_owner_removed_before_it_left_is_removed() -> None:
    image = FakeImage()
    proxied.remove_metadata(image, "key")
    assert image.metadata == {}


def test_a_clone_that_the_owner_flattened_before_it_left_is_flat() -> None:
    image = FakeImage()
    proxied.flatten(image, lambda _done, _total: 0)
    assert not image.parent


def test_a_clone_that_cannot_be_flattened_is_not_called_flat() -> None:
    image = FakeImage()
    image.refuses = rbd.InvalidArgument("snapshots cannot be flattened", errno=22)
    with pytest.raises(rbd.InvalidArgument):
        proxied.flatten(image, lambda _done, _total: 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: proxied.create_snapshot(image, "new"),
        lambda image: proxied.remove_snapshot(image, "old"),
        lambda image: proxied.remove_metadata(image, "key"),
        lambda image: proxied.flatten(image, lambda _done, _total: 0),
    ],
)
def test_what_the_owner_refuses_is_told(change: Callable[[FakeImage], None]) -> None:
    image = FakeImage()
    image.refuses = rbd.ReadOnlyImage("refused", errno=30)
    with pytest.raises(rbd.ReadOnlyImage):
        change(image)
