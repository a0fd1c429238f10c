"""What a worker does to a group of images: who does not answer loses no lock, and no part has a name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import rbd

from tests.fakes import notified
from virtceph import errors
from virtceph.ceph.groups import GroupedImages
from virtceph.ceph.spec import PoolSpec

OWNER, OURS = 4119, 4200
MEMBERS = [("vms", "web-root"), ("more", "web-data")]
GROUP = "virtceph-1"


@dataclass
class FakeCeph:
    """Two images in two pools that a VM (`OWNER`) has open, and what was done to them, in order."""

    steps: list[str] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    watchers: set[int] = field(default_factory=lambda: {OWNER})
    groups: set[str] = field(default_factory=set)
    members: set[str] = field(default_factory=set)
    images: list[str] = field(default_factory=list)
    made: bool = False
    group_of: dict[str, str] = field(default_factory=dict)

    def image(self, _ioctx: Any, name: str = "", image_id: str = "", **_options: Any) -> FakeImage:
        name = name or image_id
        if name.startswith(".virtceph-") or name == "new":
            raise rbd.ImageNotFound(f"no {name}", errno.ENOENT)
        return FakeImage(self, name)

    def rbd(self) -> Any:
        return SimpleNamespace(
            group_create=lambda _ioctx, name: self._do("made the group", name, self.groups.add),
            group_remove=lambda _ioctx, name: self._do("removed it", name, self.groups.remove),
            group_list=lambda _ioctx: sorted(self.groups),
            remove=self._remove,
            rename=self._rename,
        )

    def group(self, _ioctx: Any, _name: str) -> Any:
        return SimpleNamespace(
            add_image=lambda _ioctx, name: self._do("joined", name, self.members.add),
            remove_image=lambda _ioctx, name: self._do("left", name, self.members.remove),
            create_snap=self._make,
            rollback_to_snap=lambda name: self.steps.append(f"rolled back {name}"),
        )

    def _make(self, name: str) -> None:
        self.steps.append(f"snapshot {name}")
        self.made = True

    def _do(self, step: str, name: str, act: Callable[[str], object]) -> None:
        self.steps.append(f"{step} {name}")
        act(name)

    def _rename(self, _ioctx: Any, _old: str, new: str) -> None:
        if new in self.images:
            raise rbd.ImageExists(f"{new} exists", errno.EEXIST)
        self._do("renamed", new, self.images.append)

    def _remove(self, _ioctx: Any, name: str) -> None:
        self.steps.append(f"removed {name}")


@dataclass
class FakeImage:
    """As rbd.Image."""

    ceph: FakeCeph
    name: str

    def id(self) -> str:
        return self.name

    def close(self) -> None:
        pass

    def list_lockers(self) -> dict[str, Any]:
        return {"lockers": [(f"client.{OWNER}", "auto 1", "10.0.1.2:0/1")]}

    def list_snaps(self) -> list[dict[str, Any]]:
        if not self.ceph.made:
            return []
        group = {"name": GROUP, "snap_name": "nightly"}
        return [{"id": 4, "name": ".group.1_2_3", "namespace": 1, "group": group}]

    def watchers_list(self) -> list[dict[str, Any]]:
        return [{"id": client, "addr": "10.0.1.2:0/1"} for client in self.ceph.watchers]

    def group(self) -> dict[str, Any]:
        return {"pool": -1, "name": self.ceph.group_of.get(self.name, "")}

    def features(self) -> int:
        return 61

    def set_snap_by_id(self, _number: int) -> None:
        pass

    def copy(self, _ioctx: Any, name: str, **_options: Any) -> None:
        self.ceph.steps.append(f"copied {name}")

    def metadata_set(self, _key: str, _value: str) -> None:
        self.ceph.steps.append(f"noted {self.name}")

    def metadata_remove(self, _key: str) -> None:
        self.ceph.steps.append(f"forgot {self.name}")


@pytest.fixture
def ceph(monkeypatch: pytest.MonkeyPatch) -> FakeCeph:
    fake = FakeCeph()
    monkeypatch.setattr(rbd, "Image", fake.image)
    monkeypatch.setattr(rbd, "RBD", fake.rbd)
    monkeypatch.setattr(rbd, "Group", fake.group)
    return fake


@pytest.fixture
def images(ceph: FakeCeph) -> GroupedImages:
    def notify(_header: str, complete: Callable[..., None], *_rest: Any) -> None:
        notified.tell(complete, ceph.watchers, ceph.silent)

    @contextmanager
    def using() -> Iterator[None]:
        yield

    cluster: Any = SimpleNamespace(
        spec=SimpleNamespace(user="virtceph"),
        client_id=OURS,
        ioctx=lambda _pool: SimpleNamespace(aio_notify=notify),
        using=using,
    )
    return GroupedImages(cluster, PoolSpec("vms"), None, lambda: ceph.steps.append("begun"))


def test_a_group_is_made_and_joined_before_its_snapshot_is_begun(
    ceph: FakeCeph, images: GroupedImages
) -> None:
    images.join_group(GROUP, "nightly", MEMBERS)
    images.make_group_snapshot(GROUP, "nightly", MEMBERS)
    assert ceph.steps == [
        "made the group virtceph-1",
        "joined web-root",
        "joined web-data",
        "begun",
        "snapshot nightly",
    ]


def test_images_leave_the_group_before_they_are_noted(
    ceph: FakeCeph, images: GroupedImages
) -> None:
    ceph.made, ceph.members = True, {"web-root", "web-data"}
    images.annotate_group(GROUP, "nightly", MEMBERS, "crash", {"setID": "1"})
    assert ceph.steps[:2] == ["left web-root", "left web-data"]
    assert sorted(set(ceph.steps[2:])) == ["noted web-data", "noted web-root"]


def test_an_owner_that_does_not_answer_joins_no_group(
    ceph: FakeCeph, images: GroupedImages
) -> None:
    ceph.silent.add(OWNER)
    with pytest.raises(errors.LockOwnerStalled):
        images.join_group(GROUP, "nightly", MEMBERS)
    assert ceph.steps == []


def test_an_image_of_another_group_is_told_before_there_is_one(
    ceph: FakeCeph, images: GroupedImages
) -> None:
    ceph.group_of["web-data"] = "backup"
    with pytest.raises(errors.OperationNotSupported, match=r"web-data .* in the group backup"):
        images.join_group(GROUP, "nightly", MEMBERS)
    assert ceph.steps == []


def test_an_owner_that_does_not_answer_loses_no_lock(ceph: FakeCeph, images: GroupedImages) -> None:
    images.join_group(GROUP, "nightly", MEMBERS)
    ceph.silent.add(OWNER)
    with pytest.raises(errors.LockOwnerStalled):
        images.make_group_snapshot(GROUP, "nightly", MEMBERS)
    assert not ceph.made
    assert "begun" not in ceph.steps


def test_an_owner_that_does_not_answer_keeps_its_group(
    ceph: FakeCeph, images: GroupedImages
) -> None:
    ceph.made, ceph.silent, ceph.groups = True, {OWNER}, {GROUP}
    with pytest.raises(errors.LockOwnerStalled):
        images.remove_group(GROUP, "nightly", MEMBERS)
    assert ceph.groups == {GROUP}


def test_a_group_that_never_was_is_removed_whoever_does_not_answer(
    ceph: FakeCeph, images: GroupedImages
) -> None:
    ceph.silent.add(OWNER)
    images.remove_group(GROUP, "nightly", MEMBERS)
    assert ceph.steps == []


def test_what_was_noted_of_a_group_goes_after_it(ceph: FakeCeph, images: GroupedImages) -> None:
    ceph.made, ceph.groups = True, {GROUP}
    images.remove_group(GROUP, "nightly", MEMBERS)
    assert ceph.steps[0] == "removed it virtceph-1"
    assert set(ceph.steps[1:]) == {"forgot web-root", "forgot web-data"}


def test_a_name_that_is_taken_is_no_groups(ceph: FakeCeph, images: GroupedImages) -> None:
    ceph.made = True
    with pytest.raises(errors.SnapshotExists):
        images.join_group("virtceph-2", "nightly", MEMBERS)
    assert ceph.steps == []


def test_no_group_is_rolled_back_under_its_users(ceph: FakeCeph, images: GroupedImages) -> None:
    ceph.made = True
    with pytest.raises(errors.VolumeInUse):
        images.roll_back_group(GROUP, "nightly", MEMBERS)
    assert ceph.steps == []


def test_a_copy_gets_its_name_when_it_is_whole(ceph: FakeCeph, images: GroupedImages) -> None:
    ceph.made = True
    images.copy_snapshot("web-root", "nightly", 4, GROUP, ".virtceph-part", "new")
    assert ceph.steps == ["copied .virtceph-part", "begun", "renamed new"]


def test_a_copy_that_fails_leaves_no_part(ceph: FakeCeph, images: GroupedImages) -> None:
    ceph.made, ceph.images = True, ["new"]
    with pytest.raises(errors.VolumeExists):
        images.copy_snapshot("web-root", "nightly", 4, GROUP, ".virtceph-part", "new")
    assert ceph.steps == ["copied .virtceph-part", "begun", "removed .virtceph-part"]


@pytest.mark.parametrize(
    ("number", "name", "error"),
    [(5, "new", errors.NoSuchSnapshot), (4, "web-root", errors.VolumeExists)],
)
def test_nothing_is_copied_from_another_snapshot_or_over_another_image(
    ceph: FakeCeph, images: GroupedImages, number: int, name: str, error: type[Exception]
) -> None:
    ceph.made = True
    with pytest.raises(error):
        images.copy_snapshot("web-root", "nightly", number, GROUP, ".virtceph-part", name)
    assert ceph.steps == []
