"""JSON-RPC over HTTP on a UNIX socket: `POST /jsonrpc`."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import grp
import logging
import os
import socket
import stat
from pathlib import Path
from weakref import WeakKeyDictionary

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from virtceph.log import facts
from virtceph.rpc.access import Peer, UnixAccess
from virtceph.rpc.dispatch import Dispatcher

log = logging.getLogger(__name__)

_BACKLOG = 128
_MODE = 0o660


class SocketInUse(Exception):
    """Another daemon listens there."""


def open_socket(path: Path, group: str) -> socket.socket:
    """A listening UNIX socket, mode 0660, its group `group` if we may give it.

    A socket file that nobody listens on is replaced. Raises SocketInUse, OSError.
    """
    # Of two daemons that start at once, the second must not take the first one's fresh socket for a
    # stale one: one at a time looks, removes, binds and listens.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        _remove_stale(path)
        return _listen(path, group)
    finally:
        os.close(folder)


def _listen(path: Path, group: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # Until it listens, nobody can be let in by a mode that is still too wide.
        listener.bind(str(path))
        os.chmod(path, _MODE)
        with contextlib.suppress(KeyError, PermissionError):
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
        listener.listen(_BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "exists and is no socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens, with a full backlog
    raise SocketInUse(str(path))


class HttpServer:
    """Serves the dispatcher on UNIX sockets."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        access: UnixAccess,
        *,
        max_body_bytes: int,
        max_connections: int,
    ) -> None:
        self._dispatcher, self._access = dispatcher, access
        self._max_connections = max_connections
        self._peers: WeakKeyDictionary[asyncio.Transport, Peer] = WeakKeyDictionary()
        app = web.Application(client_max_size=max_body_bytes)
        app.router.add_post("/jsonrpc", self._jsonrpc)
        # Requests under way are waited for by `drain` in the daemon; then connections are cut.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self, sockets: list[socket.socket]) -> None:
        """Listen."""
        await self._runner.setup()
        for listener in sockets:
            await web.SockSite(self._runner, listener).start()

    async def stop_listening(self) -> None:
        """Take no new connections; those that are open go on."""
        for site in list(self._runner.sites):
            await site.stop()

    async def close(self) -> None:
        """Cut every connection."""
        await self._runner.cleanup()

    async def _jsonrpc(self, http_request: web.Request) -> web.Response:
        server = self._runner.server
        if server is not None and len(server.connections) > self._max_connections:
            return _refusal(503, "too many connections")
        peer = self._peer(http_request)
        if peer is None or not self._access.allows(peer):
            log.warning("refused %s", facts(peer=peer))
            return _refusal(403, "only root and the members of the daemon's group may call")
        # HTTPRequestEntityTooLarge (413) comes from `read` itself.
        try:
            body = await http_request.read()
        except (BadHttpMessage, web.RequestPayloadError):
            # Else aiohttp reads on behind the answer, and logs a traceback.
            http_request.content.feed_eof()
            return _refusal(400, "the body is not what its Content-Encoding says, or is cut short")
        reply = await self._dispatcher.handle(body, peer.name())
        if reply is None:
            return web.Response(status=204)
        return web.Response(body=reply, content_type="application/json")

    def _peer(self, http_request: web.Request) -> Peer | None:
        """Who is at the other end; asked once for each connection."""
        transport = http_request.transport
        if transport is None:
            return None
        if transport not in self._peers:
            self._peers[transport] = Peer.of(transport.get_extra_info("socket").fileno())
        return self._peers[transport]


def _refusal(status: int, reason: str) -> web.Response:
    response = web.json_response({"error": reason}, status=status)
    response.force_close()
    return response
