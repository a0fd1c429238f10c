"""Connections taken from listening TCP sockets, up to the end of their TLS handshake.

By hand rather than by asyncio's server: whoever has no certificate must neither fill the log nor keep
others out.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from virtceph.log import facts
from virtceph.rpc.listening import make_ready

log = logging.getLogger(__name__)

_ACCEPTED_AT_ONCE = 32
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE_S = 0.5


class Acceptor:
    """Takes connections. `protocol` makes the protocol of one from its address, when its handshake is done.
    So many may be in the middle of theirs: a further one drops the oldest, and is not refused itself. Used
    from one event loop."""

    def __init__(
        self,
        protocol: Callable[[str], asyncio.Protocol],
        *,
        tls: Callable[[], ssl.SSLContext] | None,
        max_handshakes: int,
        handshake_s: float,
        shutdown_s: float,
    ) -> None:
        self._protocol, self._max_handshakes = protocol, max_handshakes
        self._tls = tls
        self._timeouts = {
            "ssl_handshake_timeout": handshake_s,
            "ssl_shutdown_timeout": shutdown_s,
        }
        self._listeners: list[socket.socket] = []
        # In the order in which they began.
        self._handshakes: dict[asyncio.Task[bool], socket.socket] = {}

    def start(self, listeners: list[socket.socket]) -> None:
        """Take who connects there."""
        self._loop = asyncio.get_running_loop()
        for listener in listeners:
            listener.setblocking(False)
            self._listeners.append(listener)
            self._loop.add_reader(listener, self._accept, listener)

    def stop(self) -> None:
        """Take nobody any more, and close the listening sockets."""
        for listener in self._listeners:
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        for handshake in list(self._handshakes):
            handshake.cancel()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, _address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._pause(listener, error)
                    return
                continue  # who connected is gone again
            if len(self._handshakes) >= self._max_handshakes:
                next(iter(self._handshakes)).cancel()
            task = self._loop.create_task(self._shake_hands(accepted))
            self._handshakes[task] = accepted
            task.add_done_callback(self._shaken)

    def _pause(self, listener: socket.socket, error: OSError) -> None:
        """Leave those that wait in the kernel's queue until there may be room again."""
        log.error("nobody can connect for now %s", facts(reason=error.strerror))
        self._loop.remove_reader(listener)

        def go_on() -> None:
            if listener in self._listeners:
                self._loop.add_reader(listener, self._accept, listener)

        self._loop.call_later(_PAUSE_S, go_on)

    async def _shake_hands(self, accepted: socket.socket) -> bool:
        """Whether it came to a connection."""
        address = ""
        try:
            address = make_ready(accepted)
            context = None if self._tls is None else self._tls()
            options: dict[str, Any] = {} if context is None else {"ssl": context, **self._timeouts}
            await self._loop.connect_accepted_socket(
                lambda: self._protocol(address), accepted, **options
            )
        except OSError as error:  # SSLError and TimeoutError are of these
            # At this level, since whoever is on the network could fill the log with it.
            log.debug("no handshake %s", facts(peer=address, reason=error))
            return False
        return True

    def _shaken(self, task: asyncio.Task[bool]) -> None:
        accepted = self._handshakes.pop(task)
        if task.cancelled() or not task.result():
            accepted.close()
