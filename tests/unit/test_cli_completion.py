"""The completion scripts, asked in the shells themselves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import virtceph
from tests.fakes.fake_daemon import FakeDaemon
from virtceph.cli.main import main
from virtceph.schema import load_contract
from virtceph.schema.commands import COMMANDS
from virtceph.schema.completion import completion_script

# In a shell that is not interactive the variable has to be set as readline would.
_ASK_BASH = r"""
source "$1"
COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
COMP_LINE=$2 COMP_POINT=${#2}
_virtceph
printf '%s\n' "${COMPREPLY[@]}"
"""
DOMAIN = "8e0d2c5a-7b1f-4c39-a3a5-6f2b90c1d402"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose `virtceph` is ours and speaks to a daemon with two VMs."""
    command = tmp_path / "bin" / "virtceph"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m virtceph.cli "$@"\n')
    command.chmod(0o755)
    vms = [
        {"name": "web", "vmId": DOMAIN},
        {"name": "we are"},
        {"name": f"w$(touch {tmp_path}/owned)"},
    ]
    answers = {
        "Host.getVMList": vms,
        "StorageDomain.list": [{"storageDomainID": DOMAIN}],
        "Host.getJobs": {DOMAIN: {"id": DOMAIN}},
        "VM.listConsistentSnapshots": [{"snapshotName": "daily-1"}, {"snapshotName": "other"}],
    }
    with FakeDaemon(tmp_path / "sock", answers) as daemon:
        yield {
            **os.environ,
            "PATH": f"{command.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(Path(virtceph.__file__).parents[1]),
            "VIRTCEPH_SOCKET": daemon.path,
            "HOME": str(tmp_path),
        }


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    for shell in ("bash", "zsh", "fish"):
        (tmp_path / shell).write_text(completion_script(load_contract(), shell))
    return tmp_path


def complete(scripts: Path, environment: dict[str, str], line: str) -> list[str]:
    words = ["bash", "--norc", "-c", _ASK_BASH, "bash", str(scripts / "bash"), line]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("virtceph V", ["VM", "Volume"]),
        ("virtceph VM f", ["freeze"]),
        ("virtceph --timeout 3 --socket /x VM fr", ["freeze"]),
        ("virtceph VM freeze ", ["vmID=", "timeout="]),
        ("virtceph VM freeze t", ["timeout="]),
        ("virtceph VM thaw vmID=x force=", ["true", "false"]),
        ("virtceph VM thaw force=f", ["false"]),
        ("virtceph VM freeze vmID=web", ["web"]),
        ("virtceph Volume list storageDomainID=8", [DOMAIN]),
        ("virtceph --h", ["--human"]),
        ("virtceph completion z", ["zsh"]),
        ("virtceph snap", ["snapshot", "snapshots"]),
        ("virtceph snapshot web", ["web"]),
        ("virtceph snapshot other web", ["web"]),
        ("virtceph snapshot web --keep-d", ["--keep-daily"]),
        ("virtceph snapshot --label ", [""]),
        ("virtceph restore web", ["web@"]),
        ("virtceph restore web@d", ["web@daily-1"]),
        ("virtceph jobs --w", ["--watch"]),
        ("virtceph jobs 8", [DOMAIN]),
        ("virtceph doctor --su", ["--suggest"]),
        ("virtceph Host ping2 x", [""]),
        ("virtceph Host echo -f ", [""]),
    ],
)
def test_bash_completes(
    scripts: Path, environment: dict[str, str], line: str, expected: list[str]
) -> None:
    assert complete(scripts, environment, line) == expected


def test_bash_quotes_names_and_never_runs_them(
    scripts: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    names = complete(scripts, environment, "virtceph VM freeze vmID=w")
    assert names[:2] == ["web", r"we\ are"]
    assert names[2].startswith(r"w\$\(touch")
    assert not (tmp_path / "owned").exists()


def test_bash_completes_quietly_when_no_daemon_answers(
    scripts: Path, environment: dict[str, str]
) -> None:
    environment["VIRTCEPH_SOCKET"] = "/nowhere"
    assert complete(scripts, environment, "virtceph VM freeze vmID=") == [""]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_the_zsh_script_is_zsh(scripts: Path) -> None:
    subprocess.run(["zsh", "-n", str(scripts / "zsh")], check=True)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("virtceph V", ["VM", "Volume"]),
        ("virtceph VM fr", ["freeze"]),
        ("virtceph VM freeze t", ["timeout="]),
        ("virtceph VM freeze vmID=we", ["vmID=web", "vmID=we are"]),
        ("virtceph VM thaw force=f", ["force=false"]),
        ("virtceph completion z", ["zsh"]),
        ("virtceph snap", ["snapshot", "snapshots"]),
        ("virtceph snapshot we", ["web", "we are"]),
        ("virtceph restore web@d", ["web@daily-1"]),
        ("virtceph jobs --wat", ["--watch"]),
    ],
)
def test_fish_completes(
    scripts: Path, environment: dict[str, str], line: str, expected: list[str]
) -> None:
    ask = f"source {scripts}/fish; complete -C '{line}'"
    done = subprocess.run(
        ["fish", "--no-config", "-c", ask],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(row.split("\t")[0] for row in done.stdout.splitlines()) == sorted(expected)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_command_prints_the_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert capsys.readouterr().out == completion_script(load_contract(), shell)


@pytest.mark.parametrize("name", [name for name, c in COMMANDS.items() if c.options])
def test_every_option_of_a_command_is_known_to_completion_and_the_other_way_round(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "-h"]) == 0
    text = capsys.readouterr().out
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.partition("exit code")[0]))
    assert told == set(COMMANDS[name].options) | ({"--help"} if "--help" in told else set())
