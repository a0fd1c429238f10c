"""The audit trail: every line is whole and in its place, whatever becomes of its file."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from virtceph.rpc.audit import Asked, AuditTrail, TurnedAway
from virtceph.rpc.callers import Caller


def asked(request_id: str = "1", level: str = "admin") -> Asked:
    caller = Caller("unix:alice", "admin", "pid 7")
    return Asked(caller, "Host.echo", level, request_id, {"message": "x" * 500}, "ok", 0.1)


def idents(*paths: Path) -> list[str]:
    return [json.loads(line)["request"] for path in paths for line in path.open()]


def test_a_rotation_loses_no_line_of_any_thread_and_mixes_none(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    trail = AuditTrail(str(path), "monitor")
    wanted = {f"{thread}-{number}" for thread in range(8) for number in range(800)}

    def tell(thread: int) -> None:
        for number in range(800):
            trail.tell(asked(f"{thread}-{number}"))

    threads = [threading.Thread(target=tell, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    rotated = 0
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            path.rename(tmp_path / f"audit.log.{rotated}")
            rotated += 1
    for thread in threads:
        thread.join()
    told = idents(*tmp_path.iterdir())
    assert len(told) == len(wanted)
    assert set(told) == wanted
    assert rotated > 2
    assert trail.failures == 0


def test_what_the_file_does_not_take_goes_to_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trail = AuditTrail(str(tmp_path / "none" / "audit.log"), "monitor")
    with caplog.at_level("INFO"):
        trail.tell(asked("7"))
    told = [record.getMessage() for record in caplog.records if record.name == "virtceph.audit"]
    assert [json.loads(line)["request"] for line in told] == ["7"]
    assert "audit trail not written" in caplog.text
    assert trail.failures == 1


def test_a_full_disk_is_no_line_lost(caplog: pytest.LogCaptureFixture) -> None:
    trail = AuditTrail("/dev/full", "monitor")
    with caplog.at_level("INFO"):
        trail.tell(asked("7"))
    assert '"request": "7"' in caplog.text
    assert trail.failures == 1


def test_without_a_file_it_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        AuditTrail("", "monitor").tell(asked("7"))
    assert [json.loads(record.getMessage())["request"] for record in caplog.records] == ["7"]


@pytest.mark.parametrize(
    ("least", "wanted"),
    [
        ("monitor", ["monitor", "operator", "admin"]),
        ("operator", ["operator", "admin"]),
        ("admin", ["admin"]),
    ],
)
def test_verbs_are_told_from_the_level_on_that_is_set(least: str, wanted: list[str]) -> None:
    trail = AuditTrail("", least)
    assert [level for level in ("monitor", "operator", "admin") if trail.wants(level)] == wanted


def test_whoever_is_turned_away_is_told_like_a_call() -> None:
    told = json.loads(TurnedAway("cert:CN=who.lab", "192.0.2.1:5").line())
    assert set(told) == set(json.loads(asked().line()))
    assert (told["caller"], told["from"]) == ("cert:CN=who.lab", "192.0.2.1:5")
    assert (told["outcome"], told["verb"]) == ("TurnedAway", "")
