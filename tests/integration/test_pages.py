"""What the pages for callers show is what happens: their commands are run, and answer as it says there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.integration.conftest import Site
from tests.integration.pages import Command, commands_of, differences
from tests.lab.guest import Guest
from tests.lab.pki import LabPki
from tests.lab.state import PROJECT

DOCS = PROJECT / "docs"


@pytest.fixture
def environment(
    site: Site,
    vm: Guest,
    pki: LabPki,
    stomp: tuple[str, int],
    https: tuple[str, int],
    tmp_path: Path,
) -> dict[str, str]:
    """As `.lab/env` has it."""
    vm.wait_for_agent()
    return {
        "PATH": f"{PROJECT}/.venv/bin:{os.environ['PATH']}",
        "VIRTCEPH_SOCKET": str(site.daemon.socket),
        "VIRTCEPH_STOMP": f"{stomp[0]}:{stomp[1]}",
        "VIRTCEPH_HTTPS": f"https://{https[0]}:{https[1]}",
        "VIRTCEPH_PKI": str(pki.folder),
        "LAB_VM": vm.uuid,
        "TMPDIR": str(tmp_path),
    }


@pytest.mark.parametrize("page", ["http.md", "engines.md"])
def test_every_command_of_the_page_answers_as_it_says(
    page: str, environment: dict[str, str]
) -> None:
    assert len(commands_of(DOCS / page)) >= 8
    assert "\n\n".join(differences(DOCS / page, environment, 300)) == ""


def test_a_page_that_says_something_else_is_found_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("x\n```console\n$ echo one\none\n$ A=1\n$ echo t\\\nwo $A\ntw…\n```\n")
    assert commands_of(page)[2] == Command("echo t\\\nwo $A", ["tw…"])
    assert differences(page, os.environ, 10) == []
    page.write_text("```console\n$ echo one\ntwo\n$ echo one; echo two\none\n```\n")
    assert len(differences(page, os.environ, 10)) == 2
