"""What was seen on the wire during the run: which verbs answered, and with which errors."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from virtceph.client import ServerError
from virtceph.client.client import Client


class Recording:
    """Pairs of verb and outcome (`ok`, an error's name, or `job:` and an error's name), and every
    reply as text."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, str]] = set()
        self.replies: list[str] = []
        # The names of events that were told.
        self.events: set[str] = set()
        # Not the process's number, which may come again within one run of all parts.
        self._ident = uuid.uuid4()
        # By its id, the verb that started a job.
        self._starters: dict[str, str] = {}

    def note(self, method: str, params: dict[str, Any], answer: Any) -> None:
        if "jobUUID" in params:
            self._starters.setdefault(str(params["jobUUID"]), method)
        self.replies.append(json.dumps(answer))
        if not isinstance(answer, dict):
            return
        error = answer.get("error")
        self.seen.add((method, "ok" if error is None else error["data"]["error"]))
        if method == "Host.getJobs" and error is None:
            for job in answer["result"].values():
                starter = self._starters.get(job["id"])
                if "error" in job and starter is not None:
                    self.seen.add((starter, f"job:{job['error']['data']['error']}"))

    def keep(self, folder: Path) -> None:
        """Write down what was seen, but for the replies, in a file of its own."""
        (folder / f"{self._ident}.json").write_text(
            json.dumps({"seen": sorted(self.seen), "events": sorted(self.events)})
        )

    @classmethod
    def of_all(cls, kept: Iterable[Path]) -> Recording:
        """What was seen by one or the other that kept it."""
        made = cls()
        for path in kept:
            found = json.loads(path.read_text())
            made.seen |= {(method, outcome) for method, outcome in found["seen"]}
            made.events |= set(found["events"])
        return made

    def heard(self, event: dict[str, Any]) -> None:
        """An event that a daemon told."""
        self.events.add(event["event"])
        self.replies.append(json.dumps(event))


RECORDING = Recording()
"""Of the whole run."""


class RecordingClient(Client):
    """The client library, with a look at each exchange."""

    def __init__(self, path: str, recording: Recording, *, timeout_s: float = 60.0) -> None:
        super().__init__(path, timeout_s=timeout_s)
        self._recording = recording

    def _post(self, request: Any, timeout_s: float | None, what: str) -> Any:
        answer = super()._post(request, timeout_s, what)
        requests: Iterable[Any] = request if isinstance(request, list) else [request]
        answers = answer if isinstance(answer, list) else [answer]
        for asked, told in zip(requests, answers, strict=False):
            self._recording.note(asked["method"], asked.get("params", {}), told)
        return answer


def error_of(call: Any, /, *args: Any, **kwargs: Any) -> ServerError:
    """The ServerError that a call raises; an AssertionError when it succeeds."""
    try:
        result = call(*args, **kwargs)
    except ServerError as error:
        return error
    raise AssertionError(f"succeeded with {result!r}")
