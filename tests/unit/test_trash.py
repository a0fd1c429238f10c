"""Volume.trash, Volume.restore, Volume.purge: nothing is taken from anybody, nothing before its time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.fakes.fake_domains import FakeDomains
from tests.fakes.fake_storage import STORAGE_DOMAIN
from tests.fakes.fake_volumes import (
    LAYERS,
    FullDomain,
    FullDomains,
    clone,
    entry,
    image,
    no_reply,
    snapshot,
    watched,
)
from virtceph import errors
from virtceph.ceph.imageinfo import Lock
from virtceph.host.deletion import Deletions
from virtceph.host.trash import Trash
from virtceph.host.users import ImageUsers


@pytest.fixture
def trash(storage: FullDomains, domains: FakeDomains) -> Trash:
    deletions = Deletions(storage, ImageUsers(domains))  # type: ignore[arg-type]
    return Trash(storage, deletions, 12.0)  # type: ignore[arg-type]


def put(trash: Trash, delay_s: int = 0) -> None:
    trash.put(STORAGE_DOMAIN, "web-root", delay_s)


# --- trash ---


def test_an_image_with_snapshots_and_clones_may_go_to_the_trash(
    trash: Trash, domain: FullDomain
) -> None:
    states = [snapshot(1, "a", protected=True), snapshot(2, "b"), snapshot(3, "c", "deleted")]
    domain.change("web-root", snapshots=states)
    domain.images.clones_of["web-root"] = [clone(2, "kid")]
    put(trash, 60)
    (call,) = domain.workers.calls
    assert call.arguments == {"name": "web-root", "delay_s": 60}


@pytest.mark.parametrize(
    ("what", "error"),
    [
        (watched(), errors.VolumeInUse),
        ({"lock": Lock("10.0.1.9:0/1", 4119, "auto 1")}, errors.VolumeNotDeletable),
        ({"mirroring": "primary"}, errors.VolumeNotDeletable),
        ({"group": "g", "group_pool": "vms"}, errors.VolumeNotDeletable),
        ({"features": [*LAYERS, "migrating"]}, errors.VolumeNotDeletable),
    ],
)
def test_what_ceph_would_break_without_a_word_is_refused(
    trash: Trash, domain: FullDomain, what: dict[str, Any], error: type[errors.StateError]
) -> None:
    domain.change("web-root", **what)
    with pytest.raises(error) as caught:
        put(trash)
    assert domain.workers.calls == []
    assert len(caught.value.steps) == 1  # type: ignore[attr-defined]


def test_an_image_put_away_already_is_found(trash: Trash, domain: FullDomain) -> None:
    domain.images.by_name.clear()
    now_s = time.time()
    domain.images.in_trash = [entry("web-root", deleted_at_s=now_s, kept_until_s=now_s + 60)]
    put(trash, 60)
    with pytest.raises(errors.NoSuchVolume):
        put(trash, 3600)


@pytest.mark.parametrize("there", [[], [entry("other")], [entry("web-root", source="migration")]])
def test_no_other_entry_is_taken_for_it(trash: Trash, domain: FullDomain, there: Any) -> None:
    domain.images.by_name.clear()
    domain.images.in_trash = there
    with pytest.raises(errors.NoSuchVolume):
        put(trash)


@pytest.mark.parametrize("failure", [no_reply, errors.LockOwnerStalled("web-root", 2.0)])
def test_a_move_without_an_answer_is_no_success(
    trash: Trash, domain: FullDomain, failure: Any
) -> None:
    domain.workers.answers["move_to_trash"] = failure
    with pytest.raises(errors.CephUnavailable):
        put(trash)


# --- restore ---


def take(trash: Trash, **asked: Any) -> None:
    what = {"entry_id": None, "name": None, "new_name": None, **asked}
    trash.take(STORAGE_DOMAIN, what["entry_id"], what["name"], what["new_name"])


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"entry_id": "idold"}, "old"),
        ({"name": "old"}, "old"),
        ({"name": "old", "new_name": "new"}, "new"),
    ],
)
def test_an_entry_is_restored_by_its_id_or_its_name(
    trash: Trash, domain: FullDomain, asked: dict[str, str], name: str
) -> None:
    domain.images.in_trash = [entry("old"), entry("other")]
    take(trash, **asked)
    (call,) = domain.workers.calls
    assert call.arguments == {"entry_id": "idold", "new_name": name}


@pytest.mark.parametrize("asked", [{}, {"entry_id": "1", "name": "old"}])
def test_an_id_or_a_name_is_needed_and_not_both(trash: Trash, asked: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidParameter) as caught:
        take(trash, **asked)
    assert caught.value.field == "id"


def test_a_name_that_two_entries_had_is_no_choice(trash: Trash, domain: FullDomain) -> None:
    domain.images.in_trash = [entry("old", id="1"), entry("old", id="2")]
    with pytest.raises(errors.InvalidParameter, match="1, 2"):
        take(trash, name="old")
    take(trash, entry_id="2")


@pytest.mark.parametrize("source", ["migration", "mirroring", "removing", "other"])
def test_what_no_user_put_there_is_not_restored(
    trash: Trash, domain: FullDomain, source: str
) -> None:
    domain.images.in_trash = [entry("old", source=source)]
    with pytest.raises(errors.OperationNotSupported):
        take(trash, name="old")
    assert domain.workers.calls == []


@pytest.mark.parametrize("new_name", [None, "back"])
def test_a_restored_image_is_found_by_its_id_when_asked_again(
    trash: Trash, domain: FullDomain, new_name: str | None
) -> None:
    domain.images.by_name["back"] = image("back", id="1a")
    take(trash, entry_id="1a", new_name=new_name)


@pytest.mark.parametrize(
    "asked", [{"entry_id": "1a", "new_name": "other"}, {"entry_id": "2b"}, {"name": "back"}]
)
def test_what_cannot_be_told_to_be_restored_is_not_in_the_trash(
    trash: Trash, domain: FullDomain, asked: dict[str, str]
) -> None:
    domain.images.by_name["back"] = image("back", id="1a")
    with pytest.raises(errors.NotInTrash):
        take(trash, **asked)


# --- purge ---


def purge(trash: Trash, entry_id: str | None = None, *, force: bool = False) -> Any:
    return trash.purge(STORAGE_DOMAIN, entry_id, force)


def test_nothing_is_purged_before_its_time(trash: Trash, domain: FullDomain) -> None:
    domain.images.in_trash = [entry("old", kept_until_s=4102444800.0)]
    with pytest.raises(errors.TrashDeferred) as caught:
        purge(trash, "idold", force=True)
    assert caught.value.until == "2100-01-01T00:00:00Z"
    assert domain.workers.calls == []


@pytest.mark.parametrize("source", ["migration", "mirroring", "other"])
def test_what_migrations_and_mirrors_put_there_is_never_purged(
    trash: Trash, domain: FullDomain, source: str
) -> None:
    domain.images.in_trash = [entry("old", source=source)]
    with pytest.raises(errors.VolumeNotDeletable):
        purge(trash, "idold", force=True)
    assert [kept.id for kept in purge(trash).kept] == ["idold"]
    assert domain.workers.calls == []


def test_all_that_is_due_is_purged_and_the_rest_is_told(trash: Trash, domain: FullDomain) -> None:
    domain.images.in_trash = [
        entry("a"),
        entry("b", kept_until_s=4102444800.0),
        entry("c", source="removing"),
        entry("d", source="migration"),
    ]
    result = purge(trash)
    assert result.purged == ["ida", "idc"]
    assert [(kept.id, kept.volume_name) for kept in result.kept] == [("idb", "b"), ("idd", "d")]
    assert "2100" in result.kept[0].reason


@pytest.mark.parametrize(
    "failure",
    [
        errors.VolumeInUse("a", ["10.0.1.9:0/1"]),
        errors.LockOwnerStalled("a", 2.0),
        errors.VolumeNotDeletable("a", "it has clones: vms/kid"),
        errors.NotInTrash("ida"),
    ],
)
def test_what_stands_in_the_way_of_one_entry_does_not_keep_the_others(
    trash: Trash, domain: FullDomain, failure: errors.VirtcephError
) -> None:
    domain.images.in_trash = [entry("a"), entry("b")]
    outcomes = [failure, None]
    domain.workers.answers["purge"] = lambda: outcomes.pop(0)
    result = purge(trash)
    assert (result.purged, [kept.reason for kept in result.kept]) == (["idb"], [failure.message])


def test_force_needs_an_id(trash: Trash, domain: FullDomain) -> None:
    domain.images.in_trash = [entry("a")]
    with pytest.raises(errors.InvalidParameter) as caught:
        purge(trash, force=True)
    assert (caught.value.field, domain.workers.calls) == ("force", [])
    purge(trash, "ida", force=True)
    assert domain.workers.calls[0].arguments["with_snapshots"] is True


def test_a_purge_without_an_answer_is_to_be_repeated(trash: Trash, domain: FullDomain) -> None:
    domain.images.in_trash = [entry("a")]
    domain.workers.answers["purge"] = no_reply
    with pytest.raises(errors.CephUnavailable, match="repeat it"):
        purge(trash, "ida")


def test_what_is_not_there_is_told(trash: Trash) -> None:
    with pytest.raises(errors.NotInTrash):
        purge(trash, "1a")
