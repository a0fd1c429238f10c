"""STOMP as engines speak it, on one connection: what each frame does, and what is answered.

Apart from all reading and writing; the server joins it to a socket. Known clients subscribe before they
connect, and name the queue of their replies with each request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from virtceph.log import facts
from virtceph.rpc import envelope as envelopes
from virtceph.rpc import stomp, topics
from virtceph.rpc.callers import OVER_STOMP, Caller
from virtceph.rpc.calls import Asking
from virtceph.rpc.quota import Quota
from virtceph.rpc.sender import Sender
from virtceph.rpc.stomp import Frame, FrameError, FrameLimits, FrameReader
from virtceph.rpc.topics import Subscription, Topics

log = logging.getLogger(__name__)

_VERSION = "1.2"
# A client may ask for any time; below this the server would do little else.
_SHORTEST_BEAT_MS = 1000
_BEAT_DIGITS = 9
_FLOW_CHARS = 64
# What a client begins with that takes the port for one of HTTP.
_HTTP = (b"GET /", b"PUT /", b"POST /", b"HEAD /")
_NO_HTTP = b"this port speaks STOMP\n"

# Serve a body; the last argument is called with the reply, None where there is none to give.
Ask = Callable[[bytes, Asking, Callable[[Any], None]], None]


@dataclass(frozen=True)
class Heartbeats:
    """What a client offered: how often it sends, and how often it wants to hear; in ms, 0: not at all."""

    sends_ms: int = 0
    wants_ms: int = 0

    @classmethod
    def read(cls, text: str) -> Heartbeats:
        """From the header `heart-beat`. What cannot be understood offers nothing."""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) != 2 or not all(
            part.isdecimal() and part.isascii() and len(part) <= _BEAT_DIGITS for part in parts
        ):
            return cls()
        return cls(*(max(int(part), _SHORTEST_BEAT_MS) if int(part) else 0 for part in parts))

    def answer(self) -> str:
        """The server's own half: what it sends, and what it wants."""
        return f"{self.wants_ms},{self.sends_ms}"


