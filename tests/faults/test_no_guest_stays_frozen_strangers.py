"""Promise 1 for guests that somebody else froze: found when the daemon starts, and treated as configured."""

from __future__ import annotations

import time
from collections.abc import Iterator

import libvirt
import pytest

from tests.faults.lone import LoneDaemons
from tests.faults.pace import require_thawed_by
from tests.faults.waiting import until
from tests.integration.conftest import Rough
from tests.integration.test_freeze import guest_says
from tests.lab.domain_xml import GuestSpec
from tests.lab.doomed import reached_line, step_named
from tests.lab.guest import Guest
from tests.lab.template import run_guest

FOUND = "a guest is frozen by nobody known here"


@pytest.fixture
def guest(rough: Rough) -> Iterator[Guest]:
    """The only guest of its libvirtd."""
    with rough.libvirtd.connection() as connection:
        made = run_guest(connection, GuestSpec("stranger", rough.disks), rough.state / "guests")
        yield made
        made.destroy()


@pytest.fixture
def frozen(guest: Guest) -> Guest:
    """One that somebody froze past the daemon."""
    guest.domain.agentSetResponseTimeout(5, 0)
    assert guest.domain.fsFreeze() == 2
    return guest


def test_a_guest_that_somebody_else_froze_is_reported_and_left_alone(
    rough: Rough, frozen: Guest, lone: LoneDaemons
) -> None:
    daemon = lone.start(uri=rough.libvirtd.uri, overrides={"freeze": {"unknown": "report"}})
    until(lambda: f"{FOUND} vm={frozen.uuid}" in daemon.log_text(), 10)
    time.sleep(2)
    assert guest_says(frozen) == "frozen"


def test_a_guest_that_somebody_else_froze_is_thawed_where_that_is_wished(
    rough: Rough, frozen: Guest, lone: LoneDaemons
) -> None:
    daemon = lone.start(uri=rough.libvirtd.uri, overrides={"freeze": {"unknown": "thaw"}})
    require_thawed_by(frozen, time.monotonic())
    assert FOUND in daemon.log_text()


def test_looking_for_frozen_guests_taints_none_that_is_not(
    rough: Rough, guest: Guest, lone: LoneDaemons
) -> None:
    """libvirt marks a domain for good once a command of somebody's own went to its agent."""
    before = guest.domain.messages(libvirt.VIR_DOMAIN_MESSAGE_TAINTING)
    assert not [message for message in before if "agent" in message]
    step = step_named("strangers looked at")
    daemon = lone.doomed(step, "halt", uri=rough.libvirtd.uri)
    until(lambda: reached_line(step) in daemon.log_text(), 10)
    assert guest.domain.messages(libvirt.VIR_DOMAIN_MESSAGE_TAINTING) == before
    (daemon.folder / "go").touch()
    # A question that needs such a command does mark it: the look above would have been seen.
    assert guest_says(guest) == "thawed"
    assert guest.domain.messages(libvirt.VIR_DOMAIN_MESSAGE_TAINTING) != before
