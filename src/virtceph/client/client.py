"""Call verbs: by name, by attribute, several at once, or without waiting for an answer."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from virtceph.client.errors import ConnectionFailed, NoSuchJob, ServerError, TimedOut
from virtceph.client.frozen import Frozen
from virtceph.client.transport import Transport, socket_path

# Imports are most of what a short command takes, so what is only met on the way is imported there.
if TYPE_CHECKING:
    from uuid import UUID

# The daemon's own default is the 8 minutes that engines assume; nobody else wants a guest to
# stand still for so long when the caller dies.
FREEZE_LEASE_S = 30.0
_ALWAYS_PASSED: dict[str, dict[str, Any]] = {"VM.freeze": {"timeout": FREEZE_LEASE_S}}

_JOB_ENDED = frozenset({"done", "aborted", "failed"})
_POLL_FIRST_S, _POLL_LAST_S = 0.005, 2.0
# For somebody who watches.
_POLL_TOLD_S = 0.2


class Client:
    """A connection to one daemon.

    `client.VM.getInfo(vmID=…)` is `client.call("VM.getInfo", vmID=…)`; only `client.VM.freeze` does
    more: it passes a lease of 30 s unless told otherwise.
    """

    def __init__(self, path: str, *, timeout_s: float = 180.0) -> None:
        self.path, self.timeout_s = path, timeout_s
        self._transport = Transport(path)
        self._ids = itertools.count(1)

    def __repr__(self) -> str:
        return f"Client({self.path!r})"

    def open(self) -> Client:
        """Connect now rather than at the first call. Blocks."""
        self._transport.open(self.timeout_s)
        return self

    def close(self) -> None:
        """Close the connection. A later call opens it again."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Namespace:
        if not name[:1].isupper():
            raise AttributeError(name)
        return Namespace(self, name)

    def call(self, method: str, /, *, _timeout_s: float | None = None, **params: Any) -> Any:
        """Call a verb with parameters by their wire names; return its result, decoded from JSON.

        Takes UUID objects, and `Sensitive` ones (sent in base64). Blocks for `_timeout_s` (or the
        client's own) at the most. Raises ServerError, ConnectionFailed, TimedOut.
        """
        return self.request(method, params, timeout_s=_timeout_s)

    def request(
        self, method: str, params: Mapping[str, Any], *, timeout_s: float | None = None
    ) -> Any:
        """The same as `call`, with the parameters in one mapping."""
        request = {**_request(method, params), "id": next(self._ids)}
        answer = self._post(request, timeout_s, f"Request {method}")
        return _result(answer, request["id"])

    def notify(self, method: str, /, *, _timeout_s: float | None = None, **params: Any) -> None:
        """Call a verb and hear nothing of how it ended. Blocks until the daemon has taken it."""
        self._post(_request(method, params), _timeout_s, f"Notification {method}")

    def batch(
        self,
        calls: Iterable[tuple[str, Mapping[str, Any]]],
        *,
        _timeout_s: float | None = None,
    ) -> list[Any]:
        """Send several calls at once. The list has each one's result, or its ServerError, in the
        order of the calls; none is raised. Blocks."""
        requests = [{**_request(m, p), "id": next(self._ids)} for m, p in calls]
        if not requests:
            return []
        answers = self._post(requests, _timeout_s, f"Batch of {len(requests)} requests")
        if not isinstance(answers, list):
            _result(answers, None)
            raise ConnectionFailed("the daemon answered a batch with something else")
        by_id = {a.get("id"): a for a in answers if isinstance(a, dict)}
        return [_outcome(by_id.get(r["id"]), r["id"]) for r in requests]

    def frozen(self, vm_id: UUID | str, timeout_s: float = FREEZE_LEASE_S) -> Frozen:
        """`with client.frozen(vm_id) as window:` the guest's file systems are frozen in between."""
        return Frozen(self.call, vm_id, timeout_s)

    def events(
        self, since: str | None = None, types: Iterable[str] | None = None, *, follow: bool = True
    ) -> Iterator[dict[str, Any]]:
        """What the daemon tells from now on, or from behind a cursor, on a connection of its own: see
        `virtceph.client.events`. Blocks between events. Raises ConnectionFailed."""
        from virtceph.client.events import events

        return events(self.path, since, types, follow=follow, timeout_s=self.timeout_s)

    def wait_for_job(
        self,
        job_uuid: UUID | str,
        timeout_s: float,
        told: Callable[[dict[str, Any]], object] | None = None,
    ) -> dict[str, Any]:
        """Wait until a job ended (`done`, `failed` or `aborted`) and return its JobInfo. Blocks. `told` is
        called with each JobInfo before that, some times a second.

        Raises TimedOut when it still runs after `timeout_s` seconds, NoSuchJob when unknown.
        """
        job_id, began_s = str(job_uuid), time.monotonic()
        longest_s = _POLL_LAST_S if told is None else _POLL_TOLD_S
        while True:
            jobs = self.call("Host.getJobs", job_ids=[job_id])
            job = next(iter(jobs.values()), None)
            if job is None:
                raise NoSuchJob(f"the daemon knows no job {job_id}")
            if job["status"] in _JOB_ENDED:
                return dict(job)
            if told is not None:
                told(dict(job))
            elapsed_s = time.monotonic() - began_s
            if elapsed_s >= timeout_s:
                raise TimedOut(f"Waiting for job {job_id}", timeout_s)
            # What takes ten times as long is asked for a tenth as often.
            pause_s = min(max(_POLL_FIRST_S, elapsed_s / 10), longest_s)
            time.sleep(min(pause_s, timeout_s - elapsed_s))

    def _post(self, request: Any, timeout_s: float | None, what: str) -> Any:
        body = json.dumps(request, default=_plain).encode()
        # Not `or`: 0 means no time at all, not the default.
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        answer = self._transport.post(body, timeout_s, what)
        try:
            return json.loads(answer) if answer else None
        except ValueError:
            raise ConnectionFailed("the daemon's answer is not JSON") from None