class Session:
    """One connection's protocol. `end` is called with the reason when the connection is to be closed."""

    def __init__(
        self,
        caller: Caller,
        sender: Sender,
        all_topics: Topics,
        ask: Ask,
        end: Callable[[str], None],
        *,
        quota: Quota,
        frame_limits: FrameLimits,
        max_subscriptions: int,
    ) -> None:
        self.caller, self.heartbeats = caller, Heartbeats()
        self.quota, self.frames = quota, 0
        self._sender, self._topics, self._ask, self._end = sender, all_topics, ask, end
        self._reader = FrameReader(frame_limits)
        self._max_subscriptions = max_subscriptions
        self._subscriptions: dict[str, Subscription] = {}
        self.over = False

    @property
    def begun(self) -> bool:
        """Whether a part of a frame was received, and its end was not."""
        return self._reader.begun

    def received(self, data: bytes) -> None:
        """Take what came on the connection."""
        if self.over:
            return
        if not self.frames and data.startswith(_HTTP):
            self._sender.frame(_refusal_of_http())
            self._finish("HTTP")
            return
        self._reader.add(data)
        self.go_on()

    def go_on(self) -> None:
        """Serve what came, as long as its answers find room."""
        while not (self.over or self._sender.full):
            try:
                frame = self._reader.next()
                if frame is None:
                    return
                self.frames += 1
                self._serve(frame)
            except FrameError as error:
                self._error(f"Malformed frame: {error}")
                self._finish(str(error))

    def close(self) -> None:
        """Forget the subscriptions; the connection is gone, or as good as."""
        self.over = True
        for subscription in self._subscriptions.values():
            self._topics.remove(subscription)
        self._subscriptions.clear()
        self._sender.flush()
        self._sender.close()

    def refuse(self, reason: str) -> None:
        """Tell the client why it is closed, and close it."""
        self._error(reason)
        self._finish(reason)

    # --- frames ---

    def _serve(self, frame: Frame) -> None:
        serve = _SERVERS.get(frame.command)
        if serve is None:
            raise FrameError(f"the command {frame.command} is the server's")
        serve(self, frame.headers, frame.body)

    def _connect(self, headers: Mapping[str, str], _body: bytes) -> None:
        if headers.get("accept-version") != _VERSION:
            self._error("Version unsupported")
            return
        offered = self.heartbeats = Heartbeats.read(headers.get("heart-beat", ""))
        answer = [("version", _VERSION), ("heart-beat", offered.answer())]
        self._sender.frame(stomp.encode("CONNECTED", answer), kicks=False)
        self._sender.beat_every(offered.wants_ms / 1000)
        # Of the clients that engines have, the one that names a host is the one that needs pace.
        self._sender.paced = self._sender.paced or "host" in headers

    def _subscribe(self, headers: Mapping[str, str], _body: bytes) -> None:
        destination, ident = headers.get("destination"), headers.get("id")
        if not destination or not ident:
            self._error("Missing destination or subscription id header")
        elif ident in self._subscriptions:
            self._error("Subscription id already exists")
        elif len(self._subscriptions) >= self._max_subscriptions:
            self._error(f"More than {self._max_subscriptions} subscriptions")
        else:
            made = Subscription(self._sender, ident, destination, self.caller.level)
            if len(made.head) > topics.MAX_HEAD_BYTES:
                self._error("Destination and subscription id are too long")
                return
            self._subscriptions[ident] = made
            self._topics.add(made)

    def _unsubscribe(self, headers: Mapping[str, str], _body: bytes) -> None:
        ident = headers.get("id")
        if not ident:
            self._error("Missing id header")
            return
        gone = self._subscriptions.pop(ident, None)
        if gone is not None:
            self._topics.remove(gone)

    def _disconnect(self, headers: Mapping[str, str], _body: bytes) -> None:
        receipt = headers.get("receipt")
        if receipt is None:
            self._finish("disconnected")
            return
        # Closing is left to the client, which waits for this.
        answer = stomp.encode("RECEIPT", [("receipt-id", receipt)])
        self._sender.frame(answer, kicks=False)

    def _send(self, headers: Mapping[str, str], body: bytes) -> None:
        destination = headers.get("destination")
        if not destination:
            self._error("Missing destination header")
        elif topics.is_for_requests(destination):
            # To nobody else: a request may carry a key.
            reply_to = headers.get("reply-to", topics.RESPONSES)
            flow = headers.get("ovirtCorrelationId", "")[:_FLOW_CHARS]
            asking = Asking(self.caller, OVER_STOMP, flow, self.quota)
            self._ask(body, asking, lambda reply: self._reply(reply_to, reply))
        else:
            self._forward(destination, headers, body)

    def _forward(self, destination: str, headers: Mapping[str, str], body: bytes) -> None:
        if not self.caller.may("operator"):
            # Else whoever may only look could tell engines of events that never were.
            self._error("Sending to other clients is for operators")
            return
        lines = topics.forwarded(headers)
        if len(lines) > topics.MAX_HEAD_BYTES // 2:
            self._error("Headers are too long")
            return
        found = self._topics.covering(destination)
        if not found:
            self._error("Subscription not available")
            return
        topics.forward(found, lines, body)

    # --- answers ---

    def _reply(self, reply_to: str, reply: Any) -> None:
        """Send a reply to this connection's own subscription to where it is wanted."""
        if reply is None or self.over:
            return
        if isinstance(reply, dict) and reply["id"] is None and "error" in reply:
            reply_to = topics.RESPONSES
        for subscription in self._subscriptions.values():
            if subscription.destination == reply_to:
                self._sender.reply(subscription.head, envelopes.dump(reply))
                return
        told = facts(caller=self.caller.name, destination=reply_to[:_FLOW_CHARS])
        log.info("reply to nobody: not subscribed %s", told)

    def _error(self, text: str) -> None:
        self._sender.frame(stomp.encode("ERROR", body=text.encode()))

    def _finish(self, reason: str) -> None:
        if not self.over:
            self.over = True
            self._end(reason)


_SERVERS: Mapping[str, Callable[[Session, Mapping[str, str], bytes], None]] = {
    "CONNECT": Session._connect,
    "STOMP": Session._connect,
    "SUBSCRIBE": Session._subscribe,
    "UNSUBSCRIBE": Session._unsubscribe,
    "SEND": Session._send,
    "DISCONNECT": Session._disconnect,
}


def _refusal_of_http() -> bytes:
    head = (
        "HTTP/1.1 400 Bad Request\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(_NO_HTTP)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + _NO_HTTP
