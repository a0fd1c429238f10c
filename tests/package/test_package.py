"""The package on a clean Debian: installed, looked at, put to use, upgraded, purged; the VMs go on."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.waiting import until
from tests.lab.guest import is_frozen
from tests.package.chroot import Chroot
from tests.package.conftest import RECORD, Host, asked, enabled, install, steps
from tests.package.unit import run_once

CONFIG = "etc/virtceph/virtcephd.toml"
SERVICES = ["virtceph-guard.service", "virtcephd.service", "virtcephd.socket"]


def test_it_needs_no_compiler_and_nothing_from_pypi(chroot: Chroot) -> None:
    for program in ("gcc", "cc", "pip", "pip3"):
        assert chroot.run("which", program, check=False).returncode != 0
    assert "0.1.0" in chroot.run("virtceph", "--version").stdout
    assert "0.1.0" in chroot.run("virtcephd", "--version").stdout
    assert chroot.run("virtcephd", "--print-config").stdout.startswith("# virtcephd.toml")


def test_its_installation_starts_and_enables_nothing(chroot: Chroot) -> None:
    # A daemon that starts clears secrets: on a host of another agent's, that agent's.
    assert "--system daemon-reload" in (chroot.root / RECORD).read_text().splitlines()
    assert asked(chroot) == []
    assert enabled(chroot) == []


def test_lintian_has_nothing_to_say(package: Path) -> None:
    argv = ["lintian", "--fail-on", "error,warning", "--tag-display-limit", "0", str(package)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout


def test_its_files_belong_to_root_and_its_folders_to_its_user(chroot: Chroot) -> None:
    told = chroot.run("stat", "-c", "%n %U:%G %a", "/var/lib/virtceph", f"/{CONFIG}")
    assert told.stdout.splitlines() == [
        "/var/lib/virtceph virtceph:virtceph 711",
        f"/{CONFIG} root:root 644",
    ]
    # polkit and a socket of the group's: libvirt lets it in either way.
    assert "libvirt" in chroot.run("id", "-nG", "virtceph").stdout.split()
    rules = (chroot.root / "usr/share/polkit-1/rules.d/50-virtceph.rules").read_text()
    assert 'subject.user == "virtceph"' in rules
    assert chroot.run("find", "/usr/lib/virtceph", "!", "-user", "root").stdout == ""


# The tests below are a host's life, one after the other.


def test_the_doctor_tells_each_truth_before_anything_is_configured(host: Host) -> None:
    done = host.virtceph("doctor", "--json", check=False)
    told = json.loads(done.stdout)
    assert done.returncode == 1, done.stdout
    rows = {row["name"]: row for row in told["vms"]}
    assert {name: row["snapshot"] for name, row in rows.items()} == {
        "web01": "filesystem",
        "mute": "crash",
        "silent": "crash",
    }
    found = {(f["subject"], f["code"]) for f in told["findings"]}
    assert {("vm mute", "agent-absent"), ("vm silent", "agent-silent")} <= found
    assert (f"secret {host.secret}", "secret-persistent") in found
    assert not {code for subject, code in found if subject == "vm web01"} & {
        "agent-absent",
        "agent-silent",
        "agent-disconnected",
    }


def test_the_quick_start_leads_to_a_consistent_snapshot_word_by_word(host: Host) -> None:
    first, *rest = steps()
    assert "apt-get install" in first
    for block in rest:
        for line in block.splitlines():
            if line.startswith("systemctl "):
                systemctl(host, line.split()[3:])
        commands = "\n".join(x for x in block.splitlines() if not x.startswith("systemctl "))
        done = host.chroot.run("bash", "-c", f"set -e\n{commands}", check=False)
        # The doctor has something to say of these VMs.
        assert done.returncode == (1 if commands == "virtceph doctor" else 0), (block, done)
    told = json.loads(host.virtceph("snapshots", "web01", "--json").stdout)
    assert told[0]["snapshotName"] == "first"
    assert told[0]["consistency"] == "filesystem"
    # Nothing that libvirt keeps on the disk is left.
    assert not list((host.libvirtd.folder / "etc/secrets").glob("*"))
    # The two others are told for what they are.
    for name in ("mute", "silent"):
        assert host.virtceph("snapshot", name, "--name", "first", check=False).returncode != 0


def systemctl(host: Host, units: list[str]) -> None:
    """What `systemctl enable --now` does, by whoever is no systemd."""
    host.chroot.run("systemctl.real", "enable", *units, SYSTEMD_OFFLINE="1")
    for unit in units:
        name, _, kind = unit.rpartition(".")
        if kind == "service":
            {"virtcephd": host.daemon, "virtceph-guard": host.guard}[name].start()
        elif kind == "timer":
            template, _, instance = name.partition("@")
            run_once(host.chroot, f"{template}@.service", instance)
        # The daemon makes the socket that nobody passes to it.


def is_connected(host: Host) -> bool:
    return bool(json.loads(host.virtceph("StorageDomain", "list").stdout))


def restart_daemon(host: Host) -> None:
    host.daemon.stop()
    host.daemon.start()


def crash_daemon(host: Host) -> None:
    host.daemon.kill()
    assert host.libvirtd.secret_usages() == []
    host.daemon.start()


def restart_guard(host: Host) -> None:
    host.guard.kill()
    host.guard.start()


def restart_libvirtd(host: Host) -> None:
    host.libvirtd.kill()
    host.libvirtd.restart()
    host.expose()
    until(lambda: host.libvirtd.secret_usages() == ["ovirt/web"], 10)


def reboot(host: Host) -> None:
    """All state in /run is gone. The VMs of a lab go on: their host is another."""
    host.daemon.kill()
    host.guard.kill()
    host.chroot.reboot()
    host.guard.start()
    host.daemon.start()


@pytest.mark.parametrize(
    "happens", [restart_daemon, crash_daemon, restart_guard, restart_libvirtd, reboot]
)
def test_a_vm_with_a_configured_key_is_served_after(
    host: Host, happens: Callable[[Host], Any]
) -> None:
    happens(host)
    until(lambda: is_connected(host), 30)
    assert host.libvirtd.secret_usages() == ["ovirt/web"]
    assert host.is_consistent(f"after-{happens.__name__}")
    host.web01.wait_for_records(3)


def test_an_upgrade_keeps_a_lease_that_is_open(host: Host, build: Callable[[str], Path]) -> None:
    newer = build("0.1.1")
    host.virtceph("VM", "freeze", f"vmID={host.web01.uuid}", "timeout=90")
    before = asked(host.chroot)
    install(host.chroot, newer)
    # What does not run, try-restart does not start.
    restarted = "try-restart virtceph-guard.service virtcephd.service"
    assert asked(host.chroot)[len(before) :] == [restarted]
    assert enabled(host.chroot) == sorted([*SERVICES, "virtceph-snapshot@web01.timer"])
    # As that has systemd do it.
    host.guard.kill()
    host.guard.start()
    host.daemon.stop()
    assert not is_frozen(host.web01.domain), "stopped in order, it thaws what it froze"
    host.daemon.start()
    host.virtceph("VM", "freeze", f"vmID={host.web01.uuid}", "timeout=90")
    host.daemon.kill()
    host.daemon.start()
    status = json.loads(host.virtceph("VM", "getFreezeStatus", f"vmID={host.web01.uuid}").stdout)
    assert (status["guest"], "lease" in status) == ("frozen", True), status
    host.virtceph("VM", "thaw", f"vmID={host.web01.uuid}")
    there = host.chroot.run("dpkg-query", "-W", "-f", "${Version}", "virtceph").stdout
    assert there == "0.1.1-1"
    # What the operator wrote is as it was.
    assert str(host.secret) in (host.chroot.root / CONFIG).read_text()
    assert host.is_consistent("after-upgrade")


def test_a_purge_leaves_what_somebody_exported_and_nothing_else(host: Host) -> None:
    image = host.chroot.root / "var/lib/virtceph/exchange" / f"{uuid.uuid4()}.raw"
    image.write_bytes(b"somebody's disk")
    host.daemon.stop()
    host.guard.stop()
    before = asked(host.chroot)
    done = host.chroot.run("apt-get", "purge", "-y", "-qq", "virtceph")
    assert "files are left in /var/lib/virtceph" in done.stdout + done.stderr
    assert image.read_bytes() == b"somebody's disk"
    assert asked(host.chroot)[len(before) :] == [
        "stop virtceph-snapshot@*.timer virtcephd.socket virtcephd.service",
        "stop virtceph-guard.service",
    ]
    assert enabled(host.chroot) == []
    left = host.chroot.run("find", "/", "-xdev", "-path", "*virtceph*", "-not", "-path", "/proc/*")
    ours = [path for path in left.stdout.splitlines() if not path.startswith("/var/lib/virtceph")]
    # The administrator's key, which the configuration named, is the administrator's.
    expected = ("/etc/virtceph", "/root/virtceph", "/var/notify", "/var/log", "/var/cache")
    assert [path for path in ours if not path.startswith(expected)] == []
    host.web01.wait_for_records(3)
