"""The units of the daemon and its guard, as systemd itself reads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.package.unit import settings

UNITS = Path(__file__).parents[2] / "contrib/systemd"
SERVICES = ("virtcephd.service", "virtceph-guard.service")
# What every unit stands in, and what these are ordered by.
OTHERS = (
    *("sysinit.target", "basic.target", "shutdown.target", "sockets.target", "network.target"),
    *("multi-user.target", "network-online.target", "network-pre.target"),
)
# In tenths, as systemd-analyze takes it: an exposure of 2.0.
THRESHOLD = 20
analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@analyze
@pytest.mark.parametrize("unit", [*SERVICES, "virtcephd.socket"])
def test_systemd_has_nothing_to_say_against_them(tmp_path: Path, unit: str) -> None:
    folder, programs = tmp_path / "etc/systemd/system", tmp_path / "usr/bin"
    folder.mkdir(parents=True)
    programs.mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    for name in ("virtcephd", "virtceph-guard", "sh"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    for name in (*SERVICES, "virtcephd.socket"):
        shutil.copy(UNITS / name, folder / name)
    for name in OTHERS:
        (folder / name).write_text(f"[Unit]\nDescription={name}\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", f"--root={tmp_path}", "--man=no", unit],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "virtceph" in line] == []
    assert done.returncode == 0, done.stderr


@analyze
@pytest.mark.parametrize("unit", SERVICES)
def test_they_are_exposed_no_more_than_they_must(unit: str) -> None:
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    argv += [f"--threshold={THRESHOLD}", str(UNITS / unit)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_the_daemon_comes_between_libvirt_and_its_guests() -> None:
    says = settings(UNITS / SERVICES[0])
    after = " ".join(says["After"]).split()
    assert {"libvirtd.service", "virtqemud.service", "virtsecretd.socket"} <= set(after)
    assert says["Before"] == ["libvirt-guests.service"]


def test_a_crashed_daemons_keys_are_cleared() -> None:
    assert settings(UNITS / SERVICES[0])["ExecStopPost"] == ["-/usr/bin/virtcephd --clear-secrets"]


def test_the_guard_outlives_the_daemon_and_the_host_s_need_of_memory() -> None:
    says = settings(UNITS / SERVICES[1])
    bound = [key for key in ("Requires", "BindsTo", "PartOf") if key in says]
    assert bound == []
    assert (says["OOMScoreAdjust"], says["Restart"]) == (["-900"], ["always"])
    assert says["StartLimitIntervalSec"] == ["0"]


def test_the_daemons_user_is_one_that_libvirt_lets_in() -> None:
    lines = (UNITS / "virtceph.sysusers").read_text().splitlines()
    assert "m virtceph libvirt" in lines
    for unit in SERVICES:
        assert settings(UNITS / unit)["SupplementaryGroups"] == ["libvirt"]
