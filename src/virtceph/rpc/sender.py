"""The sending side of a connection: each frame in one write, heart-beats on time, nobody's memory filled.

Clients written in Java handle at most one frame, and over TLS look at one record, for each time that bytes
come in; what came with it waits for the next bytes. Such a connection is paced: replies that are ready
together go out as one array, frames keep a distance, and behind the last one lone ends of lines follow, of
which each makes the client look again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from virtceph.rpc import stomp
from virtceph.units import KiB

# After how long, counted from one to the next, a client that reads frame by frame is made to look again:
# measured as 10, 30 and 100 ms behind the last frame. Afterwards the last one again and again, as often as
# there were frames.
_KICK_GAPS_S = (0.010, 0.020, 0.070)
_LATER_KICKS_S = 0.1
_MOST_KICKS = 64
# Where an array of replies is long enough.
_MERGED_BYTES = 64 * KiB
# The distance between frames, in which a client can have handled the one before; and the one behind a frame
# without a content-length, with which Java's clients lose what comes in the same read.
_PACE_S, _PACE_BEHIND_BARE_S = 0.002, 0.02
# How much of a paced connection's may wait before its requests do too. uvloop's own limit is the same.
_FULL_BYTES = 64 * KiB
_BEAT = b"\n"
# Timers go by whole milliseconds, and may come that much early.
_EARLY_S = 0.001


class Timer(Protocol):
    """What a clock gives for a call to come."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """The event loop, as far as it is needed here."""

    def time(self) -> float:
        """Seconds since some moment."""

    def call_soon(self, callback: Callable[[], None]) -> Timer:
        """Call when what is ready now is done."""

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call after `delay_s`."""


class Transport(Protocol):
    """A connected socket's transport, as far as it is needed here."""

    def write(self, data: bytes) -> None:
        """Send, now or when the other end reads."""

    def get_write_buffer_size(self) -> int:
        """How many bytes wait to be sent."""


class _Waiting(NamedTuple):
    # Of replies their head and their JSON; of other frames None and the frame.
    head: bytes | None
    data: bytes
    kicks: bool


