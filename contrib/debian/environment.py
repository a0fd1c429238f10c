"""Lays out the private environment: this project, and what of its dependencies the distribution lacks.

usage: environment.py [--all] SOURCE FOLDER

FOLDER becomes /usr/lib/virtceph on the host: a virtual environment without pip, which has the distribution's
packages too. With --all everything comes from PyPI: the distribution's packages are for another Python.
Stdlib only; needs PyPI, as the host later does not.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

PLACE = "/usr/lib/virtceph"
# Those that control names as packages of the distribution.
DISTRIBUTION = {"cryptography", "libvirt-python", "pyyaml"}
SCRIPT = f"""#!{PLACE}/bin/python3 -I
import sys

from {{module}} import {{function}}

sys.exit({{function}}())
"""


def lay_out(source: Path, folder: Path, spared: set[str]) -> None:
    """Fill the folder with all but the packages that are spared. Blocks on PyPI."""
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    site = folder / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    names = [one for one in project["dependencies"] if _name(one) not in spared]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--target", str(site)]
    pip += ["--disable-pip-version-check", "--root-user-action=ignore", "--prefer-binary"]
    # In an environment of its own, whatever of setuptools the distribution has.
    pip += ["--use-pep517"]
    subprocess.run([*pip, *names], check=True)
    subprocess.run([*pip, "--no-deps", "--upgrade", str(source)], check=True)
    for scripts in site.glob("bin"):
        _remove(scripts)
    _write_environment(folder)
    for name, target in project["scripts"].items():
        module, _, function = target.partition(":")
        script = folder / "bin" / name
        script.write_text(SCRIPT.format(module=module, function=function))
        script.chmod(0o755)
    _clean(site)


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


def _write_environment(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin/python3").symlink_to("/usr/bin/python3")
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = true\n")


def _clean(site: Path) -> None:
    """Leave out what only developers of those packages need."""
    for pattern in ("**/__pycache__", "**/tests", "**/test"):
        for found in list(site.glob(pattern)):
            _remove(found)
    for pattern in (
        "**/*.c",
        "**/*.h",
        "**/*.pyx",
        "**/*.pxd",
        "**/*.pyi",
        "**/direct_url.json",
        "**/_testcapi.*",
    ):
        for found in list(site.glob(pattern)):
            found.unlink()
    for found in site.rglob("*"):
        if found.is_file():
            found.chmod(0o644)


def _remove(folder: Path) -> None:
    for child in folder.iterdir():
        if child.is_dir() and not child.is_symlink():
            _remove(child)
        else:
            child.unlink()
    folder.rmdir()


if __name__ == "__main__":
    *options, source, folder = sys.argv[1:] if len(sys.argv) > 2 else sys.exit(__doc__)
    if options not in ([], ["--all"]):
        sys.exit(__doc__)
    lay_out(Path(source), Path(folder), set() if options else DISTRIBUTION)
