"""The argument lists and environments of all processes, searched for keys as long as the run lasts."""

from __future__ import annotations

import base64
import os
import threading
from pathlib import Path

_PAUSE_S = 0.05
# A process that is new may not have become what it was started for. After that it is looked at seldom: all of
# them each time would take a processor of its own.
_NEW, _SELDOM = 6, 40


def forms(key: bytes) -> list[bytes]:
    """How a key could show: as it is, in base64, in hex, as Python prints bytes."""
    return [key, base64.b64encode(key), key.hex().encode(), repr(key).encode()]


class Sampled:
    """Where a key was seen. Only that is kept, and not the text it stood in."""

    def __init__(self) -> None:
        self._wanted: list[bytes] = []
        self.hits: set[str] = set()
        # How many texts were searched.
        self.searched = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="sampled", daemon=True)

    def look_for(self, key: bytes) -> None:
        """Search for this one too from now on."""
        self._wanted = [*self._wanted, *forms(key)]

    def begin(self) -> None:
        """Begin to search. Asked for by the fixtures of each folder: the first one begins."""
        if self._thread.ident is None:
            self._thread.start()

    def end(self) -> None:
        """Search no more. Blocks for a moment."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        ages: dict[str, int] = {}
        while not self._stop.wait(_PAUSE_S):
            there = [name for name in os.listdir("/proc") if name.isdigit()]
            ages = {pid: ages.get(pid, -1) + 1 for pid in there}
            for pid, age in ages.items():
                if age < _NEW or not age % _SELDOM:
                    self._search(Path("/proc", pid))

    def _search(self, process: Path) -> None:
        for name in ("cmdline", "environ"):
            try:
                text = (process / name).read_bytes()
            except OSError:
                continue  # it is gone
            self.searched += 1
            if any(form in text for form in self._wanted):
                self.hits.add(f"{name} of {_program(process)}")


def _program(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return process.name


# One for the whole run, since fixtures of several folders register keys.
SAMPLED = Sampled()