class Sender:
    """Sends to one connection. `on_full` and `on_room` hear when more is waiting than should, and when that
    is over; `on_overflow` when more is waiting than may."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        max_queued_bytes: int,
        *,
        on_full: Callable[[], None],
        on_room: Callable[[], None],
        on_overflow: Callable[[], None],
    ) -> None:
        self._transport, self._clock, self._max_queued = transport, clock, max_queued_bytes
        self._on_full, self._on_room, self._on_overflow = on_full, on_room, on_overflow
        self.full = False
        self.full_since_s = 0.0
        self._stuck = self._closed = self.paced = False
        self._wrote_s = self._next_frame_s = clock.time()
        self._interval_s = 0.0
        self._beating: Timer | None = None
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._flushing: Timer | None = None
        self._kicking: Timer | None = None
        self._kicks = self._burst = 0

    # --- what is sent ---

    def frame(self, data: bytes, *, kicks: bool = True) -> None:
        """Send a frame. `kicks`: it has a content-length. (Behind one that has none some clients break at an
        end of a line.)"""
        if self.paced:
            self._wait(_Waiting(None, data, kicks))
        else:
            self._write(data)
            if not kicks:
                self._next_frame_s = self._wrote_s + _PACE_BEHIND_BARE_S

    def reply(self, head: bytes, body: bytes) -> None:
        """Send a message of JSON-RPC replies."""
        if self.paced:
            self._wait(_Waiting(head, body, True))
        else:
            self._write(stomp.with_body(head, body))

    def beat_every(self, interval_s: float) -> None:
        """Send a heart-beat whenever nothing was sent for so long; 0: never."""
        self._interval_s = interval_s
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        if interval_s:
            self._beating = self._clock.call_later(interval_s, self._beat)

    def flush(self) -> None:
        """Send at once what waits for its turn."""
        while self._waiting:
            self._write(self._next().data)

    def close(self) -> None:
        """Send nothing more."""
        self._closed = True
        self._waiting.clear()
        for timer in (self._beating, self._flushing, self._kicking):
            if timer is not None:
                timer.cancel()
        self._beating = self._flushing = self._kicking = None

    # --- room ---

    def transport_full(self) -> None:
        """The other end does not read as fast as it is written to."""
        self._stuck = True
        self._note_full()

    def transport_has_room(self) -> None:
        """It has read."""
        self._stuck = False
        self._note_room()

    def _note_full(self) -> None:
        if not self.full:
            self.full, self.full_since_s = True, self._clock.time()
            self._on_full()

    def _note_room(self) -> None:
        if self.full and not self._stuck and self._waiting_bytes < _FULL_BYTES:
            self.full = False
            self._on_room()

    def _write(self, data: bytes) -> None:
        if self._closed:
            return
        # One frame may be larger than what may wait: what counts is what waits before it.
        if self._stuck and self._transport.get_write_buffer_size() > self._max_queued:
            self._on_overflow()
            return
        self._transport.write(data)
        self._wrote_s = self._clock.time()

    def _beat(self) -> None:
        left_s = self._wrote_s + self._interval_s - self._clock.time()
        if left_s <= _EARLY_S:
            if not self._stuck:
                self._write(_BEAT)
            left_s = self._interval_s
        if not self._closed:
            self._beating = self._clock.call_later(left_s, self._beat)

    # --- pace ---

    def _wait(self, item: _Waiting) -> None:
        if self._closed:
            return
        if self._waiting_bytes > self._max_queued:
            self._on_overflow()
            return
        self._waiting.append(item)
        self._waiting_bytes += len(item.data)
        if self._waiting_bytes >= _FULL_BYTES:
            self._note_full()
        if self._kicking is not None:
            self._kicking.cancel()
            self._kicking = None
        self._flush_in_turn()

    def _flush_in_turn(self) -> None:
        if self._flushing is not None:
            return
        left_s = self._next_frame_s - self._clock.time()
        if left_s > 0:
            self._flushing = self._clock.call_later(left_s, self._flush)
        else:
            # Not at once: what else is ready now goes into the same array.
            self._flushing = self._clock.call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = None
        item = self._next()
        self._write(item.data)
        self._burst += 1
        self._next_frame_s = self._wrote_s + (_PACE_S if item.kicks else _PACE_BEHIND_BARE_S)
        if self._waiting:
            self._flush_in_turn()
        elif item.kicks and not self._closed:
            self._kicks = 0
            self._kicking = self._clock.call_later(_KICK_GAPS_S[0], self._kick)
        self._note_room()

    def _next(self) -> _Waiting:
        """The next frame: replies to the same subscription that are next to each other as one."""
        first = self._take()
        if first.head is None:
            return first
        bodies, size = [first.data], len(first.data)
        while self._waiting and size < _MERGED_BYTES and first.data.startswith(b"{"):
            following = self._waiting[0]
            if following.head != first.head or not following.data.startswith(b"{"):
                break
            bodies.append(self._take().data)
            size += len(bodies[-1])
        body = first.data if len(bodies) == 1 else b"[%b]" % b",".join(bodies)
        return _Waiting(None, stomp.with_body(first.head, body), True)

    def _take(self) -> _Waiting:
        item = self._waiting.popleft()
        self._waiting_bytes -= len(item.data)
        return item

    def _kick(self) -> None:
        self._kicking = None
        if not self._stuck:
            self._write(_BEAT)
        self._kicks += 1
        if self._closed or self._kicks >= min(max(len(_KICK_GAPS_S), self._burst), _MOST_KICKS):
            self._burst = 0
            return
        gaps = _KICK_GAPS_S
        gap_s = gaps[self._kicks] if self._kicks < len(gaps) else _LATER_KICKS_S
        self._kicking = self._clock.call_later(gap_s, self._kick)
