"""Whether the daemon is well: what is its own illness, and what is only told."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from virtceph.host.health import Parts, report
from virtceph.host.storagewatch import Health

DOMAIN: Any = SimpleNamespace(
    settings=SimpleNamespace(storage_domain_id=UUID(int=5), name="fast", pool="vms")
)


def lane(slots: int = 8, overdue: int = 0) -> dict[str, int]:
    return {"slots": slots, "running": overdue, "waiting": 0, "overdue": overdue, "refused": 0}


class Site:
    def __init__(self) -> None:
        self.stopping, self.away_s = False, None
        self.health = Health()
        self.lanes = {name: lane() for name in ("libvirt", "agent", "disk", "ceph", "rescue")}

    def report(self, **changed: Any) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "stopping": lambda: False,
            "libvirt_away_s": lambda: None,
            "storage": lambda: [(DOMAIN, self.health)],
            "lanes": lambda: self.lanes,
            "frozen": lambda: {"frozen": 1},
        }
        return report(Parts(**{**parts, **changed}))


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_daemon_of_which_all_is_well_says_so(site: Site) -> None:
    told = site.report()
    assert told["status"] == "well"
    assert told["libvirt"] == {"up": True}
    assert told["frozen"] == {"frozen": 1}


def test_a_daemon_that_stops_is_failing(site: Site) -> None:
    assert site.report(stopping=lambda: True)["status"] == "failing"


@pytest.mark.parametrize(("away_s", "status"), [(0.3, "degraded"), (30.0, "failing")])
def test_a_libvirt_that_is_restarted_is_no_failure_and_one_that_stays_away_is(
    site: Site, away_s: float, status: str
) -> None:
    told = site.report(libvirt_away_s=lambda: away_s)
    assert (told["status"], told["libvirt"]) == (status, {"up": False, "awayFor": away_s})


def test_a_cluster_that_is_away_is_told_and_is_not_the_daemons_illness(site: Site) -> None:
    since_s = time.monotonic() - 12
    site.health = Health(reachable=False, reason="no answer", since_s=since_s)
    told = site.report()
    assert told["status"] == "degraded"
    (domain,) = told["storageDomains"]
    assert (domain["reachable"], domain["reason"], round(domain["awayFor"])) == (
        False,
        "no answer",
        12,
    )


@pytest.mark.parametrize("name", ["agent", "disk", "ceph"])
def test_guests_and_clusters_that_hang_are_not_the_daemons_illness(site: Site, name: str) -> None:
    site.lanes[name] = lane(8, overdue=8)
    told = site.report()
    assert (told["status"], told["lanes"][name]["free"]) == ("degraded", False)


@pytest.mark.parametrize("name", ["libvirt", "rescue"])
def test_a_lane_that_nothing_outside_can_fill_is(site: Site, name: str) -> None:
    site.lanes[name] = lane(8, overdue=7)
    assert site.report()["status"] == "well"
    site.lanes[name] = lane(8, overdue=8)
    assert site.report()["status"] == "failing"
