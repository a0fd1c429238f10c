"""The manual pages: as the code is, and as the tools that read them want them."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from virtceph.cli import adopt, doctor, events, shortsnapshot
from virtceph.config import Config
from virtceph.manpages.__main__ import main, pages
from virtceph.manpages.helptext import read
from virtceph.manpages.optionpage import option_page
from virtceph.manpages.roff import Page, literal, prose
from virtceph.option import option
from virtceph.schema import load_contract

FOLDER = Path(__file__).parents[2] / "contrib/man"
PAGES = pages()
LINTS = {
    "groff": ["groff", "-man", "-ww", "-z", "-Tutf8"],
    "mandoc": ["mandoc", "-Tlint", "-Wall"],
    "man": ["man", "--warnings", "--encoding=UTF-8", "--local-file"],
}


def typed(name: str) -> str:
    """A page without roff's own marks."""
    text = re.sub(r"\\f[BR]|\\&", "", PAGES[name])
    return text.replace("\\-", "-").replace("\\(aq", "'").replace("\n", " ")


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_fresh(name: str) -> None:
    path = FOLDER / name
    fresh = path.is_file() and path.read_text("utf-8") == PAGES[name]
    assert fresh, f"contrib/man/{name} is stale; renew it: make generate"


def test_there_is_no_page_that_nobody_makes() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("tool", LINTS)
def test_the_tools_have_nothing_to_say_against_it(tool: str, name: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([*LINTS[tool], str(FOLDER / name)], capture_output=True, text=True)
    said = done.stdout if tool == "mandoc" else ""
    assert (done.returncode, done.stderr, said) == (0, "", "")


def test_every_verb_and_every_option_of_each_command_is_there() -> None:
    text = typed("virtceph.1")
    for verb in load_contract().verbs.values():
        assert verb.name.replace(".", " ") in text
    for told in (doctor.HELP, adopt.HELP, events.HELP, shortsnapshot.HELP):
        for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", told):
            assert word in text, word


def test_every_option_of_the_file_is_there_with_its_default() -> None:
    text = typed("virtcephd.toml.5")
    for section in dataclasses.fields(Config):
        assert f"[{section.name}]" in text
        if dataclasses.is_dataclass(instance := getattr(Config(), section.name)):
            for each in dataclasses.fields(instance):
                assert f".TP {each.name} " in text, each.name


@pytest.mark.parametrize("module", ["virtceph.daemon", "virtceph.guard"])
def test_every_option_of_the_programs_is_there(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    )
    text = typed("virtcephd.8")
    for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.stdout):
        assert word in text, word


@dataclass(frozen=True)
class Table:
    uuid: str
    monitors: list[str] = option([], "Where they are.")


@dataclass(frozen=True)
class Tables:
    things: list[Table] = dataclasses.field(default_factory=list, metadata={"name": "thing"})


def test_a_list_of_tables_is_told_as_toml_writes_it() -> None:
    text = option_page(Tables)
    assert '.SH "[[thing]]"' in text
    assert "(text; required)" in text
    assert "(list of text; default [])" in text


def test_a_help_text_is_taken_apart() -> None:
    text = (
        "usage: virtceph x A\n                B\n\nSome prose,\ngoing on.\n\n"
        "options:\n  --one A, --two B\n             both\n  -h  help\n             more\n\n"
        "exit code: 0 done,\n1 failed\n"
    )
    told = read(text)
    assert told.usage == "virtceph x A\n         B"
    assert told.prose == ["Some prose, going on."]
    assert told.terms == {"options": [("--one A, --two B", "both"), ("-h", "help more")]}
    assert told.notes == [("exit code", "0 done, 1 failed")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\\b", "a\\eb"),
        ("--x", "\\-\\-x"),
        ("it's", "it\\(aqs"),
        ("1…2", "1\\[u2026]2"),
    ],
)
def test_nothing_means_anything_to_roff(text: str, expected: str) -> None:
    assert literal(text) == expected


def test_no_line_begins_as_a_request_does() -> None:
    text = prose(". " * 200)
    assert not [line for line in text.split("\n") if line.startswith(".")]
    page = Page("x", 1, "0", "about")
    page.synopsis(".SH not a head")
    page.example("'br\n.br")
    assert "\n.SH not" not in page.text()
    assert "\n.br" not in page.text()
    assert "\n'br" not in page.text()


def test_code_is_bold() -> None:
    assert prose("say `--x` now") == "say \\fB\\-\\-x\\fR now"


def test_only_what_changed_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(PAGES)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == ""
