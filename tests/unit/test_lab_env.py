"""The shell file that tells how to reach the lab."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.lab.stack import write_env
from tests.lab.state import PROJECT


class Reached:
    """As a lab: what it tells."""

    def environment(self) -> dict[str, str]:
        return {"LAB_VM": "a b"}


def test_it_puts_the_products_commands_first_and_keeps_the_rest_of_the_path(tmp_path: Path) -> None:
    write_env(Reached(), tmp_path / "env")  # type: ignore[arg-type]
    command = f'PATH=/one:/two; . {tmp_path}/env; echo "$PATH $LAB_VM"'
    told = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)
    assert told.stdout == f"{PROJECT}/.venv/bin:/one:/two a b\n"
