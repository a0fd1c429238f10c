"""What is generated from the contract is as the contract is now."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from virtceph.schema import load_contract
from virtceph.schema.markdown import RENEW
from virtceph.schema.render import generated, main

TOP = Path(__file__).parents[2]
FILES = generated(load_contract(), TOP / "docs")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TOP)))
def test_the_generated_file_is_fresh(path: Path) -> None:
    fresh = path.is_file() and path.read_text("utf-8") == FILES[path]
    assert fresh, f"{path.relative_to(TOP)} is stale; renew it: {RENEW}"


def test_every_link_of_the_pages_leads_somewhere() -> None:
    pages = {path.name: text for path, text in FILES.items() if path.suffix == ".md"}
    anchors = {
        name: {re.sub(r"[^a-z0-9_ -]", "", title.lower()) for title in headings(text)}
        for name, text in pages.items()
    }
    for name, text in pages.items():
        for page, anchor in re.findall(r"\]\(([a-z.]*)#([^)]*)\)", text):
            assert anchor in anchors[page or name], f"{name}: {page}#{anchor}"


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", text, re.MULTILINE)


def test_the_command_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert RENEW in capsys.readouterr().err
