"""Pages whose commands are run: each line with `$` in a block of ```console, and what it answers."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.state import PROJECT

# What differs from run to run.
ANYTHING = "…"
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_END = "----- end of a command of this page -----"


@dataclass
class Command:
    """A command, and the lines that it answers with."""

    text: str
    answer: list[str] = field(default_factory=list)

    def pattern(self) -> re.Pattern[str]:
        """What its output has to be. A line of `…` alone stands for any lines, or none."""
        lines = [r"(?:.*\n)*" if line == ANYTHING else f"{_wanted(line)}\n" for line in self.answer]
        return re.compile("".join(lines))


def _wanted(line: str) -> str:
    return ".*".join(map(re.escape, line.split(ANYTHING)))


def commands_of(page: Path) -> list[Command]:
    """Every command of a page, in its order. A line that ends in a backslash goes on in the next one."""
    found: list[Command] = []
    for block in _BLOCK.findall(page.read_text()):
        goes_on = False
        for line in block.splitlines():
            if goes_on:
                found[-1].text += f"\n{line}"
            elif line.startswith("$ "):
                found.append(Command(line[2:]))
            else:
                found[-1].answer.append(line)
            goes_on = (goes_on or line.startswith("$ ")) and line.endswith("\\")
    return found


def differences(page: Path, environment: Mapping[str, str], timeout_s: float) -> list[str]:
    """Run a page from its top to its end in one shell; what was otherwise than it says. Blocks."""
    commands = commands_of(page)
    script = "".join(f"{command.text}\necho; echo '{_END}'\n" for command in commands)
    done = subprocess.run(
        ["bash", "-c", script], env=dict(environment), cwd=PROJECT, timeout=timeout_s,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    outputs = done.stdout.split(f"\n{_END}\n")
    assert len(outputs) == len(commands) + 1, done.stdout
    told = []
    for command, output in zip(commands, outputs, strict=False):
        ended = output if not output or output.endswith("\n") else f"{output}\n"
        if not command.pattern().fullmatch(ended):
            told.append(f"$ {command.text}\n{output}\ninstead of\n" + "\n".join(command.answer))
    return told
