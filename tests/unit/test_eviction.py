"""Volume.evict: only a client without a sign of life, and only when it was said that it is dead."""

from __future__ import annotations

import dataclasses

import pytest

from tests.fakes.fake_domains import VM, FakeDomains
from tests.fakes.fake_storage import STORAGE_DOMAIN
from tests.fakes.fake_volumes import FullDomain, FullDomains, no_reply
from virtceph import errors
from virtceph.host.eviction import EvictedClient, Evictions
from virtceph.host.users import ImageUsers
from virtceph.virt.xml import RbdSource

ADDRESS = "10.0.1.9:0/1"


@pytest.fixture
def storage() -> FullDomains:
    return FullDomains()


@pytest.fixture
def domain(storage: FullDomains) -> FullDomain:
    answers = storage.one.workers.answers
    answers["require_silent"] = ADDRESS
    answers["evict"] = {"client": 4119, "address": ADDRESS, "until_s": 9.0}
    return storage.one


@pytest.fixture
def evictions(storage: FullDomains, domains: FakeDomains) -> Evictions:
    domains.state = "Down"
    return Evictions(storage, ImageUsers(domains), 12.0)  # type: ignore[arg-type]


def evict(evictions: Evictions, *, confirm: bool = True) -> EvictedClient:
    return evictions.evict(STORAGE_DOMAIN, "web-root", 4119, confirm)


def test_a_confirmed_eviction_is_done_and_told(evictions: Evictions, domain: FullDomain) -> None:
    assert evict(evictions) == EvictedClient(4119, ADDRESS, 9.0)
    assert domain.workers.asked == ["require_silent", "evict"]
    assert domain.workers.timeouts_s == [12.0, 12.0]


def test_without_confirmation_it_is_told_whom_it_would_be(
    evictions: Evictions, domain: FullDomain
) -> None:
    with pytest.raises(errors.EvictionNotConfirmed) as caught:
        evict(evictions, confirm=False)
    assert (caught.value.client, caught.value.address) == (4119, ADDRESS)
    assert f"web ({VM})" in caught.value.who
    assert domain.workers.asked == ["require_silent"]


@pytest.mark.parametrize("confirm", [False, True])
@pytest.mark.parametrize("state", ["Up", "Paused", "Saving State", "Powering down", "Unknown"])
def test_the_client_of_a_vm_that_is_not_off_is_never_evicted(
    evictions: Evictions, domain: FullDomain, domains: FakeDomains, state: str, confirm: bool
) -> None:
    domains.state = state
    with pytest.raises(errors.VMRunning) as caught:
        evict(evictions, confirm=confirm)
    assert caught.value.vm_id == VM
    assert "evict" not in domain.workers.asked


def test_a_vm_that_names_other_monitors_may_mean_the_same_cluster(
    evictions: Evictions, domain: FullDomain, domains: FakeDomains
) -> None:
    source = RbdSource("vms", "", "web-root", ("storage-3.example:3300",))
    domains.domain = dataclasses.replace(domains.domain, images=(("vda", source),))
    domains.state = "Up"
    with pytest.raises(errors.VMRunning):
        evict(evictions)
    assert "evict" not in domain.workers.asked


@pytest.mark.parametrize("confirm", [False, True])
def test_a_client_that_answers_is_never_evicted(
    evictions: Evictions, domain: FullDomain, confirm: bool
) -> None:
    domain.workers.answers["require_silent"] = errors.VolumeInUse("web-root", [ADDRESS])
    with pytest.raises(errors.VolumeInUse):
        evict(evictions, confirm=confirm)
    assert "evict" not in domain.workers.asked


@pytest.mark.parametrize(
    "failure",
    [errors.LibvirtUnavailable("gone"), errors.LibvirtFailed("list domains", 1, "refused")],
)
def test_nobody_is_evicted_where_nobody_can_tell_of_vms(
    evictions: Evictions,
    domain: FullDomain,
    domains: FakeDomains,
    monkeypatch: pytest.MonkeyPatch,
    failure: errors.VirtcephError,
) -> None:
    def states() -> None:
        raise failure

    monkeypatch.setattr(domains, "states", states)
    with pytest.raises(errors.LibvirtUnavailable):
        evict(evictions)
    assert "evict" not in domain.workers.asked


def test_an_eviction_without_an_answer_is_no_success(
    evictions: Evictions, domain: FullDomain
) -> None:
    domain.workers.answers["evict"] = no_reply
    with pytest.raises(errors.CephUnavailable):
        evict(evictions)
