"""What the documents tell a reader to type, typed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Site
from tests.integration.datawork import remove_all
from tests.lab.guest import Guest
from tests.lab.stack import POOL
from tests.lab.state import PROJECT

# Of the README's session: refused, and that is its point.
REFUSED = ("virtceph Volume delete storageDomainID=$LAB_SD volumeName=lab-a",)


def blocks(page: str, kind: str) -> list[str]:
    text = (PROJECT / page).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(site: Site, vm: Guest, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs shell commands with the lab's variables, where `virtceph` is this tree's."""
    program = tmp_path / "virtceph"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m virtceph.cli "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT / "src"),
        "VIRTCEPH_SOCKET": str(site.daemon.socket),
        "LAB_SD": str(site.storage_domain_id),
        "LAB_VM": vm.uuid,
    }

    def run(commands: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", f"set -eo pipefail\n{commands}"],
            env={**environment, **more}, capture_output=True, text=True, check=False, timeout=180,
        )  # fmt: skip

    return run


@pytest.fixture
def cleared(site: Site, vm: Guest) -> Iterator[None]:
    """No sets of it and no restored volumes are left."""
    yield
    for found in site.call("VM.listConsistentSnapshots", vmID=vm.uuid):
        job = uuid.uuid4()
        names = {"vmID": vm.uuid, "snapshotName": found["snapshotName"]}
        site.call("VM.deleteConsistentSnapshot", **names, jobUUID=job)
        site.client.wait_for_job(job, 60)
    remove_all(site.ceph, POOL, "drill-")


def test_backup_and_drill_are_as_the_page_says(
    shell: Callable[..., subprocess.CompletedProcess[str]],
    site: Site,
    vm: Guest,
    folder: Path,
    cleared: None,
) -> None:
    for block in blocks("docs/backup.md", "sh"):
        done = shell(
            block, VM=vm.name, SD=str(site.storage_domain_id), DISK="shared-a", OUT=str(folder)
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
    assert (folder / "shared-a.qcow2").stat().st_size > 0
    vm.wait_for_records(3)


def session(page: str) -> str:
    """The commands of a page's session: each line after a prompt, with those that it goes on in."""
    commands = []
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                commands.append(line[2:])
            elif commands and commands[-1].endswith("\\"):
                commands[-1] += f"\n{line}"
    return "\n".join(commands)


def test_the_session_of_the_readme_is_as_it_says(
    shell: Callable[..., subprocess.CompletedProcess[str]], site: Site, vm: Guest, cleared: None
) -> None:
    commands = session("README.md").splitlines()
    assert len(commands) >= 6
    for command in commands:
        if ".lab/env" in command:
            continue
        told = command.replace("lab-guest", vm.name).replace("lab-a", "shared-a")
        done = shell(told)
        if command in REFUSED:
            assert (done.returncode, "code=5024" in done.stderr) == (1, True), done.stderr
        else:
            assert done.returncode == 0, (told, done.stderr)
    site.volume("deleteSnapshot", "shared-a", snapshotName="monday")
