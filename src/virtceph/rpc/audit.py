"""The audit trail: who asked for what from where, and how it ended. One JSON object a line."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtceph.log import AUDIT, facts
from virtceph.rpc.callers import Caller
from virtceph.schema.spec import LEVELS

log = logging.getLogger(__name__)

_ARGUMENTS_CHARS = 4096
_MODE = 0o640


@dataclass(frozen=True)
class Asked:
    """One call of a verb. `arguments` are its decoded ones; a secret among them is a Sensitive, which shows
    only stars. `outcome` is `ok` or the name of an error."""

    caller: Caller
    verb: str
    level: str
    request_id: str
    arguments: Mapping[str, Any]
    outcome: str
    elapsed_s: float

    def line(self) -> str:
        """As it stands in the trail."""
        told = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "caller": self.caller.name,
            "level": self.caller.level,
            "from": self.caller.source,
            "verb": self.verb,
            "request": self.request_id,
            "arguments": _short(self.arguments),
            "outcome": self.outcome,
            "seconds": round(self.elapsed_s, 3),
        }
        return json.dumps(told, default=str, ensure_ascii=False)


@dataclass(frozen=True)
class TurnedAway:
    """Somebody who connected and stands in none of the lists of [access]: his name, and where he is."""

    name: str
    source: str

    def line(self) -> str:
        """As it stands in the trail: with the same names, of which most say nothing."""
        nobody = Caller(self.name, "", self.source)
        return Asked(nobody, "", "", "", {}, "TurnedAway", 0.0).line()


def _short(arguments: Mapping[str, Any]) -> Any:
    """The arguments as JSON has them, or the beginning of their text where that would be long."""
    text = json.dumps(dict(arguments), default=str, ensure_ascii=False)
    return json.loads(text) if len(text) <= _ARGUMENTS_CHARS else f"{text[:_ARGUMENTS_CHARS]}…"


class AuditTrail:
    """Writes to the log, under the name `virtceph.audit`, or to a file, of whose verbs from a level on. Used
    from any thread."""

    def __init__(self, path: str, least: str) -> None:
        self._least = LEVELS.index(least)
        self._path = Path(path) if path else None
        self._fd: int | None = None
        self._inode = 0
        # Else one thread closes the file that logrotate moved away while another is about to write to it, and
        # its line goes to whatever has that number next.
        self._lock = threading.Lock()
        # How many lines could not be written to the file.
        self.failures = 0

    def wants(self, level: str) -> bool:
        """Whether verbs of this level are told."""
        return LEVELS.index(level) >= self._least

    def tell(self, asked: Asked | TurnedAway) -> None:
        """Write one line. Blocks on the disk, where the trail is a file; what fails there is logged."""
        line = asked.line()
        if self._path is None:
            logging.getLogger(AUDIT).info("%s", line)
            return
        try:
            with self._lock:
                _write_all(self._open(self._path), line.encode() + b"\n")
        except OSError as error:
            with self._lock:
                self.failures += 1
            log.error("audit trail not written %s", facts(path=self._path, reason=error.strerror))
            logging.getLogger(AUDIT).info("%s", line)

    def _open(self, path: Path) -> int:
        """The file, opened again when logrotate has moved it away."""
        try:
            moved = self._fd is not None and path.stat().st_ino != self._inode
        except FileNotFoundError:
            moved = True
        if self._fd is None or moved:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _MODE)
            old, self._fd, self._inode = self._fd, fd, os.fstat(fd).st_ino
            if old is not None:
                os.close(old)
        return self._fd


def _write_all(fd: int, data: bytes) -> None:
    """A disk that becomes full takes the beginning first, and says so the second time."""
    while data:
        data = data[os.write(fd, data) :]
