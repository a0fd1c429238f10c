"""HTTP over the daemon's UNIX socket, on one connection that is kept alive."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from contextlib import suppress

from virtceph.client.errors import ConnectionFailed, TimedOut

DEFAULT_SOCKET = "/run/virtceph/virtcephd.sock"
_CHUNK = 1 << 20


def socket_path() -> str:
    """The socket to use when none is named: $VIRTCEPH_SOCKET, or the daemon's usual one."""
    return os.environ.get("VIRTCEPH_SOCKET") or DEFAULT_SOCKET


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a UNIX socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect. Blocks. Raises OSError."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        try:
            self.sock.connect(self._path)
        except BaseException:
            self.close()
            raise


class Transport:
    """Posts bodies to `/jsonrpc` and returns the answers' bodies."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._connection: UnixConnection | None = None

    def open(self, timeout_s: float) -> None:
        """Connect, unless connected. Blocks. Raises ConnectionFailed or TimedOut."""
        if self._connection is not None:
            return
        connection = UnixConnection(self.path, timeout_s)
        try:
            connection.connect()
        except TimeoutError:
            raise TimedOut(f"Connecting to {self.path}", timeout_s) from None
        except OSError as error:
            raise ConnectionFailed(why_not_connected(self.path, error)) from error
        self._connection = connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def post(self, body: bytes, timeout_s: float, what: str) -> bytes:
        """Send `body` and return the answer's body. Blocks for `timeout_s` at the most.

        `what` names the request in errors. After any error the next call connects anew.
        """
        deadline = time.monotonic() + timeout_s
        reused = self._connection is not None
        try:
            try:
                return self._exchange(body, deadline)
            except http.client.RemoteDisconnected:
                # It is a ConnectionResetError too, but means that the daemon read the request and
                # closed: it may have acted on it, so it is not sent again.
                raise
            except (BrokenPipeError, ConnectionResetError):
                # On a UNIX socket a reset says that the daemon closed without reading all of the
                # request, as when a kept-alive connection was idle for too long. (asyncio closes in
                # one step; after a half-close this would look like RemoteDisconnected.)
                if not reused:
                    raise
                self.close()
                return self._exchange(body, deadline)
        except TimeoutError:
            self.close()
            raise TimedOut(what, timeout_s) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise ConnectionFailed(why_broken(error)) from error
        except BaseException:
            # Half an answer may be left on the connection.
            self.close()
            raise

    def _exchange(self, body: bytes, deadline: float) -> bytes:
        self.open(_left_s(deadline))
        connection = self._connection
        assert connection is not None
        connection.sock.settimeout(_left_s(deadline))
        unsent: OSError | None = None
        try:
            connection.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
        except BrokenPipeError as error:
            # The daemon may have refused the headers (403, 413) and closed without the body.
            unsent = error
        try:
            response = connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            if unsent is not None:
                raise unsent from None
            raise
        answer = self._read(connection.sock, response, deadline)
        if unsent is not None or response.will_close:
            self.close()
        if response.status not in (200, 204):
            raise ConnectionFailed(refusal(response.status, answer), response.status)
        return answer

    @staticmethod
    def _read(sock: socket.socket | None, response: http.client.HTTPResponse, end: float) -> bytes:
        parts = []
        while part := response.read1(_CHUNK):
            parts.append(part)
            # With `Connection: close` http.client has let go of the socket by now.
            if sock is not None and sock.fileno() >= 0:
                sock.settimeout(_left_s(end))
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        # http.client takes the answer for unfinished, and refuses the next, until this.
        response.read()
        return b"".join(parts)


def _left_s(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def why_not_connected(path: str, error: OSError) -> str:
    """What to do when nobody answers at a socket."""
    if isinstance(error, FileNotFoundError):
        return f"there is no socket {path}; is virtcephd running? (systemctl status virtcephd)"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens on {path}; start the daemon (systemctl start virtcephd)"
    if isinstance(error, PermissionError):
        return f"no permission for {path}; be root, or a member of the group virtceph"
    return f"{path}: {error}"


def why_broken(error: Exception) -> str:
    """How a connection ended."""
    if isinstance(error, http.client.RemoteDisconnected):
        return "the daemon closed the connection without an answer; the request may have been done"
    return f"the connection broke: {error or type(error).__name__}"


def refusal(status: int, answer: bytes) -> str:
    """What an HTTP status other than 200 is told as."""
    said = ""
    with suppress(ValueError, KeyError, TypeError):
        said = str(json.loads(answer)["error"])
    if status == 400 and said:
        return f"the daemon does not take the request ({said})"
    if status == 403:
        advice = "be root, or a member of the group virtceph"
        return f"the daemon does not serve this user ({said or advice})"
    if status == 413:
        return f"the request is too large ({said or 'see the limit in the configuration'})"
    if status == 503:
        return f"the daemon cannot serve this now; ask again later ({said or 'HTTP 503'})"
    return f"the daemon answered HTTP {status} ({said or 'is this the socket of virtcephd?'})"
