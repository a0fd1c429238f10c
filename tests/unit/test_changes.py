"""What workers do to whole images: its users are asked first, and nothing is left by half."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import rbd

from tests.fakes import notified
from virtceph import errors
from virtceph.ceph import changes, eviction, halfmoved, trashing
from virtceph.ceph.classrbd import TrashSpec
from virtceph.ceph.partimages import PartImages
from virtceph.ceph.snapshots import OwnedImages
from virtceph.ceph.spec import PoolSpec

POOL, OWNER, OURS = PoolSpec("vms"), 4119, 4200
HEADS = "rbd_id."


class FakePool:
    """Images by name, as librbd and librados have them: `directory` and the `rbd_id` objects lead to their
    ids. `steps` is what was asked for."""

    def __init__(self) -> None:
        self.directory = {"web-root": "1a", "web-data": "2b"}
        self.objects = {f"{HEADS}{name}": ident for name, ident in self.directory.items()}
        self.steps: list[str] = []
        self.watchers: set[int] = set()
        self.silent: set[int] = set()
        self.lock: int | None = None
        self.owner_leaves = False
        self.owner_is_between = 0
        self.snapshots = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
        self.protected: set[str] = set()
        self.metadata: dict[str, str] = {}
        self.mirror = {"state": rbd.RBD_MIRROR_IMAGE_DISABLED, "primary": False}
        self.read_only = False
        self.half: TrashSpec | None = None

    def aio_notify(
        self, header: str, complete: Callable[..., None], _payload: str, _timeout_ms: int
    ) -> None:
        self.steps.append("users asked")
        if self.owner_leaves:
            self.lock, self.watchers = None, self.watchers - {self.lock}
        if self.owner_is_between:  # two requests; it has the lock again after
            self.owner_is_between -= 1
            notified.tell(complete, self.watchers - {self.lock}, self.silent)
        else:
            notified.tell(complete, self.watchers, self.silent)

    def remove_object(self, name: str) -> None:
        self.steps.append(f"removed {name}")
        del self.objects[name]


class FakeImage:
    """As rbd.Image."""

    def __init__(
        self,
        pool: FakePool,
        name: str | None = None,
        snapshot: str | None = None,
        *,
        read_only: bool = False,
        image_id: str | None = None,
    ) -> None:
        self._pool = pool
        self._id = image_id or pool.objects.get(f"{HEADS}{name}")
        if self._id is None:
            raise rbd.ImageNotFound("no such image", errno=2)

    def id(self) -> str:
        return self._id or ""

    def features(self) -> int:
        return 61

    def close(self) -> None:
        """Nothing to give back."""

    def list_lockers(self) -> dict[str, Any]:
        owner = self._pool.lock
        lockers = [] if owner is None else [(f"client.{owner}", "auto 1", f"10.0.1.9:0/{owner}")]
        return {"lockers": lockers}

    def watchers_list(self) -> list[dict[str, Any]]:
        return [{"id": client, "addr": f"10.0.1.9:0/{client}"} for client in self._pool.watchers]

    def list_snaps(self) -> list[dict[str, Any]]:
        return list(self._pool.snapshots)

    def is_protected_snap(self, name: str) -> bool:
        return name in self._pool.protected

    def remove_snap(self, name: str) -> None:
        if name in self._pool.protected:
            raise rbd.ImageBusy("protected", errno=16)
        self._pool.steps.append(f"removed snapshot {name}")
        self._pool.snapshots = [s for s in self._pool.snapshots if s["name"] != name]

    def metadata_list(self) -> list[tuple[str, str]]:
        return list(self._pool.metadata.items())

    def metadata_set(self, key: str, value: str) -> None:
        if self._pool.read_only:
            raise rbd.ReadOnlyImage("read only", errno=30)
        self._pool.steps.append(f"set {key}")
        self._pool.metadata[key] = value

    def metadata_remove(self, key: str) -> None:
        if key not in self._pool.metadata:
            raise KeyError(key)
        self._pool.steps.append(f"unset {key}")
        del self._pool.metadata[key]

    def mirror_image_get_info(self) -> dict[str, Any]:
        return self._pool.mirror

    def break_lock(self, client: str, cookie: str) -> None:
        self._pool.steps.append(f"broke {client} {cookie}")
        self._pool.lock = None


class FakeRBD:
    """As rbd.RBD."""

    def list(self, pool: FakePool) -> list[str]:
        return list(pool.directory)

    def rename(self, pool: FakePool, old: str, new: str) -> None:
        if f"{HEADS}{new}" in pool.objects:
            raise rbd.ImageExists("exists", errno=17)
        pool.steps.append(f"renamed {old} {new}")
        pool.objects[f"{HEADS}{new}"] = pool.objects.pop(f"{HEADS}{old}")
        pool.directory[new] = pool.directory.pop(old)

    def remove(self, pool: FakePool, name: str) -> None:
        pool.steps.append(f"removed {name}")
        pool.objects.pop(f"{HEADS}{name}")
        pool.directory.pop(name, None)

    def clone(
        self, pool: FakePool, name: str, snap: str, to: FakePool, new: str, **_how: Any
    ) -> None:
        pool.steps.append(f"cloned {name}@{snap} {new}")
        pool.directory[new] = pool.objects[f"{HEADS}{new}"] = "3c"

    def trash_move(self, pool: FakePool, name: str, delay_s: int) -> None:
        pool.steps.append(f"trashed {name} {delay_s}")

    def trash_remove(self, pool: FakePool, ident: str, force: bool) -> None:
        pool.steps.append(f"purged {ident}" + (" by force" if force else ""))

    def trash_restore(self, pool: FakePool, ident: str, name: str) -> None:
        pool.steps.append(f"restored {ident} {name}")


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> FakePool:
    monkeypatch.setattr(rbd, "Image", FakeImage)
    monkeypatch.setattr(rbd, "RBD", FakeRBD)
    monkeypatch.setattr(trashing, "clones", lambda *_all: [])
    made = FakePool()
    monkeypatch.setattr(halfmoved, "trash_entry", lambda *_all: made.half)
    monkeypatch.setattr(halfmoved, "end_moving", lambda *_all: made.steps.append("ended the move"))
    return made


@pytest.fixture
def images(pool: FakePool) -> OwnedImages:
    cluster: Any = SimpleNamespace(
        spec=SimpleNamespace(user="virtceph"),
        client_id=OURS,
        ioctx=lambda _pool: pool,
        using=contextlib.nullcontext,
    )
    return OwnedImages(cluster, POOL)


Request = Callable[[OwnedImages], Any]
# What each changes, once it is allowed to.
REQUESTS: dict[str, Request] = {
    "rename": lambda images: changes.rename(images, "web-root", "new"),
    "remove snapshots": lambda images: changes.remove_snapshots(images, "web-root", [1, 2]),
    "remove": lambda images: images.remove("web-root"),
    "trash": lambda images: trashing.move_to_trash(images, "web-root", 0),
    "purge": lambda images: trashing.purge(images, "1a", "web-root", True),
}


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_an_image_that_somebody_has_open_is_left_alone(
    pool: FakePool, images: OwnedImages, request_: Request
) -> None:
    pool.watchers, pool.lock = {OWNER}, OWNER
    with pytest.raises(errors.VolumeInUse, match=str(OWNER)):
        request_(images)
    assert pool.steps == []


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
def test_the_lock_of_one_that_may_only_be_stalled_is_never_broken(
    pool: FakePool, images: OwnedImages, request_: Request
) -> None:
    """librbd breaks it, to remove an image as well as to move it to the trash."""
    pool.lock = OWNER
    with pytest.raises(errors.LockOwnerStalled):
        request_(images)
    assert set(pool.steps) == {"users asked"}
    images.dead = {OWNER}
    request_(images)
    assert len(pool.steps) > 2


def test_limits_are_not_written_where_the_owner_does_not_answer(
    pool: FakePool, images: OwnedImages
) -> None:
    pool.watchers, pool.lock, pool.silent = {OWNER, OURS}, OWNER, {OWNER}
    with pytest.raises(errors.LockOwnerStalled):
        changes.limit(images, "web-root", {"iops": 5})
    assert pool.steps == ["users asked"]
    pool.silent = set()
    changes.limit(images, "web-root", {"iops": 5})
    assert pool.steps[-1] == "set conf_rbd_qos_iops_limit"


def test_only_the_limits_that_differ_are_written(pool: FakePool, images: OwnedImages) -> None:
    pool.metadata = {
        "conf_rbd_qos_iops_limit": "5",
        "conf_rbd_qos_bps_limit": "7",
        "conf_rbd_qos_write_bps_burst_seconds": "3",
        "conf_rbd_cache": "false",
    }
    changes.limit(images, "web-root", {"iops": 5, "bandwidth_bytes_per_s": 8, "read_iops": 0})
    assert sorted(pool.steps[1:]) == [
        "set conf_rbd_qos_bps_limit",
        "set conf_rbd_qos_read_iops_limit",
        "unset conf_rbd_qos_write_bps_burst_seconds",
    ]
    assert pool.metadata["conf_rbd_cache"] == "false"


@pytest.mark.parametrize(
    "request_", [REQUESTS["rename"], lambda images: changes.limit(images, "web-root", {"iops": 5})]
)
def test_a_mirrors_secondary_is_told_as_such(
    pool: FakePool, images: OwnedImages, request_: Request
) -> None:
    pool.read_only, pool.mirror = True, {"state": rbd.RBD_MIRROR_IMAGE_ENABLED, "primary": False}
    with pytest.raises(errors.VolumeNotPrimary):
        request_(images)
    assert pool.steps == ["users asked"]


def test_what_is_read_only_for_another_reason_is_not_called_a_secondary(
    pool: FakePool, images: OwnedImages
) -> None:
    pool.read_only = True
    with pytest.raises(errors.CephUnavailable):
        changes.limit(images, "web-root", {"iops": 5})


# --- rename ---


def test_a_renamed_image_carries_a_note_of_it(pool: FakePool, images: OwnedImages) -> None:
    changes.rename(images, "web-root", "new")
    assert pool.directory == {"new": "1a", "web-data": "2b"}
    note = json.loads(pool.metadata[changes.RENAMED_KEY])
    assert note == {"imageID": "1a", "from": "web-root", "to": "new"}
    assert changes.is_renamed_from(pool.metadata, "1a", "new", "web-root")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("web-root", "web-data", errors.VolumeExists),
        ("nosuch", "web-data", errors.NoSuchVolume),
        ("nosuch", "new", errors.NoSuchVolume),
    ],
)
def test_a_name_that_is_taken_or_missing_is_told_and_nothing_is_noted(
    pool: FakePool, images: OwnedImages, old: str, new: str, error: type[errors.VirtcephError]
) -> None:
    with pytest.raises(error):
        changes.rename(images, old, new)
    assert (pool.steps, pool.metadata) == ([], {})


@pytest.mark.parametrize("entered", [False, True])
def test_a_renaming_that_was_killed_half_way_is_ended_by_the_next(
    pool: FakePool, images: OwnedImages, entered: bool
) -> None:
    pool.objects[f"{HEADS}new"] = "1a"
    if entered:
        pool.directory = {"new": "1a", "web-data": "2b"}
    changes.rename(images, "web-root", "new")
    assert pool.directory == {"new": "1a", "web-data": "2b"}
    assert set(pool.objects) == {f"{HEADS}new", f"{HEADS}web-data"}


@pytest.mark.parametrize("entered", [False, True])
def test_a_part_that_had_its_name_by_half_has_it_whole(
    pool: FakePool, images: OwnedImages, entered: bool
) -> None:
    pool.objects[f"{HEADS}new"] = "1a"
    if entered:
        pool.directory = {"new": "1a", "web-data": "2b"}
    PartImages(images.cluster, images.pool).finish_part("web-root", "new")
    assert pool.directory == {"new": "1a", "web-data": "2b"}
    assert set(pool.objects) == {f"{HEADS}new", f"{HEADS}web-data"}


@pytest.mark.parametrize("entered", [False, True])
def test_a_part_that_has_its_name_is_no_part_to_be_discarded(
    pool: FakePool, images: OwnedImages, entered: bool
) -> None:
    part = ".virtceph-1"
    pool.objects = {f"{HEADS}{part}": "3c", f"{HEADS}new": "3c"}
    pool.directory = {"new" if entered else part: "3c"}
    PartImages(images.cluster, images.pool).discard_part(part, "new")
    # Either it has its name alone, or nothing of it is left in the way of the name.
    assert set(pool.objects) == ({f"{HEADS}new"} if entered else set())
    assert pool.directory == ({"new": "3c"} if entered else {})
    assert [snap["name"] for snap in pool.snapshots] == (["a", "b"] if entered else [])


def test_a_part_never_takes_the_name_of_another_image(pool: FakePool, images: OwnedImages) -> None:
    before = dict(pool.directory), dict(pool.objects)
    with pytest.raises(errors.VolumeExists):
        PartImages(images.cluster, images.pool).finish_part("web-root", "web-data")
    assert (pool.directory, pool.objects) == before


# --- clones, snapshots, trash ---


def test_a_clone_has_its_name_only_when_it_is_whole(pool: FakePool, images: OwnedImages) -> None:
    where = ("vms", "")
    changes.clone_whole(images, "web-root", "a", 1, ".virtceph-1", "new", where)
    assert pool.steps == ["cloned web-root@a .virtceph-1", "renamed .virtceph-1 new"]


def test_a_clone_that_loses_its_name_to_another_is_removed(
    pool: FakePool, images: OwnedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(*_all: Any) -> None:
        raise rbd.ImageExists("exists", errno=17)

    monkeypatch.setattr(FakeRBD, "rename", rename)
    with pytest.raises(errors.VolumeExists):
        changes.clone_whole(images, "web-root", "a", 1, ".virtceph-1", "new", ("vms", ""))
    assert pool.steps[-1] == "removed .virtceph-1"


@pytest.mark.parametrize("new_name", ["web-data", "web-root"])
def test_no_clone_and_no_restore_is_begun_under_a_name_that_is_taken(
    pool: FakePool, images: OwnedImages, new_name: str
) -> None:
    with pytest.raises(errors.VolumeExists):
        changes.clone_whole(images, "web-root", "a", 1, ".virtceph-1", new_name, ("vms", ""))
    with pytest.raises(errors.VolumeExists):
        trashing.take_from_trash(images, "9", new_name)
    assert pool.steps == []


def test_snapshots_are_removed_by_their_numbers(pool: FakePool, images: OwnedImages) -> None:
    changes.remove_snapshots(images, "web-root", [2, 7])
    assert pool.steps == ["users asked", "removed snapshot b"]


def test_a_snapshot_that_was_protected_meanwhile_is_told(
    pool: FakePool, images: OwnedImages
) -> None:
    pool.protected = {"b"}
    with pytest.raises(errors.SnapshotProtected):
        changes.remove_snapshots(images, "web-root", [2])


def test_what_is_wholly_in_the_trash_is_not_moved_again(
    pool: FakePool, images: OwnedImages
) -> None:
    pool.half = TrashSpec("1a", "web-root", 0, 1.0, 1.0, moving=False)
    halfmoved.end_half_moving(images, "1a", though_named=True)
    assert pool.steps == []


def test_a_move_to_the_trash_is_ended_before_it_is_purged_or_restored(
    pool: FakePool, images: OwnedImages
) -> None:
    pool.half = TrashSpec("9", "gone", 0, 1.0, 1.0, moving=True)
    trashing.take_from_trash(images, "9", "new")
    assert pool.steps == ["ended the move", "restored 9 new"]
    pool.steps.clear()
    PartImages(images.cluster, images.pool).restore_moved("new", "9")
    assert pool.steps == ["ended the move", "restored 9 new"]


def test_what_still_has_its_name_is_not_purged(pool: FakePool, images: OwnedImages) -> None:
    pool.half, pool.snapshots = TrashSpec("1a", "web-root", 3, 1.0, 1.0, moving=True), []
    with pytest.raises(errors.VolumeNotDeletable, match="still has its name"):
        trashing.purge(images, "1a", "web-root", False, removing=True)
    assert not [step for step in pool.steps if "users" not in step]
    trashing.take_from_trash(images, "1a", "web-root")
    assert pool.steps[-3:] == [
        f"removed {HEADS}web-root",
        "ended the move",
        "restored 1a web-root",
    ]


def test_an_image_in_the_trash_is_purged_with_its_own_snapshots_or_not_at_all(
    pool: FakePool, images: OwnedImages
) -> None:
    with pytest.raises(errors.VolumeNotDeletable, match="a, b"):
        trashing.purge(images, "1a", "web-root", False)
    pool.protected = {"b"}
    with pytest.raises(errors.VolumeNotDeletable, match="it has snapshots: b"):
        trashing.purge(images, "1a", "web-root", True)
    assert pool.steps == ["users asked"] * 2
    pool.protected = set()
    trashing.purge(images, "1a", "web-root", True)
    assert sorted(pool.steps[3:]) == ["purged 1a", "removed snapshot a", "removed snapshot b"]


def test_the_lock_of_a_removal_that_was_cut_short_is_in_nobodys_way(
    pool: FakePool, images: OwnedImages
) -> None:
    pool.lock, pool.snapshots = OWNER, []
    pool.watchers = {OWNER}
    with pytest.raises(errors.VolumeInUse):
        trashing.purge(images, "1a", "web-root", False, removing=True)
    pool.watchers = set()
    trashing.purge(images, "1a", "web-root", False, removing=True)
    assert pool.steps == ["purged 1a by force"]


def test_an_image_with_clones_loses_nothing(
    pool: FakePool, images: OwnedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trashing, "clones", lambda *_all: ["vms/kid"])
    with pytest.raises(errors.VolumeNotDeletable, match="it has clones: vms/kid"):
        trashing.purge(images, "1a", "web-root", True)
    assert pool.steps == ["users asked"]


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (rbd.OSError("too many links", errno=31), errors.VolumeNotDeletable),
        (rbd.ImageBusy("busy", errno=16), errors.VolumeInUse),
        (rbd.ImageHasSnapshots("snapshots", errno=39), errors.VolumeHasSnapshots),
        (rbd.DiskQuotaExceeded("quota", errno=122), errors.PoolFull),
        (rbd.Timeout("late", errno=110), errors.CephUnavailable),
    ],
)
def test_what_librbd_says_of_a_removal_is_told_as_what_it_is(
    images: OwnedImages,
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
    error: type[errors.VirtcephError],
) -> None:
    def remove(*_all: Any) -> None:
        raise failure

    monkeypatch.setattr(FakeRBD, "remove", remove)
    monkeypatch.setattr(images, "info", lambda _name: SimpleNamespace(snapshots=[]))
    with pytest.raises(error):
        images.remove("web-root")


@pytest.mark.parametrize(
    ("there", "error"), [(True, errors.PoolFull), (False, errors.NoSuchVolume)]
)
def test_an_image_that_librbd_does_not_find_any_more_is_looked_for(
    images: OwnedImages,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,
    error: type[errors.VirtcephError],
) -> None:
    """It says so too when there is no room for the pool's trash."""

    def gone(_rbd: FakeRBD, pool: FakePool, name: str, *_all: Any) -> None:
        if not there:
            del pool.objects[f"{HEADS}{name}"]
        raise rbd.ImageNotFound("not found", errno=2)

    monkeypatch.setattr(FakeRBD, "remove", gone)
    monkeypatch.setattr(FakeRBD, "trash_move", gone)
    with pytest.raises(error):
        images.remove("web-root")
    with pytest.raises(error):
        trashing.move_to_trash(images, "web-data", 0)


