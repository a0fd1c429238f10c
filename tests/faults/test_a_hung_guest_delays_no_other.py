"""Promise 6: everything is bounded. Guests whose agents hang do not delay calls about others."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.faults.pace import require_thawed_by, slowness
from tests.integration.conftest import Site
from tests.integration.recorder import RecordingClient
from tests.lab.guest import Guest
from virtceph.client import ServerError

HUNG = 8
# What eight hung guests may add to a call about a ninth.
DELAY_S = 0.1
LEASE_S = 12
CYCLES = 9


@pytest.fixture(scope="module")
def guests(make_guests: Callable[[int], list[Guest]]) -> list[Guest]:
    return make_guests(HUNG + 1)


@pytest.fixture
def hung(site: Site, guests: list[Guest]) -> Iterator[list[Guest]]:
    """Eight guests whose agents stop answering while they are frozen."""
    chosen = guests[:HUNG]
    for guest in chosen:
        site.call("VM.freeze", vmID=guest.uuid, timeout=LEASE_S)
    for guest in chosen:
        guest.command("agent-stop")
    yield chosen
    for guest in chosen:
        guest.command("agent-cont")
        with contextlib.suppress(ServerError):
            site.call("VM.thaw", vmID=guest.uuid)


def took_s(call: Callable[..., object], *arguments: Any, **params: Any) -> float:
    began_s = time.monotonic()
    call(*arguments, **params)
    return time.monotonic() - began_s


def cycle_s(client: RecordingClient, guest: Guest) -> dict[str, float]:
    """What the verbs about one guest take, and libvirt's own calls in the same moments."""
    guest.domain.agentSetResponseTimeout(20, 0)
    raw = {"raw VM.freeze": took_s(guest.domain.fsFreeze)}
    raw["raw VM.thaw"] = took_s(guest.domain.fsThaw)
    calls: list[tuple[str, dict[str, Any]]] = [
        ("VM.getInfo", {}),
        ("VM.freeze", {"timeout": 60}),
        ("VM.getFreezeStatus", {}),
        ("VM.thaw", {}),
    ]
    return raw | {
        verb: took_s(client.call, verb, vmID=guest.uuid, **params) for verb, params in calls
    }


def least_s(client: RecordingClient, guest: Guest) -> dict[str, float]:
    """What each verb adds to libvirt's own call, by the least of several cycles: what a full lane adds is
    in each of them, what a busy machine adds is not."""
    cycles = [cycle_s(client, guest) for _ in range(CYCLES)]
    least = {what: min(cycle[what] for cycle in cycles) for what in cycles[0]}
    return {verb: least[verb] - least.get(f"raw {verb}", 0.0) for verb in least if verb[0] == "V"}


def test_eight_hung_guests_do_not_delay_verbs_about_a_ninth(
    site: Site, connect: Callable[..., RecordingClient], guests: list[Guest], hung: list[Guest]
) -> None:
    ninth = guests[HUNG]
    client = connect(site.daemon)
    stop = threading.Event()

    def pester(guest: Guest) -> None:
        own = connect(site.daemon)
        verbs = ("VM.thaw", "VM.getFreezeStatus")
        while not stop.is_set():
            for verb in verbs:
                with contextlib.suppress(ServerError):
                    own.call(verb, vmID=guest.uuid)

    with ThreadPoolExecutor(HUNG) as threads:
        for guest in hung:
            threads.submit(pester, guest)
        time.sleep(2)
        try:
            # Long enough that their leases run out meanwhile: the rescue has to do with all eight.
            busy = least_s(client, ninth)
            time.sleep(LEASE_S / 2)
            rescued = least_s(client, ninth)
        finally:
            stop.set()
            for guest in hung:
                guest.command("agent-cont")
    idle = least_s(client, ninth)
    for name, measured in (("asked", busy), ("rescued", rescued)):
        late = {verb: measured[verb] - idle[verb] for verb in idle}
        assert max(late.values()) < DELAY_S * slowness(), (name, late, idle)


def test_a_ninth_guests_lease_ends_in_time_beside_eight_hung_ones(
    site: Site, guests: list[Guest], hung: list[Guest]
) -> None:
    ninth = guests[HUNG]
    # It ends just after theirs, when all of them are being thawed in vain.
    time.sleep(LEASE_S / 2)
    site.call("VM.freeze", vmID=ninth.uuid, timeout=LEASE_S / 2 + 1)
    frozen_s = time.monotonic()
    require_thawed_by(ninth, frozen_s + LEASE_S / 2 + 1)
