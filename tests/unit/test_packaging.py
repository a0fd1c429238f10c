"""The packages' recipes name what is there, and the version that is."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from virtceph import __version__

PROJECT = Path(__file__).parents[2]
SPEC = PROJECT / "contrib/rpm/virtceph.spec"
RECIPES = {"spec": SPEC, "rules": PROJECT / "contrib/debian/rules"}


@pytest.mark.parametrize("name", RECIPES)
def test_every_file_that_a_recipe_takes_is_there(name: str) -> None:
    named = re.findall(r"\bcontrib/[\w./*@\[\]-]+", RECIPES[name].read_text())
    assert len(named) > 10
    for one in named:
        assert list(PROJECT.glob(one)), one


def test_every_unit_command_and_page_gets_into_the_package() -> None:
    for recipe in RECIPES.values():
        text = recipe.read_text()
        for kind in ("*.service", "*.socket", "*.timer"):
            assert f"contrib/systemd/{kind}" in text
        for command in tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"][
            "scripts"
        ]:
            assert command in text
        assert "contrib/man/*" in text


def test_the_specs_version_is_the_projects() -> None:
    assert re.search(r"^Version: +(.*)$", SPEC.read_text(), re.MULTILINE)[1] == __version__  # type: ignore[index]


@pytest.mark.skipif(shutil.which("rpmspec") is None, reason="rpmspec is not installed")
def test_the_spec_is_one() -> None:
    argv = ["rpmspec", "-q", "--qf", "%{name} %{version}\n", str(SPEC)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"virtceph {__version__}\n"), done.stderr