# --- eviction ---


@pytest.fixture
def blocklist(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses on the blocklist."""
    found = [f"10.0.1.9:0/{OWNER}"]
    until = lambda _cluster, address: 9.0 if address in found else None  # noqa: E731
    monkeypatch.setattr(eviction, "blocklisted_until_s", until)
    return found


def test_a_silent_owner_is_evicted_and_both_is_seen(
    pool: FakePool, images: OwnedImages, blocklist: list[str]
) -> None:
    pool.lock, pool.watchers, pool.silent = OWNER, {OWNER}, {OWNER}
    address = f"10.0.1.9:0/{OWNER}"
    assert eviction.require_silent(images, "web-root", OWNER) == address
    done = eviction.evict(images, "web-root", OWNER)
    assert done == {"client": OWNER, "address": address, "until_s": 9.0}
    assert pool.steps[-1] == f"broke client.{OWNER} auto 1"


@pytest.mark.parametrize("act", [eviction.require_silent, eviction.evict])
def test_an_owner_that_answers_is_not_evicted(
    pool: FakePool, images: OwnedImages, blocklist: list[str], act: Any
) -> None:
    pool.lock, pool.watchers = OWNER, {OWNER}
    with pytest.raises(errors.VolumeInUse):
        act(images, "web-root", OWNER)
    assert pool.lock == OWNER


@pytest.mark.parametrize(("owner", "told"), [(None, "no lock"), (4300, "client 4300 holds it")])
def test_only_the_owner_of_the_lock_is_evicted(
    pool: FakePool, images: OwnedImages, blocklist: list[str], owner: int | None, told: str
) -> None:
    pool.lock = owner
    with pytest.raises(errors.InvalidParameter, match=told) as caught:
        eviction.evict(images, "web-root", OWNER)
    assert caught.value.field == "client"
    assert pool.lock == owner


def test_an_owner_is_not_evicted_where_another_may_be_the_one_that_does_not_answer(
    pool: FakePool, images: PartImages, blocklist: list[str]
) -> None:
    pool.lock, pool.watchers, pool.silent = OWNER, {OWNER, OWNER + 1}, {OWNER + 1}
    with pytest.raises(errors.CephUnavailable, match="not all of them answer"):
        eviction.evict(images, "web-root", OWNER)
    assert pool.steps == ["users asked"]


def test_an_owner_that_leaves_in_order_while_it_is_asked_is_not_evicted(
    pool: FakePool, images: OwnedImages, blocklist: list[str]
) -> None:
    pool.lock, pool.watchers, pool.owner_leaves = OWNER, {OWNER}, True
    with pytest.raises(errors.InvalidParameter, match="no lock"):
        eviction.evict(images, "web-root", OWNER)
    assert pool.steps == ["users asked"]


@pytest.mark.parametrize("act", [eviction.require_silent, eviction.evict])
def test_an_owner_that_left_in_order_and_came_back_is_not_evicted(
    pool: FakePool, images: PartImages, act: Callable[..., Any]
) -> None:
    pool.lock, pool.watchers, pool.owner_is_between = OWNER, {OWNER}, 1
    with pytest.raises(errors.VolumeInUse):
        act(images, "web-root", OWNER)
    assert not any(step.startswith("broke") for step in pool.steps)


def test_an_eviction_that_did_not_blocklist_is_no_success(
    pool: FakePool, images: OwnedImages, blocklist: list[str]
) -> None:
    pool.lock = OWNER
    blocklist.clear()
    with pytest.raises(errors.CephFailed, match="not on the blocklist"):
        eviction.evict(images, "web-root", OWNER)


def test_a_lock_that_is_still_there_is_no_success(
    pool: FakePool, images: OwnedImages, blocklist: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.lock = OWNER
    monkeypatch.setattr(FakeImage, "break_lock", lambda *_all: None)
    with pytest.raises(errors.CephFailed, match="still holds it"):
        eviction.evict(images, "web-root", OWNER)
