"""A daemon for the tests of the client and the CLI: JSON-RPC over HTTP over a UNIX socket.

It knows no verbs; the test says what each answers. It is a real server on threads, so that what is
tested is what happens on a socket.
"""

from __future__ import annotations

import json
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import TracebackType
from typing import Any


class Failure(Exception):
    """What an answer raises or is, to be answered as a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


class FakeDaemon:
    """`answers` maps a method to its result, a Failure, or a function of the parameters.

    `status` other than 200 refuses every request. `manner` is what it does after reading one:
    `answer`; `answer, close`: close the connection without having said so; `close`: close
    without an answer; `drip`: send the answer a byte every 20 ms; `short`: send half of it;
    `garbage`: answer what is not JSON.
    """

    def __init__(self, path: Path, answers: dict[str, Any] | None = None) -> None:
        self.path = str(path)
        self.answers: dict[str, Any] = answers or {}
        self.status, self.manner = 200, "answer"
        self.refusal: dict[str, Any] = {"error": "not in the group virtceph"}
        # Parsed bodies in the order of their arrival, and how many connections there were.
        self.bodies: list[Any] = []
        self.connections = 0
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """The methods and parameters that came, outside batches."""
        return [(b["method"], b["params"]) for b in self.bodies if isinstance(b, dict)]

    def __enter__(self) -> FakeDaemon:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, body: Any) -> Any:
        """The JSON-RPC answer to a parsed body; None for notifications alone."""
        if isinstance(body, list):
            # The order of a batch's answers is the server's own affair.
            return [a for a in map(self._answer_one, reversed(body)) if a is not None] or None
        return self._answer_one(body)

    def _answer_one(self, request: dict[str, Any]) -> dict[str, Any] | None:
        outcome: dict[str, Any]
        try:
            outcome = {"result": self._result(request["method"], request["params"])}
        except Failure as failure:
            error = {"code": failure.code, "message": failure.message, "data": failure.data}
            outcome = {"error": {k: v for k, v in error.items() if v is not None}}
        if "id" not in request:
            return None
        return {"jsonrpc": "2.0", "id": request["id"], **outcome}

    def _result(self, method: str, params: dict[str, Any]) -> Any:
        if method not in self.answers:
            raise Failure(-32601, f"no such verb: {method}", {"error": "MethodNotFound"})
        found = self.answers[method]
        if isinstance(found, Failure):
            raise found
        return found(params) if isinstance(found, Callable) else found  # type: ignore[arg-type]


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, fake: FakeDaemon) -> None:
        self.fake = fake
        super().__init__(fake.path, _Handler)

    def shutdown_request(self, request: Any) -> None:
        """Close at once, as asyncio does; socketserver would half-close first."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests break off; that is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.server.fake.connections += 1

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""

    def do_POST(self) -> None:
        fake = self.server.fake
        if fake.status != 200:
            # As a server does that refuses before it reads the body.
            self.close_connection = True
            self._send(fake.status, json.dumps(fake.refusal).encode())
            return
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/jsonrpc"
        fake.bodies.append(body)
        answer = fake.answer(body)
        if fake.manner == "close":
            self.close_connection = True
        elif answer is None:
            self._send(204, b"")
        else:
            text = b"<html>" if fake.manner == "garbage" else json.dumps(answer).encode()
            self._send(200, text)
            self.close_connection = fake.manner in ("answer, close", "short")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.fake.manner == "drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.02)
        elif self.server.fake.manner == "short":
            self.wfile.write(body[: len(body) // 2])
        else:
            self.wfile.write(body)