class Namespace:
    """`client.VM`: its attributes are verbs."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name

    def __getattr__(self, verb: str) -> Verb:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return Verb(self._client, f"{self._name}.{verb}")


class Verb:
    """`client.VM.freeze`: calling it calls the verb."""

    def __init__(self, client: Client, method: str) -> None:
        self._client, self._method = client, method

    def __call__(self, *, _timeout_s: float | None = None, **params: Any) -> Any:
        params = {**_ALWAYS_PASSED.get(self._method, {}), **params}
        return self._client.call(self._method, _timeout_s=_timeout_s, **params)


def connect(path: str | None = None, *, timeout_s: float = 180.0) -> Client:
    """Connect to the daemon: at `path`, $VIRTCEPH_SOCKET, or /run/virtceph/virtcephd.sock. Blocks.

    `timeout_s` bounds each call. Raises ConnectionFailed, TimedOut.
    """
    return Client(path or socket_path(), timeout_s=timeout_s).open()


def _request(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": dict(params)}


def _plain(value: object) -> str:
    from uuid import UUID

    from virtceph.sensitive import Sensitive

    if isinstance(value, Sensitive):
        return value.reveal_base64()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _result(answer: Any, request_id: int | None) -> Any:
    outcome = _outcome(answer, request_id)
    if isinstance(outcome, ServerError):
        raise outcome
    return outcome


def _outcome(answer: Any, request_id: int | None) -> Any:
    if isinstance(answer, dict) and isinstance(answer.get("error"), dict):
        # A request that could not be read is answered with the id null.
        error = answer["error"]
        data = error.get("data")
        known = data if isinstance(data, dict) else None
        return ServerError(error.get("code", 0), error.get("message", ""), known)
    if isinstance(answer, dict) and "result" in answer and answer.get("id") == request_id:
        return answer["result"]
    raise ConnectionFailed("the daemon's answer is no JSON-RPC answer to the request")
