"""Prometheus' own checker of rules and metrics: the host's, or unpacked from its Debian package.

The package is not installed: it would start a server.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.lab.guest_build import download_and_unpack
from tests.lab.state import cache_folder, keep_fresh


def promtool() -> Path:
    """The program. Blocks: nothing, or some seconds on the network.

    Raises:
        LabError: it is neither here nor to be had.
    """
    installed = shutil.which("promtool")
    if installed is not None:
        return Path(installed)
    folder = cache_folder("promtool")
    program = folder / "promtool"
    if not program.exists():
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as name:
            work = Path(name)
            download_and_unpack(_package(), work, work / "unpacked")
            (work / "unpacked/usr/bin/promtool").rename(program)
    keep_fresh(folder)
    return program


def _package() -> str:
    """Which of Debian's packages has it: since 13 one of its own."""
    argv = ["apt-cache", "pkgnames", "promtool"]
    known = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    return "promtool" if "promtool" in known else "prometheus"
