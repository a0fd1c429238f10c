"""Log lines: facts, their request, and one line each."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from virtceph import log, request
from virtceph.rpc.audit import Asked, AuditTrail
from virtceph.rpc.callers import Caller
from virtceph.sensitive import Sensitive


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    names = (None, "aiohttp", "asyncio", "jsonrpcserver", log.AUDIT)
    every = [logging.getLogger(name) for name in names]
    handlers, levels = every[0].handlers, [one.level for one in every]
    yield
    every[0].handlers = handlers
    for one, level in zip(every, levels, strict=True):
        one.setLevel(level)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("plain", "plain"),
        ("ümlaut", "ümlaut"),
        ("two words", "'two words'"),
        ("", "''"),
        ('say "x"', "'say \"x\"'"),
        ("a\nb", "'a\\nb'"),
        ("\x1b[2J", "'\\x1b[2J'"),
        ("\u2028", "'\\u2028'"),
        (0.12345, "0.123"),
        (7, "7"),
        (None, "None"),
        (Sensitive(b"key"), "********"),
    ],
)
def test_facts_stand_on_one_line(value: object, shown: str) -> None:
    assert log.facts(x=value, y=1) == f"x={shown} y=1"


def test_every_line_carries_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("info", "journal")
    logging.getLogger("virtceph.x").info("before")
    request.enter(request.Request("2a", "unix:root", 0.0))
    logging.getLogger("virtceph.x").warning("within")
    assert capsys.readouterr().err.splitlines() == [
        "<6>[-] virtceph.x: before",
        "<4>[2a] virtceph.x: within",
    ]


def test_every_line_of_a_traceback_keeps_its_priority(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("info", "journal")
    try:
        raise ValueError("x")
    except ValueError:
        logging.getLogger("virtceph.x").exception("broke")
    assert all(line.startswith("<3>") for line in capsys.readouterr().err.splitlines())


def test_outside_the_journal_lines_have_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("info", "stderr")
    logging.getLogger("virtceph.x").error("x")
    assert capsys.readouterr().err.startswith("20")


def test_libraries_speak_up_only_when_something_is_wrong(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.set_up("debug", "journal")
    logging.getLogger("jsonrpcserver").info("a request body")
    logging.getLogger("virtceph.x").debug("ours")
    assert capsys.readouterr().err == "<7>[-] virtceph.x: ours\n"


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_audit_trail_is_told_at_every_level_of_the_log(
    capsys: pytest.CaptureFixture[str], level: str
) -> None:
    log.set_up(level, "journal")
    caller = Caller("unix:alice", "admin", "pid 7")
    AuditTrail("", "monitor").tell(Asked(caller, "Host.ping2", "monitor", "1", {}, "ok", 0.1))
    assert capsys.readouterr().err.startswith("<6>[-] virtceph.audit: {")
