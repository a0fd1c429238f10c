"""`python -m tests.stress [--seconds N] [--callers N] [--seed N]`: many callers ask for random verbs at once.

Of a lab that `make lab-up` left running; `.lab/env` names it. What one caller does to another's volumes
explains errors of some kinds and no others: one that it does not explain is printed with what was asked, and
so is what is left behind; then the status is 1. In which order the callers come is chance: the same seed asks
the same, and need not find the same.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import threading
import time
import uuid
from collections import Counter
from typing import Any

from tests.lab.stack import IMAGES
from tests.stress.requests import JOBS, Place, random_request
from virtceph.client import Client, ClientError, ServerError, connect

# Of errors that are nobody's fault but ours: what they may say when callers cross.
_CROSSING = {
    "CephUnavailable": "ask again|not all of them answer",
    "FreezeFailed": "a thaw was asked for meanwhile|an earlier freeze is still thawing",
    "SnapshotFailed": "Snapshot exists|frozen by|a thaw was asked for|still thawing|not all of them answer",
}
_OURS = ("unavailable", "failed", "internal")
_ENDED = ("done", "failed", "aborted")
_ABORTED = 0.1  # of the jobs
_JOB_S = 120


class Stress:
    """The callers, and what they were told."""

    def __init__(self, place: Place, socket: str, seconds: float) -> None:
        self.place, self.socket = place, socket
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.unexplained: list[str] = []
        self._end_s = time.monotonic() + seconds
        self._lock = threading.Lock()

    def call(self, seed: int) -> None:
        """One caller. Blocks until the time is over."""
        chance = random.Random(seed)
        with connect(self.socket, timeout_s=_JOB_S) as client:
            while time.monotonic() < self._end_s:
                verb, params = random_request(chance, self.place)
                try:
                    told = self._ask(client, chance, verb, params)
                except ServerError as error:
                    told = {"message": error.message, "data": error.data}
                except ClientError as error:
                    told = {"message": str(error), "data": {"kind": "internal"}}
                self._note(verb, params, told)

    def _ask(
        self, client: Client, chance: random.Random, verb: str, params: dict[str, Any]
    ) -> dict[str, Any]:
        """The error of a job that failed, or nothing."""
        if verb not in JOBS:
            client.call(verb, **params)
            return {}
        job = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        client.call(verb, jobUUID=job, **params)
        if chance.random() < _ABORTED:
            self._abort(client, job)
        return dict(client.wait_for_job(job, _JOB_S).get("error") or {})

    def _abort(self, client: Client, job: str) -> None:
        try:
            client.call("Job.abort", jobUUID=job)
        except ServerError as error:
            self._note("Job.abort", {}, {"message": error.message, "data": error.data})

    def _note(self, verb: str, params: dict[str, Any], error: dict[str, Any]) -> None:
        facts = error.get("data", {})
        with self._lock:
            self.outcomes[verb, facts.get("error", "ok") if error else "ok"] += 1
            if error and not _is_explained(error):
                self.unexplained.append(f"{verb} {params}: {error}")


def _is_explained(error: dict[str, Any]) -> bool:
    facts = error["data"]
    pattern = _CROSSING.get(facts.get("error", ""))
    if pattern is not None:
        return re.search(pattern, error["message"]) is not None
    return facts.get("kind") not in _OURS


def left_behind(client: Client, place: Place) -> list[str]:
    """What there should not be when nobody asks for anything any more. Blocks."""
    client.call("VM.thaw", vmID=place.vm_id)
    guest = client.call("VM.getFreezeStatus", vmID=place.vm_id)["guest"]
    jobs = client.call("Host.getJobs").items()
    lanes = client.call("Host.getCapabilities")["lanes"].items()
    return [
        *([f"the guest is {guest}"] if guest != "thawed" else []),
        *(f"job {job} is {told['status']}" for job, told in jobs if told["status"] not in _ENDED),
        *(f"the lane {lane} has {told}" for lane, told in lanes if _is_busy(told)),
    ]


def _is_busy(lane: dict[str, int]) -> bool:
    # The question itself runs in one.
    return lane["running"] > 1 or bool(lane["waiting"] or lane["overdue"])


def main() -> int:
    """Run the callers, tell what they were told, and say in the status whether all of it is explained."""
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    try:
        place = Place(os.environ["LAB_SD"], os.environ["LAB_VM"], IMAGES)
        socket = os.environ["VIRTCEPH_SOCKET"]
    except KeyError as missing:
        print(f"{missing} is not set: make lab-up, then . .lab/env", file=sys.stderr)
        return 2
    stress = Stress(place, socket, asked.seconds)
    seeds = [asked.seed * 1000 + caller for caller in range(asked.callers)]
    threads = [threading.Thread(target=stress.call, args=(seed,)) for seed in seeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for (verb, outcome), times in sorted(stress.outcomes.items()):
        print(f"{times:6} {verb} {outcome}")
    with connect(socket) as client:
        wrong = stress.unexplained + left_behind(client, place)
    print(
        *(["unexplained or left behind:", *wrong] if wrong else ["all explained, nothing left"]),
        sep="\n",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
