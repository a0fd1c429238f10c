"""What a daemon told by events, heard from its start to its end."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from tests.integration.recorder import Recording
from tests.lab.daemon import Daemon
from virtceph.client import ConnectionFailed
from virtceph.client.events import events

Event = dict[str, Any]


class Told:
    """Follows the events of one daemon on a thread of its own. `ended` says why it does so no more."""

    def __init__(self, daemon: Daemon, recording: Recording) -> None:
        self._recording, self._path = recording, str(daemon.socket)
        self._heard: list[Event] = []
        self._changed = threading.Condition()
        self.ended = ""
        threading.Thread(target=self._listen, name="told", daemon=True).start()

    def _listen(self) -> None:
        try:
            for event in events(self._path, "0"):
                with self._changed:
                    self._heard.append(event)
                    self._changed.notify_all()
                self._recording.heard(event)
        except ConnectionFailed as error:
            self.ended = str(error)

    def mark(self) -> int:
        """How many there are so far, to look from there on."""
        return len(self._heard)

    def since(self, mark: int, *names: str) -> list[Event]:
        """The events behind a mark, of these names if any are named. Does not wait."""
        return [e for e in self._heard[mark:] if not names or e["event"] in names]

    def wait(self, name: str, mark: int = 0, timeout_s: float = 60.0, **params: Any) -> Event:
        """The first event of a name behind a mark with these parameters. Blocks until it is told.

        Raises:
            AssertionError: it was not, in time.
        """
        end_s = time.monotonic() + timeout_s
        wanted = {
            key: str(value) if key.lower().endswith("id") else value
            for key, value in params.items()
        }
        with self._changed:
            while True:
                for event in self.since(mark, name):
                    if wanted.items() <= event["params"].items():
                        return event
                left_s = end_s - time.monotonic()
                told = json.dumps(self.since(mark)[-20:], indent=1)
                assert left_s > 0, f"{name} {wanted} was not told ({self.ended}); but: {told}"
                self._changed.wait(min(left_s, 1.0))
