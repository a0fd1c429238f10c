"""A VM that is paused for its memory to be saved runs again, whoever dies."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.faults.halted import Halting, Halts
from tests.faults.lone import guards
from tests.faults.pace import says
from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.lab.guest import Guest

MAX_FROZEN_S = 8


@pytest.fixture
def paused(
    halts: Halts, site: Site, spare: Guest, exchange: Path
) -> Iterator[tuple[Halting, Guest]]:
    """A daemon that has just paused a frozen guest, to save its memory."""
    halted = halts.at("paused", site.ceph)
    memory = exchange / f"memory-{uuid.uuid4().hex[:8]}"
    halted.begin(spare, memory.name, memoryPath=str(memory), maxFrozen=MAX_FROZEN_S)
    assert not runs(spare)
    yield halted, spare
    if not runs(spare):
        spare.domain.resume()
    memory.unlink(missing_ok=True)


def runs(guest: Guest) -> bool:
    return bool(guest.domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING)


def records(halted: Halting) -> list[Path]:
    return list((halted.daemon.folder / "run/pauses").glob("*.json"))


def test_a_daemon_that_dies_while_a_vm_is_paused_leaves_it_to_the_guard(
    paused: tuple[Halting, Guest],
) -> None:
    halted, guest = paused
    assert len(records(halted)) == 1
    halted.daemon.kill()
    # At once: what it was paused for is lost with the daemon.
    until(lambda: runs(guest), 10)
    until(lambda: says(guest) == "thawed", MAX_FROZEN_S + 10)
    until(lambda: not records(halted), 5)


def test_a_daemon_that_hangs_while_a_vm_is_paused_leaves_it_to_the_guard_at_its_deadline(
    paused: tuple[Halting, Guest],
) -> None:
    halted, guest = paused
    halted.daemon.suspend()
    try:
        until(lambda: runs(guest), MAX_FROZEN_S + 15)
        until(lambda: says(guest) == "thawed", 15)
    finally:
        halted.daemon.resume()


def test_the_next_daemon_lets_a_vm_run_again_without_a_guard(
    paused: tuple[Halting, Guest], halts: Halts
) -> None:
    halted, guest = paused
    (guard,) = guards(halted.daemon)
    os.kill(guard, signal.SIGSTOP)
    try:
        halted.daemon.kill()
        halts.lone.start(halted.daemon.folder.name)
        until(lambda: runs(guest), 10)
        until(lambda: says(guest) == "thawed", MAX_FROZEN_S + 10)
    finally:
        os.kill(guard, signal.SIGCONT)


def test_memory_that_is_not_saved_within_the_budget_undoes_the_set(
    paused: tuple[Halting, Guest], exchange: Path
) -> None:
    halted, guest = paused
    # Still paused when the lease runs out.
    until(lambda: "lease ran out" in halted.daemon.log_text(), MAX_FROZEN_S + 10)
    job = halted.go_on()
    assert job["status"] == "failed", job
    assert job["error"]["data"]["error"] == "SnapshotFailed"
    until(lambda: runs(guest) and says(guest) == "thawed", 15)
    assert not list(exchange.glob("memory-*"))
    # By its name: the guest is shared, and has sets of other tests.
    until(lambda: halted.nothing_left(guest, halted.name), 40)
    assert not records(halted)
