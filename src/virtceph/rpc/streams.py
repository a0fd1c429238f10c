"""`GET /events`: server-sent events, from now on or from where a reader was.

A reader has no queue of his own: he reads from what the daemon keeps, as fast as he takes it, and is told
when he was too slow. So a stream takes no more memory than what its socket holds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from aiohttp import web

from virtceph import httpoptions
from virtceph.events import EventsLost
from virtceph.host.events import BadCursor, Kept, Loss, as_json
from virtceph.log import facts
from virtceph.rpc.answers import Refusal
from virtceph.rpc.callers import Caller
from virtceph.rpc.feed import Feed
from virtceph.rpc.httpconnection import HttpConnection

log = logging.getLogger(__name__)

_KNOWN = ("since", "types", "follow")
# Written at once; the socket's own buffer is of the same size.
_CHUNK_BYTES = 64 * 1024
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
# How soon a browser connects anew.
_RETRY = b"retry: 1000\n"


class Streams:
    """The open streams of one daemon. `names` are the events that there are."""

    def __init__(self, feed: Feed, settings: httpoptions.Events, names: Iterable[str]) -> None:
        self._feed, self._settings = feed, settings
        self._names = frozenset(names)
        self.open = 0

    async def serve(
        self, asked: web.Request, caller: Caller, connection: HttpConnection
    ) -> web.StreamResponse:
        """Stream until the reader or the daemon ends. Raises Refusal."""
        behind, loss = self._place(asked)
        types = self._types(asked)
        follow = _follow(asked)
        if self.open >= self._settings.max_streams:
            raise Refusal(503, f"more than {self._settings.max_streams} streams of events")
        response = web.StreamResponse(headers=_HEADERS)
        response.content_type = "text/event-stream"
        response.charset = "utf-8"
        self.open += 1
        connection.reads_at_his_own_pace()
        told = asyncio.create_task(self._tell(asked, response, caller, behind, loss, types, follow))
        gone = asyncio.create_task(connection.gone.wait())
        try:
            await asyncio.wait((told, gone), return_when=asyncio.FIRST_COMPLETED)
            if told.done() and not told.result():
                log.warning("stream of events is stuck %s", facts(caller=caller.name))
                connection.cut()
        finally:
            self.open -= 1
            told.cancel()
            gone.cancel()
        return response

    async def _tell(
        self,
        asked: web.Request,
        response: web.StreamResponse,
        caller: Caller,
        behind: int,
        loss: Loss | None,
        types: frozenset[str],
        follow: bool,
    ) -> bool:
        """Write to the reader; False when he takes nothing any more."""
        events = self._feed.events
        try:
            await response.prepare(asked)
            # So that who reconnects before anything has happened goes on from here.
            begin = _RETRY if loss is not None else _RETRY + _at(events.cursor(behind))
            if not await self._write(response, begin + b"\n"):
                return False
            pause = _Pause(self._settings.keepalive_s)
            async for news in self._feed.read(behind, loss, pause.left_s, follow=follow):
                heard = [k for k in news.events if caller.may(k.level) and k.name in types]
                if not heard and news.events and pause.left_s() > 0:
                    continue
                # Else who waits for what is rare would come back with a cursor long forgotten, and would not
                # know whether the stream lives while other things happen.
                quiet = b"" if heard else _at(events.cursor(news.upto)) + b":\n\n"
                for chunk in _chunks(events.run, heard, quiet):
                    if not await self._write(response, chunk):
                        return False
                pause.begin()
        except ConnectionError:
            pass
        return True

    async def _write(self, response: web.StreamResponse, data: bytes) -> bool:
        try:
            async with asyncio.timeout(self._settings.stuck_timeout_s):
                await response.write(data)
        except TimeoutError:
            return False
        return True

    # --- what is asked ---

    def _place(self, asked: web.Request) -> tuple[int, Loss | None]:
        """Behind which event to go on. A reader that reconnects says so in a header, and knows best."""
        unknown = sorted(set(asked.query) - set(_KNOWN))
        if unknown:
            raise Refusal(400, f"{unknown[0][:64]}: expected one of {', '.join(_KNOWN)}")
        cursor = asked.headers.get("Last-Event-ID") or asked.query.get("since")
        if cursor is None:
            return self._feed.events.newest, None
        try:
            return self._feed.events.place(cursor)
        except BadCursor:
            expected = "a cursor as in <run>-<number>, or 0 for everything that is kept"
            raise Refusal(400, f"since: expected {expected}") from None

    def _types(self, asked: web.Request) -> frozenset[str]:
        """The events that are wanted, and word of those that are lost."""
        text = asked.query.get("types")
        if text is None:
            return self._names
        wanted = frozenset(text.split(","))
        if odd := sorted(wanted - self._names):
            raise Refusal(400, f"types: there is no event {odd[0][:64]!r}")
        return wanted | {EventsLost.name}


class _Pause:
    """For how long a reader was told nothing."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self.begin()

    def begin(self) -> None:
        """He was told something."""
        self._end_s = time.monotonic() + self._longest_s

    def left_s(self) -> float:
        """When he has to be told something again."""
        return max(0.0, self._end_s - time.monotonic())


def _follow(asked: web.Request) -> bool:
    text = asked.query.get("follow", "true")
    if text not in ("true", "false"):
        raise Refusal(400, "follow: expected true or false")
    return text == "true"


def _at(cursor: str) -> bytes:
    return f"id: {cursor}\n".encode()


def _chunks(run: str, heard: list[Kept], quiet: bytes) -> Iterable[bytes]:
    """What is written, in pieces."""
    chunk = bytearray(quiet)
    for kept in heard:
        cursor = f"{run}-{kept.number}"
        head = f"id: {cursor}\nevent: {kept.name}\ndata: ".encode()
        chunk += head + as_json(run, kept) + b"\n\n"
        if len(chunk) >= _CHUNK_BYTES:
            yield bytes(chunk)
            chunk.clear()
    if chunk:
        yield bytes(chunk)
