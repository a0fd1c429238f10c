"""What the daemon tells: an endless list that goes on where it broke off."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from virtceph.client.errors import ConnectionFailed, TimedOut
from virtceph.client.transport import UnixConnection, refusal, why_broken, why_not_connected

# The daemon says that it is there every 15 s, unless it is configured otherwise.
_SILENCE_S = 60.0
_AGAIN_S = 1.0


def events(
    path: str,
    since: str | None = None,
    types: Iterable[str] | None = None,
    *,
    follow: bool = True,
    timeout_s: float = 10.0,
    on_gap: Callable[[ConnectionFailed], object] | None = None,
) -> Iterator[dict[str, Any]]:
    """The daemon's events as they happen, each with `event`, `cursor`, `time` and `params`; blocks between
    them. From now on, or from behind the cursor `since` (`0`: from the oldest that is kept). Without
    `follow` only those that are there.

    With `on_gap` a connection that breaks, and a daemon that is started again, are waited for: it is called
    with the reason, and the next events follow on the last one; `events_lost` is among them where that
    cannot be. `timeout_s` bounds each connecting.

    Raises:
        ConnectionFailed: the first connection; any one, without `on_gap`; or the daemon refuses.
    """
    cursor, connected = since, False
    while True:
        try:
            for at, event in _stream(path, cursor, types, follow, timeout_s):
                cursor, connected = at or cursor, True
                if event is not None:
                    yield event
            if not follow:
                return
            raise ConnectionFailed("the daemon ended the stream")
        except ConnectionFailed as error:
            refused = error.status is not None and error.status < 500
            if on_gap is None or not connected or refused:
                raise
            on_gap(error)
        time.sleep(_AGAIN_S)


def _stream(
    path: str, cursor: str | None, types: Iterable[str] | None, follow: bool, timeout_s: float
) -> Iterator[tuple[str | None, dict[str, Any] | None]]:
    """One connection: cursors, with the event that each is of. Raises ConnectionFailed."""
    query = {"follow": "true" if follow else "false"}
    if types is not None:
        query["types"] = ",".join(types)
    headers = {"Accept": "text/event-stream"}
    if cursor is not None:
        headers["Last-Event-ID"] = cursor
    connection = UnixConnection(path, timeout_s)
    try:
        try:
            connection.connect()
        except OSError as error:
            raise ConnectionFailed(why_not_connected(path, error)) from error
        connection.request("GET", f"/events?{urlencode(query)}", headers=headers)
        response = connection.getresponse()
        if response.status != 200:
            raise ConnectionFailed(refusal(response.status, response.read()), response.status)
        connection.sock.settimeout(_SILENCE_S)
        yield from _parsed(response)
    except TimeoutError as error:
        raise ConnectionFailed(str(TimedOut("Waiting for events", _SILENCE_S))) from error
    except (OSError, http.client.HTTPException) as error:
        raise ConnectionFailed(why_broken(error)) from error
    finally:
        connection.close()


def _parsed(
    lines: http.client.HTTPResponse,
) -> Iterator[tuple[str | None, dict[str, Any] | None]]:
    """Server-sent events, as far as the daemon uses them."""
    cursor: str | None = None
    data: list[str] = []
    while line := lines.readline():
        text = line.decode().rstrip("\r\n")
        name, _, value = text.partition(": ")
        if name == "id":
            cursor = value
        elif name == "data":
            data.append(value)
        elif not text:
            event = json.loads("\n".join(data)) if data else None
            data.clear()
            yield cursor, event
