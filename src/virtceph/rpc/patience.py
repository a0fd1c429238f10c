"""When a connection is given up for what it does not do: a first frame, a heart-beat, the end of a frame."""

from __future__ import annotations

from collections.abc import Callable

from virtceph.rpc.sender import Clock, Sender, Timer
from virtceph.rpc.session import Heartbeats, Session

# Clocks go by whole milliseconds.
_EARLY_S = 0.001
# When the daemon itself stood still, what came meanwhile is read after the timers: one look more.
_SECOND_LOOK_S = 0.05


class Patience:
    """Watches one connection. `give_up` is called with the reason, once."""

    def __init__(
        self,
        session: Session,
        sender: Sender,
        clock: Clock,
        give_up: Callable[[str], None],
        *,
        first_frame_s: float,
        idle_s: float,
    ) -> None:
        self._session, self._sender, self._clock, self._give_up = session, sender, clock, give_up
        self._first_frame_s, self._idle_s = first_frame_s, idle_s
        self._opened_s = self._heard_s = self._progress_s = clock.time()
        self._frames = 0
        self._beats: Heartbeats = session.heartbeats
        self._second_look = False
        self._timer: Timer | None = None
        self._look()

    def heard(self) -> None:
        """Something came, and was served."""
        now_s = self._heard_s = self._clock.time()
        self._second_look = False
        session = self._session
        if session.frames != self._frames or not session.begun:
            self._frames, self._progress_s = session.frames, now_s
        if session.heartbeats is not self._beats:
            self._beats = session.heartbeats
            self._look()

    def reading_again(self) -> None:
        """What came meanwhile could not be heard."""
        self._heard_s = self._clock.time()
        self._look()

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.close()
        now_s = self._clock.time()
        due_s, reason = min(self._deadlines())
        if due_s - now_s > _EARLY_S:
            # What is due later than that may be sooner by then: a frame can have been begun.
            self._timer = self._clock.call_later(min(due_s - now_s, self._idle_s), self._look)
        elif not self._second_look:
            self._second_look = True
            self._timer = self._clock.call_later(_SECOND_LOOK_S, self._look)
        else:
            self._give_up(reason)

    def _deadlines(self) -> list[tuple[float, str]]:
        session, beats, idle_s = self._session, self._beats, self._idle_s
        found = [(float("inf"), "")]
        if not session.frames:
            told = f"no frame within {self._first_frame_s:g} s"
            found.append((self._opened_s + self._first_frame_s, told))
        if self._sender.full:
            # Then nothing is read either.
            told = f"nothing was read for {idle_s:g} s"
            return [*found, (self._sender.full_since_s + idle_s, told)]
        if beats.sends_ms:
            told = f"no heart-beat within {beats.sends_ms} ms"
            found.append((self._heard_s + beats.sends_ms / 1000, told))
        if session.begun:
            found.append((self._progress_s + idle_s, f"no end of a frame within {idle_s:g} s"))
        if beats == Heartbeats() and not session.quota.taken:
            found.append((self._heard_s + idle_s, f"idle for {idle_s:g} s"))
        return found
