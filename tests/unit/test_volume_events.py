"""What is told of volumes and disks by events: each change once, and nothing that was found done already."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.fake_domains import VM
from tests.fakes.fake_events import Heard
from tests.fakes.fake_storage import STORAGE_DOMAIN
from tests.fakes.fake_volumes import (
    LAYERS,
    OTHER_DOMAIN,
    FullDomains,
    clone,
    entry,
    image,
    snapshot,
)
from tests.unit.test_plugging import Site
from virtceph import errors, request
from virtceph.ceph.qos import Qos
from virtceph.events import (
    ClientEvicted,
    DiskExtended,
    DiskPlugged,
    DiskUnplugged,
    VolumeChanged,
)
from virtceph.host.clones import Clones
from virtceph.host.deletion import Deletions
from virtceph.host.eviction import Evictions
from virtceph.host.intents import Intents
from virtceph.host.names import SnapshotNames
from virtceph.host.trash import Trash
from virtceph.host.volumes import NewVolume, Volumes
from virtceph.host.volumesnapshots import VolumeSnapshots
from virtceph.units import GiB, MiB


class NoUsers:
    """As `host.users.ImageUsers`, on a host without VMs."""

    def vms_of(self, _domain: object, _name: str, **_how: object) -> list[Any]:
        return []


@pytest.fixture
def domains() -> FullDomains:
    request.enter(request.Request("1", "alice", float("inf")))
    return FullDomains()


@pytest.fixture
def storage(domains: FullDomains) -> Any:
    return domains


@pytest.fixture
def deletions(storage: Any) -> Deletions:
    return Deletions(storage, NoUsers())  # type: ignore[arg-type]


def told(domains: FullDomains) -> list[VolumeChanged]:
    return domains.one.told + domains.other.told


def test_a_volume_that_is_made_is_told_and_one_that_is_found_made_is_not(
    domains: FullDomains, storage: Any
) -> None:
    volumes = Volumes(storage, 12.0)
    wanted = NewVolume("new", GiB, 4 * MiB, LAYERS, None, Qos())
    volumes.create(STORAGE_DOMAIN, wanted)
    domains.one.images.by_name["new"] = image("new")
    volumes.create(STORAGE_DOMAIN, wanted)
    assert told(domains) == [VolumeChanged(STORAGE_DOMAIN, "new", "created", size_bytes=GiB)]


def test_a_volume_that_is_renamed_or_limited_is_told(domains: FullDomains, storage: Any) -> None:
    volumes = Volumes(storage, 12.0)
    volumes.rename(STORAGE_DOMAIN, "web-root", "www")
    volumes.set_qos(STORAGE_DOMAIN, "web-root", Qos(iops=100))
    assert told(domains) == [
        VolumeChanged(STORAGE_DOMAIN, "www", "renamed", from_volume="web-root"),
        VolumeChanged(STORAGE_DOMAIN, "web-root", "limited"),
    ]


def test_snapshots_of_a_volume_are_told(domains: FullDomains, storage: Any) -> None:
    snapshots = VolumeSnapshots(storage, 12.0, SnapshotNames())
    snapshots.create(STORAGE_DOMAIN, "web-root", "s")
    domains.one.change("web-root", snapshots=[snapshot(7, "s")])
    snapshots.roll_back(STORAGE_DOMAIN, "web-root", "s")
    snapshots.delete(STORAGE_DOMAIN, "web-root", "s")
    done = [(event.action, event.snapshot_name) for event in told(domains)]
    assert done == [("snapshot-made", "s"), ("rolled-back", "s"), ("snapshot-deleted", "s")]


def test_a_clone_is_told_of_the_domain_that_it_lies_in(
    domains: FullDomains, storage: Any, tmp_path: Any
) -> None:
    domains.one.change("web-root", snapshots=[snapshot(7, "s")])
    clones = Clones(storage, Intents(tmp_path))
    asked = (STORAGE_DOMAIN, "web-root", "s", "copy", OTHER_DOMAIN)
    clones.clone(*asked)
    domains.other.images.by_name["copy"] = image("copy")
    domains.one.images.clones_of["web-root"] = [clone(7, "copy", "fast")]
    clones.clone(*asked)  # found made
    assert told(domains) == [
        VolumeChanged(OTHER_DOMAIN, "copy", "cloned", "s", "web-root", STORAGE_DOMAIN)
    ]


def test_a_deletion_is_told(domains: FullDomains, deletions: Deletions) -> None:
    deletions.delete(STORAGE_DOMAIN, "web-root", force=False)
    assert told(domains) == [VolumeChanged(STORAGE_DOMAIN, "web-root", "deleted")]


def test_a_deletion_that_is_refused_is_not_told(domains: FullDomains, deletions: Deletions) -> None:
    domains.one.change("web-root", snapshots=[snapshot(7, "s")])
    with pytest.raises(errors.VolumeHasSnapshots):
        deletions.delete(STORAGE_DOMAIN, "web-root", force=False)
    assert told(domains) == []


def test_what_goes_into_the_trash_and_out_of_it_is_told(
    domains: FullDomains, storage: Any, deletions: Deletions
) -> None:
    trash = Trash(storage, deletions, 12.0)
    trash.put(STORAGE_DOMAIN, "web-root", 0)
    domains.one.images.in_trash = [entry("old"), entry("older")]
    trash.take(STORAGE_DOMAIN, None, "old", "new")
    trash.purge(STORAGE_DOMAIN, None, force=False)
    done = [(event.action, event.volume_name, event.from_volume) for event in told(domains)]
    assert done == [
        ("trashed", "web-root", None),
        ("restored", "new", "old"),
        ("purged", "old", None),
        ("purged", "older", None),
    ]


def test_an_eviction_is_told_with_whom(domains: FullDomains, storage: Any) -> None:
    heard = Heard()
    evictions = Evictions(storage, NoUsers(), 12.0, heard)  # type: ignore[arg-type]
    answers = domains.one.workers.answers
    answers["require_silent"] = "10.0.1.9:0/1"
    answers["evict"] = {"address": "10.0.1.9:0/1", "until_s": 5.0}
    with pytest.raises(errors.EvictionNotConfirmed):
        evictions.evict(STORAGE_DOMAIN, "web-root", 4119, confirm=False)
    assert heard.events == []
    evictions.evict(STORAGE_DOMAIN, "web-root", 4119, confirm=True)
    assert heard.events == [ClientEvicted(STORAGE_DOMAIN, "web-root", 4119, "10.0.1.9:0/1")]


# --- disks of running VMs ---


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_disk_that_is_plugged_and_unplugged_is_told_once(site: Site) -> None:
    site.plug()
    site.plug()  # found plugged
    site.unplug(target="vdc")
    assert site.told.events == [
        DiskPlugged(VM, "vdc", STORAGE_DOMAIN, "web-data"),
        DiskUnplugged(VM, "vdc"),
    ]


def test_a_disk_that_is_extended_is_told_with_its_volume(site: Site) -> None:
    before = site.info.size_bytes
    larger = before + MiB
    site.calls.sizes["vda"] = before
    site.extending.extend_disk(VM, "vda", None, larger)
    site.info = dataclasses.replace(site.info, size_bytes=larger)
    ident: UUID = STORAGE_DOMAIN
    assert site.told.events == [DiskExtended(VM, "vda", ident, "web-root", larger)]
    assert site.storage.one.told == [
        VolumeChanged(ident, "web-root", "extended", size_bytes=larger)
    ]
    site.extending.extend_disk(VM, "vda", None, larger)  # as large as that already
    assert len(site.told.events) == 1
    assert len(site.storage.one.told) == 1
