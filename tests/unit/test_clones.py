"""Volume.clone: found when asked again, and nothing half made."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_storage import STORAGE_DOMAIN
from tests.fakes.fake_volumes import (
    OTHER_DOMAIN,
    FullDomain,
    FullDomains,
    clone,
    image,
    no_reply,
    snapshot,
)
from virtceph import errors
from virtceph.host.clones import Clones
from virtceph.host.intents import Intents


@pytest.fixture
def storage() -> FullDomains:
    made = FullDomains()
    made.one.change("web-root", snapshots=[snapshot(3, "other"), snapshot(7, "monday")])
    return made


@pytest.fixture
def domain(storage: FullDomains) -> FullDomain:
    return storage.one


@pytest.fixture
def intents(tmp_path: Path) -> Intents:
    return Intents(tmp_path)


@pytest.fixture
def clones(storage: FullDomains, intents: Intents) -> Clones:
    return Clones(storage, intents)  # type: ignore[arg-type]


def make(clones: Clones, new_name: str = "new", to: UUID | None = None, **other: Any) -> None:
    asked = {"name": "web-root", "snapshot": "monday", **other}
    clones.clone(STORAGE_DOMAIN, asked["name"], asked["snapshot"], new_name, to)


def left(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


def test_a_clone_is_made_under_a_name_of_its_own_first(
    clones: Clones, domain: FullDomain, tmp_path: Path
) -> None:
    domain.workers.answers["clone_whole"] = lambda: seen.append(len(left(tmp_path)))
    seen: list[int] = []
    make(clones, to=OTHER_DOMAIN)
    (call,) = domain.workers.calls
    assert call.arguments["part"].startswith(".virtceph-")
    assert (call.arguments["snap_id"], call.arguments["place"]) == (7, ["fast", ""])
    # On record while it is made, so that the next daemon removes what a killed one left.
    assert (seen, left(tmp_path)) == ([1], [])


@pytest.mark.parametrize("failure", [no_reply, errors.CephUnavailable("no answer in time")])
def test_what_is_left_of_a_clone_that_failed_is_removed_where_it_was_to_be(
    clones: Clones, storage: FullDomains, tmp_path: Path, failure: Any
) -> None:
    storage.one.workers.answers["clone_whole"] = failure
    with pytest.raises(errors.CephUnavailable):
        make(clones, to=OTHER_DOMAIN)
    (removal,) = storage.other.workers.calls
    assert removal.operation == "remove"
    assert removal.arguments["name"] == storage.one.workers.calls[0].arguments["part"]
    assert left(tmp_path) == []


def test_a_clone_that_was_made_is_found_when_asked_again(
    clones: Clones, domain: FullDomain
) -> None:
    domain.images.by_name["new"] = image("new")
    domain.images.clones_of["web-root"] = [clone(7, "new")]
    make(clones)
    assert domain.workers.calls == []


@pytest.mark.parametrize(
    "known",
    [
        [],
        [clone(3, "new")],  # of another snapshot
        [clone(7, "other")],
        [clone(7, "new", "fast")],  # in another pool
        [clone(7, "new", in_trash=True)],
    ],
)
def test_no_other_image_is_taken_for_the_clone(
    clones: Clones, domain: FullDomain, known: list[Any]
) -> None:
    domain.images.by_name["new"] = image("new")
    domain.images.clones_of["web-root"] = known
    with pytest.raises(errors.VolumeExists):
        make(clones)
    assert domain.workers.calls == []


def test_another_cluster_is_refused(clones: Clones, storage: FullDomains) -> None:
    storage.other.cluster.fsid = UUID(int=5)
    with pytest.raises(errors.OperationNotSupported, match="another cluster"):
        make(clones, to=OTHER_DOMAIN)


def test_what_cannot_be_recorded_is_not_begun(
    storage: FullDomains, tmp_path: Path, domain: FullDomain
) -> None:
    tmp_path.joinpath("file").touch()
    clones = Clones(storage, Intents(tmp_path / "file"))  # type: ignore[arg-type]
    with pytest.raises(errors.OperationNotSupported, match="cannot be recorded"):
        make(clones)
    assert domain.workers.calls == []


@pytest.mark.parametrize(
    ("other", "error"),
    [
        ({"name": "nosuch"}, errors.NoSuchVolume),
        ({"snapshot": "nosuch"}, errors.NoSuchSnapshot),
        ({"to": UUID(int=9)}, errors.NoSuchStorageDomain),
    ],
)
def test_what_is_not_there_is_told(
    clones: Clones, other: dict[str, Any], error: type[errors.VirtcephError]
) -> None:
    with pytest.raises(error):
        make(clones, **other)
