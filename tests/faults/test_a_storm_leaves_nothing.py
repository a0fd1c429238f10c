"""Promises 1 and 3 together: a storm of snapshots while agents die leaves nothing frozen or half-made."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.faults.waiting import until
from tests.integration.conftest import Site
from tests.integration.recorder import RecordingClient
from tests.integration.test_freeze import guest_says
from tests.lab.errors import GuestCommandFailed, NotReady
from tests.lab.guest import Guest

GUESTS, DISKS, ROUNDS = 8, 2, 6
MAX_FROZEN_S = 20
SEED = 20


def snapshot(client: RecordingClient, guest: Guest, name: str) -> dict[str, Any]:
    """One consistent snapshot; the ended job."""
    job = uuid.uuid4()
    client.call(
        "VM.createConsistentSnapshot",
        vmID=guest.uuid,
        snapshotName=name,
        maxFrozen=MAX_FROZEN_S,
        jobUUID=job,
    )
    return dict(client.wait_for_job(job, 180))


def disturb(chance: random.Random, guest: Guest) -> None:
    """Kill the agent at some moment of the storm, and start it again."""
    if chance.random() < 0.5:
        return
    with contextlib.suppress(GuestCommandFailed, NotReady):
        guest.command(f"sh sleep {chance.random():.2f}")
        guest.command("agent-kill")
    guest.command("agent-start")


def half_made(site: Site, guest: Guest) -> list[str]:
    """Names that some of a guest's disks have a snapshot of, and others have not."""
    names = []
    for disk in guest.spec.disks:
        found = site.volume("listSnapshots", disk.image)  # type: ignore[union-attr]
        names.append({snap["snapshotName"] for snap in found})
    return sorted(set.union(*names) - set.intersection(*names))


def test_a_snapshot_storm_with_dying_agents_leaves_nothing_frozen_and_nothing_half_made(
    site: Site,
    connect: Callable[..., RecordingClient],
    make_guests: Callable[..., list[Guest]],
) -> None:
    guests = make_guests(GUESTS, DISKS)
    clients = [connect(site.daemon) for _ in guests]
    chance = random.Random(SEED)
    ended: list[dict[str, Any]] = []
    made: dict[str, list[str]] = {guest.uuid: [] for guest in guests}
    for number in range(ROUNDS):
        with ThreadPoolExecutor(2 * GUESTS) as threads:
            jobs = [
                threads.submit(snapshot, client, guest, f"storm-{number}")
                for client, guest in zip(clients, guests, strict=True)
            ]
            if number:  # the first storm is undisturbed
                for guest in guests:
                    threads.submit(disturb, random.Random(chance.random()), guest)
            for guest, job in zip(guests, (job.result() for job in jobs), strict=True):
                ended.append(job)
                made[guest.uuid] += [job["result"]["setID"]] if job["status"] == "done" else []
    for guest in guests:
        until(lambda guest=guest: guest_says(guest) == "thawed", 30)  # type: ignore[misc]
        assert site.call("VM.getFreezeStatus", vmID=guest.uuid).get("lease") is None
        assert half_made(site, guest) == []
        listed = site.call("VM.listConsistentSnapshots", vmID=guest.uuid)
        assert [found["setID"] for found in listed] == made[guest.uuid]
        assert all(found["complete"] for found in listed)
    done = [job["result"]["consistency"] for job in ended if job["status"] == "done"]
    # All that came through is as good as was asked for; the rest was refused or undone.
    assert set(done) == {"filesystem"}
    assert len([job for job in ended if job["status"] == "done"]) >= GUESTS
    assert {job["status"] for job in ended} <= {"done", "failed"}
