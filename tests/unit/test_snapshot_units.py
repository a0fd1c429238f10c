"""The units of daily snapshots, as systemd itself reads them."""

from __future__ import annotations

import configparser
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from virtceph.cli import shortsnapshot
from virtceph.cli.short import Parser

UNITS = Path(__file__).parents[2] / "contrib/systemd"
SERVICE, TIMER = "virtceph-snapshot@.service", "virtceph-snapshot@.timer"
# What every unit stands in.
TARGETS = ("sysinit", "basic", "shutdown", "sockets", "timers", "time-set", "time-sync")
analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@analyze
@pytest.mark.parametrize("unit", [SERVICE, TIMER])
def test_systemd_has_nothing_to_say_against_them(tmp_path: Path, unit: str) -> None:
    # A root of its own: a host on which the program is installed.
    program = tmp_path / "usr/bin/virtceph"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    folder = tmp_path / "etc/systemd/system"
    folder.mkdir(parents=True)
    for name in (SERVICE, TIMER, "virtcephd.socket", "virtcephd.service"):
        shutil.copy(UNITS / name, folder / name)
    shutil.copy(program, program.with_name("virtcephd"))
    for name in TARGETS:
        (folder / f"{name}.target").write_text(f"[Unit]\nDescription={name}\n")
    instance = unit.replace("@.", "@web-01.")
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={tmp_path}", "--man=no", instance],
        capture_output=True,
        text=True,
    )
    told = [line for line in done.stderr.splitlines() if "virtceph-snapshot" in line]
    assert told == [], done.stderr
    assert done.returncode == 0, done.stderr


@analyze
def test_the_moment_is_one_that_systemd_knows() -> None:
    moment = section(TIMER, "Timer")["OnCalendar"]
    subprocess.run(["systemd-analyze", "calendar", moment], check=True, capture_output=True)


def section(unit: str, name: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string((UNITS / unit).read_text())
    return parser[name]


def test_what_the_service_calls_is_a_command_line_that_there_is() -> None:
    text = (UNITS / SERVICE).read_text()
    environment = dict(
        shlex.split(line.partition("=")[2])[0].split("=", 1)
        for line in text.splitlines()
        if line.startswith("Environment=")
    )
    command = section(SERVICE, "Service")["ExecStart"]
    for name, value in environment.items():
        command = command.replace(f"${{{name}}}", value).replace(f"${name}", value)
    program, form, *words = command.replace("%i", "web01").split()
    assert (program, form) == ("/usr/bin/virtceph", "snapshot")
    parser = Parser(shortsnapshot.USAGE)
    asked = shortsnapshot._parse(parser, words)
    shortsnapshot._check(parser, asked)
    assert (asked.vms, asked.at_once, asked.freeze) == (["web01"], 2, "preferred")
    assert not asked.allow_crash


def test_the_timer_spreads_the_vms_and_makes_up_for_what_was_missed() -> None:
    timer = section(TIMER, "Timer")
    assert timer["RandomizedDelaySec"] == "1h"
    assert timer["Persistent"] == "yes"
