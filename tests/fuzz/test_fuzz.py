"""Nothing that can be sent breaks the wire: fed for a while with what nobody would send."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS
from tests.lab.state import PROJECT

SECONDS = 10


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="no atheris: it is in the extra `fuzz`, and is not built for every Python",
)
@pytest.mark.parametrize("target", TARGETS)
def test_nothing_that_can_be_sent_breaks_the_wire(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, f"--seconds={SECONDS}"]
    done = subprocess.run(
        [*command, f"--folder={tmp_path}"],
        cwd=PROJECT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{PROJECT}:{PROJECT}/src"},
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-4000:]
    assert list((tmp_path / target / "found").iterdir()) == []
    runs = re.search(r"number_of_executed_units: *(\d+)", told)
    assert runs is not None, told[-2000:]
    assert int(runs[1]) > 500
