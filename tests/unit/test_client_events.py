"""Events by the client library and by `virtceph events`: as they happen, and on over a broken connection."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.fakes.http_site import HttpSite, serving_events
from tests.fakes.waiting import until
from virtceph.cli.events import line
from virtceph.cli.main import main
from virtceph.client import ConnectionFailed
from virtceph.client import events as module
from virtceph.client.client import Client
from virtceph.client.events import events
from virtceph.events import DaemonStopping, VMFoundFrozen, VMFrozen
from virtceph.schema import load_contract

VM = UUID(int=1)


@pytest.fixture
def path() -> Iterator[Path]:
    # pytest's own folders may be longer than the 107 bytes of a socket's path.
    folder = Path(tempfile.mkdtemp(prefix="vc-"))
    yield folder / "s"
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.02)


def tell(site: HttpSite, *numbers: int) -> None:
    for number in numbers:
        site.events.tell(VMFoundFrozen(UUID(int=number), False))


def vm(event: dict[str, Any]) -> int:
    return UUID(event["params"]["vmId"]).int


def test_what_is_kept_is_listed_and_that_is_all(path: Path) -> None:
    with serving_events(path) as site:
        tell(site, 1, 2, 3)
        told = list(Client(str(path)).events("0", follow=False))
        assert [vm(event) for event in told] == [1, 2, 3]
        assert told[0]["cursor"] == site.events.cursor(1)
        assert list(events(str(path), told[1]["cursor"], follow=False)) == told[2:]
        assert list(events(str(path), "0", ["daemon_stopping"], follow=False)) == []


def test_events_come_as_they_happen(path: Path) -> None:
    with serving_events(path) as site:
        stream = events(str(path), "0")
        tell(site, 1)
        assert vm(next(stream)) == 1
        threading.Timer(0.05, tell, (site, 2)).start()
        assert vm(next(stream)) == 2
        stream.close()


def test_a_stream_goes_on_where_it_was_when_the_daemon_was_started_again(path: Path) -> None:
    gaps: list[ConnectionFailed] = []
    with serving_events(path) as site:
        tell(site, 1)
        stream = events(str(path), "0", on_gap=gaps.append)
        assert vm(next(stream)) == 1
    with serving_events(path) as site:
        tell(site, 2)
        told = [next(stream) for _ in range(2)]
        # Nothing of the run before is known to this one, and that is said.
        assert (told[0]["event"], told[0]["params"]) == ("events_lost", {"cause": "restart"})
        assert vm(told[1]) == 2
        stream.close()
    assert gaps


def test_a_stream_that_was_quiet_comes_back_without_a_loss(path: Path) -> None:
    """What was passed over meanwhile would else be told as lost."""
    with serving_events(path, kept=16, keepalive_s=0.05) as site:
        stream = events(str(path), None, ["daemon_stopping"], on_gap=lambda _error: None)
        heard: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: heard.append(next(stream)))
        thread.start()
        until(lambda: site.streams.open)
        for number in range(0, 64, 8):
            tell(site, *range(number, number + 8))
            time.sleep(0.02)  # not so many at once that the stream itself falls behind
        time.sleep(0.2)  # for a sign of life to have passed
        served = site.server._places["unix"]._served
        (first,) = served.values()
        site.loop.call_soon_threadsafe(first.cut)
        until(lambda: site.streams.open and first not in served.values())
        site.events.tell(DaemonStopping())
        thread.join(5)
        assert [event["event"] for event in heard] == ["daemon_stopping"]


def test_a_daemon_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(ConnectionFailed, match="is virtcephd running"):
        next(events(str(path), on_gap=lambda _error: None))


def test_a_request_that_is_refused_is_not_repeated(path: Path) -> None:
    with (
        serving_events(path),
        pytest.raises(ConnectionFailed, match="since: expected a cursor") as caught,
    ):
        next(events(str(path), "nonsense", on_gap=lambda _error: None))
    assert caught.value.status == 400


# --- the command ---


def test_the_command_prints_a_line_for_each_event(path: Path, capsys: Any) -> None:
    with serving_events(path) as site:
        site.events.tell(VMFrozen(VM, UUID(int=2), "unix:root", 2, 19.84, False))
        site.events.tell(DaemonStopping())
        assert main(["--socket", str(path), "events", "--since", "0", "--no-follow"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "  vm_frozen  " in first
    assert f"vmId={VM}" in first
    assert "owner=unix:root filesystems=2 expiresIn=19.8 s adopted=no" in first
    assert second.endswith("  daemon_stopping")


def test_the_command_prints_json_for_programs(path: Path, capsys: Any) -> None:
    with serving_events(path) as site:
        tell(site, 1, 2)
        words = ["events", "--socket", str(path), "--json", "--since", "0", "--no-follow"]
        assert main([*words, "--types", "vm_found_frozen"]) == 0
    told = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [vm(event) for event in told] == [1, 2]
    assert set(told[0]) == {"event", "cursor", "time", "params"}


def test_what_steers_a_terminal_is_not_printed() -> None:
    event = {"event": "x\x1b[2J", "time": 0, "params": {"a": "b\x07", "c": [1]}}
    assert not [c for c in line(load_contract(), event) if not c.isprintable()]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--types", "nonsense"], "there is no event 'nonsense'"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["word"], "unrecognized arguments: word"),
    ],
)
def test_a_wrong_command_line_ends_with_2(words: list[str], told: str, capsys: Any) -> None:
    assert main(["events", *words]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert "usage: virtceph events" in err


def test_a_daemon_that_is_not_there_ends_the_command(path: Path, capsys: Any) -> None:
    assert main(["events", "--socket", str(path)]) == 1
    assert "is virtcephd running" in capsys.readouterr().err


def test_the_command_prints_at_once_reconnects_and_ends_quietly_by_the_keyboard(path: Path) -> None:
    words = [sys.executable, "-m", "virtceph.cli", "events", "--json", "--since", "0"]
    environment = {
        **os.environ,
        "VIRTCEPH_SOCKET": str(path),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    with serving_events(path) as site:
        tell(site, 1)
        command = subprocess.Popen(
            words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert command.stdout is not None
        assert vm(json.loads(command.stdout.readline())) == 1
    with serving_events(path) as site:
        tell(site, 2)
        assert json.loads(command.stdout.readline())["event"] == "events_lost"
        assert vm(json.loads(command.stdout.readline())) == 2
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=10)
    assert (command.returncode, out) == (130, "")
    assert "connecting again" in err
    assert "Traceback" not in err


def test_help_says_how_it_is_used(capsys: Any) -> None:
    assert main(["events", "-h"]) == 0
    assert "--since CURSOR" in capsys.readouterr().out
