"""Runs this project's tests in another release of Debian, in a folder: `python -m tests.package.release`.

The release's own libvirt, QEMU, Ceph and Python; this host's kernel. Nothing of it stays but a cache of what
was downloaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.lab import state
from tests.package.chroot import Chroot

SOURCE = "/root/virtceph"
# Where this host's network has an authority of its own, pip is told of it in there too.
_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE")


def main(arguments: list[str] | None = None) -> int:
    """Run pytest there; its exit status. Blocks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", help="a release of Debian, as trixie")
    parser.add_argument("runner", help="the module that runs them: pytest or tests.twice")
    parser.add_argument("tests", nargs="*", help="which tests; all of tests/integration if none")
    asked = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="virtceph-test-", dir=state.STATE_PARENT))
    folder.chmod(0o711)
    try:
        root = folder / asked.release
        root.mkdir(mode=0o755)
        chroot = Chroot.make(root, asked.release)
        try:
            return _run(chroot, asked.runner, asked.tests)
        finally:
            chroot.close()
    finally:
        state.remove(folder)


def _run(chroot: Chroot, runner: str, tests: list[str]) -> int:
    _copy_tree(chroot.root / SOURCE[1:])
    environment = {"CI": os.environ.get("CI", "")}
    for name in _VARIABLES:
        if authority := os.environ.get(name):
            shutil.copy(authority, chroot.root / "root" / name)
            environment[name] = f"/root/{name}"
    # For `make` itself: everything else is installed by the project's own files.
    chroot.run("sh", "-c", "apt-get update -qq && apt-get install -y -qq make", **environment)
    for target in ("packages", "venv"):
        print(f"make {target}", flush=True)
        chroot.run("make", "-C", SOURCE, target, timeout_s=1800, **environment)
    modules = [runner, "-q", *tests] if tests else ["tests.parts", runner, "tests/integration"]
    argv = chroot.enter("sh", "-c", f"cd {SOURCE} && exec .venv/bin/python -m {' '.join(modules)}")
    return subprocess.run(argv, env=chroot.environment(**environment), check=False).returncode


def _copy_tree(target: Path) -> None:
    """What git knows of this tree, as it is now."""
    target.mkdir(parents=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=state.PROJECT, capture_output=True, check=True
    )
    argv = ["xargs", "-0", "cp", "--parents", "-t", str(target)]
    subprocess.run(argv, cwd=state.PROJECT, input=listed.stdout, check=True)


if __name__ == "__main__":
    sys.exit(main())
