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
from tests.integration.test_short_forms import stop
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
    """The commands of a page's sessions."""
    return "\n".join(prompted(block) for block in blocks(page, "console"))


def prompted(block: str) -> str:
    """The commands of a session: each line after a prompt, with those that it goes on in."""
    commands: list[str] = []
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


def test_the_program_in_the_readme_takes_a_snapshot_under_a_freeze(
    shell: Callable[..., subprocess.CompletedProcess[str]], site: Site
) -> None:
    (program,) = blocks("README.md", "python")
    done = shell(f"{sys.executable} - <<'END'\n{program.replace('lab-a', 'shared-a')}END")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    site.volume("deleteSnapshot", "shared-a", snapshotName="wednesday")


def test_a_day_is_as_the_page_says(
    shell: Callable[..., subprocess.CompletedProcess[str]], site: Site, kept: Guest
) -> None:
    """Its snapshot, and its way back, by their words; figures and names differ."""
    first, second = blocks("docs/daily.md", "console")
    command, told, *_ = first.splitlines()
    done = shell(command.removeprefix("$ ").replace("web01", kept.name))
    assert shape(done.stdout.splitlines()[0], kept) == shape(told, kept)
    made = done.stdout.partition(":")[0]
    stop(site, kept)
    prompts = [line for line in second.splitlines() if line.startswith("$ virtceph")]
    back = prompts[0].removeprefix("$ ").replace("web01@daily-20261124-030000", made)
    # At a terminal, as it asks there only.
    done = shell(f"echo y | script -qec '{back}' /dev/null")
    assert done.returncode == 0, done.stderr
    said = [shape(line, kept) for line in done.stdout.splitlines() if line]
    words = second[second.index("CANNOT") :].replace("[y/N] y", "[y/N]")
    for line in filter(None, words.splitlines()):
        assert any(shape(line, kept) in one for one in said), (shape(line, kept), "\n".join(said))


def shape(line: str, guest: Guest) -> str:
    """A line without what differs from one host and moment to the next."""
    for index, disk in enumerate(guest.spec.disks):
        line = line.replace(getattr(disk, "image", "-"), f"web01-{'ab'[index]}")
    line = line.replace(guest.name, "web01").replace(
        "(…)", "(2 file systems on these disks were frozen throughout)"
    )
    line = re.sub(r"[\d.]+ (h|min|s|ms)\b( \d+ (min|s)\b)?", "0 s", line)
    return re.sub(r"[0-9]+", "0", line)


# Those of the others need what they did before, and are run as a whole.
WHOLE = ("quickstart.md", "backup.md")
PAGES = sorted(
    path.relative_to(PROJECT) for path in (PROJECT / "docs").glob("*.md") if path.name not in WHOLE
)
# What needs no daemon, and ends by what it finds: see test_doctor and test_adopt_secret.
OWN = ("doctor", "adopt-secret", "pki")


@pytest.mark.parametrize("page", [Path("README.md"), *PAGES], ids=str)
def test_every_command_of_every_page_is_one_that_the_program_takes(
    page: Path, tmp_path: Path
) -> None:
    """Typed where no daemon answers: a command line that is wrong ends with 2 before that is found out."""
    log, programs = tmp_path / "log", tmp_path / "bin"
    programs.mkdir()
    for name in ("curl", "systemctl", "ceph", "virsh", "make", "sudo", "apt-get", "install"):
        (programs / name).symlink_to("/bin/true")
    ours = f"{sys.executable} -m virtceph.cli"
    (programs / "virtceph").write_text(
        "#!/bin/sh\n"
        f"case $1 in {'|'.join(OWN)}) exit 0;; esac\n"
        f'{ours} "$@" >/dev/null 2>{tmp_path}/told\n'
        f'[ $? = 1 ] || {{ echo "$@"; cat {tmp_path}/told; }} >>{log}\n'
    )
    (programs / "virtceph").chmod(0o755)
    ident = str(uuid.uuid4())
    environment = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "PYTHONPATH": str(PROJECT / "src"),
        "VIRTCEPH_SOCKET": str(tmp_path / "nobody"),
        **dict.fromkeys(("LAB_SD", "LAB_VM", "SD"), ident),
        **dict.fromkeys(("VM", "DISK", "OUT"), "x"),
    }
    (tmp_path / "secrets.json").write_text('{"secrets": []}')
    for block in commands_in(page):
        subprocess.run(
            ["bash", "-c", block],
            env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
        )  # fmt: skip
    assert not log.exists(), log.read_text()


def commands_in(page: Path) -> list[str]:
    """Each block of commands of a page; of a session, what stands behind its prompts."""
    text = (PROJECT / page).read_text()
    found = re.findall(r"^```(sh|console|)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [
        block if kind == "sh" else prompted(block)
        for kind, block in found
        if kind == "sh" or "$ " in block
    ]
