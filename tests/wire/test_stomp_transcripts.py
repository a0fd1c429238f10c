"""Golden transcripts of what engines speak, played on real sockets, without TLS and with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.pki import Authority
from tests.wire.player import Closed, Target, Transcript, play_all
from tests.wire.serving import ADDRESS, client_tls, serving
from tests.wire.tables import ALL

OFFERS = frozenset({"events", "compact json"})
AT_ONCE = 40


@pytest.fixture(scope="module", params=["plain", "tls"])
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str | None]]:
    """How each transcript ended. They are played side by side: some have to wait for heart-beats."""
    credentials = None
    if request.param == "tls":
        credentials = Authority().issue(tmp_path_factory.mktemp("pki"), "host.lab")
    with serving(tls=credentials) as served:
        tls = None if credentials is None else client_tls(credentials)
        target = Target(ADDRESS, served.port, tls, served.server.publish_event, OFFERS)
        yield asyncio.run(play_all(ALL, target, AT_ONCE))


@pytest.mark.parametrize("transcript", ALL, ids=lambda transcript: transcript.says)
def test_the_wire(transcript: Transcript, outcomes: dict[str, str | None]) -> None:
    assert outcomes[transcript.says] is None, outcomes[transcript.says]


def test_there_are_enough_and_none_twice() -> None:
    assert len({transcript.says for transcript in ALL}) == len(ALL) >= 60


def test_what_only_one_server_can_do_is_said() -> None:
    assert {need for transcript in ALL for need in transcript.needs} <= OFFERS


def test_a_server_that_does_otherwise_is_found_out() -> None:
    """The player itself: where nobody gets in, nothing is as it says but that a connection is closed."""
    closed = {transcript.says for transcript in ALL if isinstance(transcript.steps[-1], Closed)}
    with serving(admins=()) as served:
        found = asyncio.run(play_all(ALL, Target(ADDRESS, served.port), AT_ONCE))
    assert {says for says, outcome in found.items() if outcome is None} <= closed


def test_the_kit_says_what_was_seen_and_ends_so(tmp_path: Path) -> None:
    issued = Authority().issue(tmp_path, "host.lab")
    with serving(tls=issued) as served:
        command = [sys.executable, "-m", "tests.wire", f"{ADDRESS}:{served.port}", "--at-once=80"]
        command += ["--tls", str(issued.certificate), str(issued.key), str(issued.ca)]
        good = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert good.returncode == 0, good.stdout
    assert "0 of" not in good.stdout.splitlines()[-1]
    assert "as it says" in good.stdout.splitlines()[-1]
    gone = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert gone.returncode == 1
    assert "Connect" in gone.stderr
