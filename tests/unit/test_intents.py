"""Intents: what a crash left half made is known, and removed when its pool is connected again."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_domains import VM
from tests.fakes.fake_storage import FSID, FakeGroup, FakeStorageDomain
from tests.fakes.snapshot_host import until
from virtceph import errors
from virtceph.ceph.spec import PoolSpec
from virtceph.ceph.workers import NoReply
from virtceph.host.intents import Intent, Intents, Planned, new_intent
from virtceph.host.leftovers import Leftovers
from virtceph.host.names import SnapshotNames

IDENT = UUID(int=9)
ROOT = Planned(FSID, "vms", "", "web-root", "nightly")
DATA = Planned(FSID, "vms", "", "web-data", "nightly")
ELSEWHERE = Planned(FSID, "other", "", "web-log", "nightly")
VMS = PoolSpec("vms")


def intent(*snapshots: Planned, is_set: bool = True, age_s: float = 100.0) -> Intent:
    made = new_intent(IDENT, VM, snapshots, is_set=is_set)
    return dataclasses.replace(made, at_s=time.time() - age_s)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "snapshots"


@pytest.fixture
def domain() -> FakeStorageDomain:
    return FakeStorageDomain()


def clear(folder: Path, domain: Any, names: SnapshotNames | None = None) -> Intents:
    """What a daemon that starts now does when the pool is connected."""
    found = Intents(folder)
    Leftovers(found, names or SnapshotNames(), 1.0).remove(domain)
    return found


def there(domain: FakeStorageDomain, planned: Planned, created_at_s: float, **noted: Any) -> None:
    images = domain.images
    images.by_name[planned.image][planned.snapshot] = noted.get("consistency")
    images.created_at_s[planned.image, planned.snapshot] = created_at_s
    if "set_note" in noted:
        images.set_notes[planned.image, planned.snapshot] = noted["set_note"]


def test_an_intent_is_found_whole_by_the_next_daemon_only(folder: Path) -> None:
    ours, written = Intents(folder), intent(ROOT, DATA, ELSEWHERE)
    ours.put(written)
    assert ours.left_in(FSID, VMS) == []
    (found,) = Intents(folder).left_in(FSID, VMS)
    assert found == dataclasses.replace(written, snapshots=(ROOT, DATA))
    assert Intents(folder).left_in(UUID(int=1), VMS) == []
    ours.remove(written.id)
    assert Intents(folder).left_in(FSID, VMS) == []


def test_each_pool_is_settled_by_itself(folder: Path) -> None:
    Intents(folder).put(intent(ROOT, ELSEWHERE))
    found = Intents(folder)
    (here,) = found.left_in(FSID, VMS)
    found.settled(here)
    assert found.left_in(FSID, VMS) == []
    (rest,) = Intents(folder).left_in(FSID, PoolSpec("other"))
    found.settled(rest)
    assert list(folder.glob("*.json")) == []


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 1}', "null"])
def test_what_is_no_intent_hinders_no_start(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "odd.json").write_text(text)
    assert Intents(folder).left_in(FSID, VMS) == []


def test_half_a_set_is_removed(folder: Path, domain: FakeStorageDomain) -> None:
    left = intent(ROOT, DATA)
    Intents(folder).put(left)
    there(domain, ROOT, left.at_s + 1)
    clear(folder, domain)
    assert domain.images.by_name["web-root"] == {}
    assert list(folder.glob("*.json")) == []


def test_a_set_that_was_noted_on_one_image_only_is_removed_from_both(
    folder: Path, domain: FakeStorageDomain
) -> None:
    left = intent(ROOT, DATA)
    Intents(folder).put(left)
    there(domain, ROOT, left.at_s + 1, set_note={"setID": str(IDENT)})
    there(domain, DATA, left.at_s + 1)
    clear(folder, domain)
    assert domain.images.by_name == {"web-root": {}, "web-data": {}}


@pytest.mark.parametrize(
    ("is_set", "noted"),
    [(True, {"set_note": {"setID": str(IDENT)}}), (False, {"consistency": "filesystem"})],
)
def test_what_was_finished_stays(
    folder: Path, domain: FakeStorageDomain, is_set: bool, noted: dict[str, Any]
) -> None:
    left = intent(ROOT, DATA, is_set=is_set)
    Intents(folder).put(left)
    for planned in (ROOT, DATA):
        there(domain, planned, left.at_s + 1, **noted)
    clear(folder, domain)
    assert all("nightly" in snapshots for snapshots in domain.images.by_name.values())
    assert list(folder.glob("*.json")) == []


@pytest.mark.parametrize("apart_s", [-6.0, 181.0])
def test_a_snapshot_of_another_time_stays(
    folder: Path, domain: FakeStorageDomain, apart_s: float
) -> None:
    left = intent(ROOT)
    Intents(folder).put(left)
    there(domain, ROOT, left.at_s + apart_s)
    clear(folder, domain)
    assert "nightly" in domain.images.by_name["web-root"]


@pytest.mark.parametrize(("age_s", "watched"), [(10.0, [("web-root", "nightly")]), (100.0, [])])
def test_what_may_still_appear_is_watched_for(
    folder: Path, domain: FakeStorageDomain, age_s: float, watched: list[tuple[str, str]]
) -> None:
    Intents(folder).put(intent(ROOT, age_s=age_s))
    clear(folder, domain)
    assert domain.given_up == watched


def test_what_cannot_be_removed_in_time_is_watched_for(
    folder: Path, domain: FakeStorageDomain
) -> None:
    left = intent(ROOT)
    Intents(folder).put(left)
    there(domain, ROOT, left.at_s + 1)
    domain.worker.failing["remove_snapshot", "web-root"] = NoReply()
    clear(folder, domain)
    assert domain.given_up == [("web-root", "nightly")]


def test_a_cluster_that_does_not_answer_is_asked_at_the_next_connect(
    folder: Path, domain: FakeStorageDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    Intents(folder).put(intent(ROOT))

    def silent(_name: str) -> Any:
        raise errors.CephUnavailable("no answer")

    with monkeypatch.context() as patched:
        patched.setattr(domain.images, "snapshots", silent)
        found = clear(folder, domain)
    assert len(found.left_in(FSID, VMS)) == 1


def test_a_name_that_is_being_made_is_left_to_its_maker(
    folder: Path, domain: FakeStorageDomain
) -> None:
    left = intent(ROOT)
    Intents(folder).put(left)
    there(domain, ROOT, left.at_s + 1)
    names = SnapshotNames()
    with names.reserve([domain.snapshot_name("web-root", "nightly")]):
        clear(folder, domain, names)
    assert "nightly" in domain.images.by_name["web-root"]
    assert len(list(folder.glob("*.json"))) == 1


def test_a_snapshot_of_another_set_stays(folder: Path, domain: FakeStorageDomain) -> None:
    """One that was made under the same name when an earlier attempt had been given up."""
    left = intent(ROOT, DATA)
    Intents(folder).put(left)
    for planned in (ROOT, DATA):
        there(domain, planned, left.at_s + 110, set_note={"setID": str(UUID(int=3))})
    clear(folder, domain)
    assert all("nightly" in snapshots for snapshots in domain.images.by_name.values())
    assert list(folder.glob("*.json")) == []


def test_a_part_of_a_copy_is_removed(folder: Path, domain: FakeStorageDomain) -> None:
    Intents(folder).put(intent(Planned(FSID, "vms", "", ".virtceph-part", ""), is_set=False))
    domain.images.by_name[".virtceph-part"] = {}
    clear(folder, domain)
    assert ".virtceph-part" not in domain.images.by_name
    assert list(folder.glob("*.json")) == []


# --- groups ---

GROUP = f"virtceph-{IDENT}"


@pytest.fixture
def grouped(folder: Path, domain: FakeStorageDomain) -> Intent:
    """An intent whose group holds its snapshot, of which nothing is noted."""
    left = dataclasses.replace(intent(ROOT, DATA), group=GROUP)
    Intents(folder).put(left)
    images = ["web-root", "web-data"]
    domain.images.groups[GROUP] = FakeGroup(images, set(images), "nightly")
    return left


def test_a_group_is_settled_with_its_own_pool_and_whole(folder: Path) -> None:
    left = dataclasses.replace(intent(ROOT, ELSEWHERE), group=GROUP)
    Intents(folder).put(left)
    found = Intents(folder)
    assert found.left_in(FSID, PoolSpec("other")) == []
    assert found.left_in(FSID, VMS) == [left]
    found.settled(left)
    assert list(folder.glob("*.json")) == []


def test_half_a_group_is_removed(folder: Path, domain: FakeStorageDomain, grouped: Intent) -> None:
    domain.images.set_notes["web-root", GROUP] = {"setID": str(IDENT)}
    clear(folder, domain)
    assert domain.images.groups == {}
    assert list(folder.glob("*.json")) == []


def test_a_group_that_is_noted_on_every_image_stays(
    folder: Path, domain: FakeStorageDomain, grouped: Intent
) -> None:
    for image in ("web-root", "web-data"):
        domain.images.set_notes[image, GROUP] = {"setID": str(IDENT)}
    clear(folder, domain)
    assert GROUP in domain.images.groups
    assert list(folder.glob("*.json")) == []


def test_a_group_that_was_never_made_asks_nobody(
    folder: Path, domain: FakeStorageDomain, grouped: Intent
) -> None:
    domain.images.groups.clear()
    clear(folder, domain)
    assert domain.worker.calls == []
    assert list(folder.glob("*.json")) == []


def test_a_group_that_cannot_be_removed_yet_is_tried_again(
    folder: Path, domain: FakeStorageDomain, grouped: Intent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virtceph.host.names._LOOK_AGAIN_S", 0.01)
    domain.worker.failing["remove_group", "group"] = errors.LockOwnerStalled("web-root", 2.0)
    clear(folder, domain)
    assert GROUP in domain.images.groups
    domain.worker.failing.clear()
    until(lambda: domain.images.groups == {})
