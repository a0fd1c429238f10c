"""Golden transcripts: what stands on the wire, byte for byte of meaning, over a real UNIX socket."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from tests.fakes.http_site import HttpSite
from virtceph import errors
from virtceph.rpc.access import Peer
from virtceph.rpc.callers import Caller
from virtceph.rpc.dispatch import Dispatcher
from virtceph.rpc.lanes import Lane
from virtceph.rpc.unixsocket import open_socket
from virtceph.schema import load_contract
from virtceph.verbs.registry import load_verbs

VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"
CONTRACT = load_contract()


def raising(error: BaseException) -> Callable[..., Any]:
    def function(**_all: Any) -> Any:
        raise error

    return function


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Host.ping2": lambda: None,
    "Host.echo": lambda message: message,
    "Host.getVMList": lambda **_all: [],
    "Host.getCapabilities": raising(RuntimeError("never to be seen")),
    "VM.getInfo": raising(errors.NoSuchVM(UUID(VM))),
    "VM.getFreezeStatus": raising(errors.LibvirtUnavailable("the socket is gone")),
    "VM.thaw": raising(errors.ThawNeedsForce(UUID(VM), "unix:bob")),
}


def ok(ident: Any, result: Any = "hi") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "result": result, "id": ident}


def failed(ident: Any, code: int, message: str, **data: Any) -> dict[str, Any]:
    body = {"code": code, "message": message, "data": data}
    return {"jsonrpc": "2.0", "error": body, "id": ident}


def invalid_request(expected: str) -> dict[str, Any]:
    return failed(
        None, -32600, f"Invalid request: expected {expected}",
        error="InvalidRequest", kind="caller", retry=False, requestID="-", expected=expected,
    )  # fmt: skip


def not_found(ident: Any, method: str) -> dict[str, Any]:
    return failed(
        ident, -32601, f"The method does not exist or is not available: {method}",
        error="MethodNotFound", kind="caller", retry=False, requestID="-", method=method,
    )  # fmt: skip


def invalid_params(field: str, expected: str) -> dict[str, Any]:
    return failed(
        1, -32602, f"Invalid parameters: {field}: expected {expected}",
        error="InvalidParams", kind="caller", retry=False, requestID="1",
        field=field, expected=expected,
    )  # fmt: skip


def invalid_value(field: str, expected: str) -> dict[str, Any]:
    return failed(
        1, 91, f"Invalid parameter: {field}: expected {expected}",
        error="InvalidParameter", kind="caller", retry=False, requestID="1",
        field=field, expected=expected,
    )  # fmt: skip


NO_JSON = failed(
    None, -32700, "Parse error: the body is not JSON",
    error="ParseError", kind="caller", retry=False, requestID="-",
)  # fmt: skip


def echo(ident: str, params: str = '["hi"]') -> str:
    return f'{{"jsonrpc":"2.0","method":"Host.echo","params":{params},"id":{ident}}}'


def call(method: str, params: str = "{}", ident: str = "1") -> str:
    return f'{{"jsonrpc":"2.0","method":"{method}","params":{params},"id":{ident}}}'


TRANSCRIPTS: dict[str, tuple[str | bytes, Any]] = {
    "id 1": (echo("1"), ok(1)),
    "id 0": (echo("0"), ok(0)),
    "id negative": (echo("-7"), ok(-7)),
    "id 1.5": (echo("1.5"), ok(1.5)),
    "id null": (echo("null"), ok(None)),
    "id empty": (echo('""'), ok("")),
    "id text": (echo('"a/b"'), ok("a/b")),
    "id unicode": (echo('"\\u00fc 🐙"'), ok("ü 🐙")),
    "id beyond a double": (echo("9007199254740993"), ok(9007199254740993)),
    "id of 64 bits": (echo("18446744073709551615"), ok(18446744073709551615)),
    "id boolean": (echo("true"), invalid_request("`id` as a string, a number or null")),
    "id array": (echo("[1]"), invalid_request("`id` as a string, a number or null")),
    "id object": (echo("{}"), invalid_request("`id` as a string, a number or null")),
    "by position": (echo("1", '["hi"]'), ok(1)),
    "by name": (echo("1", '{"message":"hi"}'), ok(1)),
    "without params": ('{"jsonrpc":"2.0","method":"Host.ping2","id":1}', ok(1, True)),
    "empty array of params": (call("Host.ping2", "[]"), ok(1, True)),
    "empty object of params": (call("Host.ping2", "{}"), ok(1, True)),
    "an empty list as result": (call("Host.getVMList"), ok(1, [])),
    "unknown members of the envelope": (
        '{"jsonrpc":"2.0","method":"Host.ping2","id":1,"trace":"x"}',
        ok(1, True),
    ),
    "spaces around": (f"\n  {echo('1')}\n", ok(1)),
    "unicode": (echo("1", '["ü 🐙 \\u0000 \\u2028 \\ud83d\\udc19"]'), ok(1, "ü 🐙 \0 \u2028 🐙")),
    "notification": ('{"jsonrpc":"2.0","method":"Host.ping2"}', None),
    "notification of nothing known": ('{"jsonrpc":"2.0","method":"Host.nothing"}', None),
    "notification that fails": (
        '{"jsonrpc":"2.0","method":"VM.thaw","params":{"vmID":"x"}}',
        None,
    ),
    "batch": (
        "[" + echo("1") + "," + echo("2", '["ho"]') + "]",
        [ok(1), ok(2, "ho")],
    ),
    "batch of one": (f"[{echo('1')}]", [ok(1)]),
    "batch with a notification": (
        f'[{{"jsonrpc":"2.0","method":"Host.ping2"}},{echo("1")}]',
        [ok(1)],
    ),
    "batch with rubbish": (
        f"[1,{echo('1')},{{}}]",
        [
            invalid_request("an object for each request"),
            ok(1),
            invalid_request('`"jsonrpc": "2.0"`'),
        ],
    ),
    "batch with the same id twice": (f"[{echo('1')},{echo('1')}]", [ok(1), ok(1)]),
    "batch of notifications": ('[{"jsonrpc":"2.0","method":"Host.ping2"}]', None),
    "batch of nothing": ("[]", invalid_request("at least one request")),
    "batch in a batch": ("[[]]", [invalid_request("an object for each request")]),
    "batch with an error": (
        f"[{call('Host.nothing', '{}', '7')},{call('Host.ping2', '{}', '8')}]",
        [not_found(7, "Host.nothing"), ok(8, True)],
    ),
    "nothing at all": ("", NO_JSON),
    "half of it": ('{"jsonrpc":"2.0"', NO_JSON),
    "no UTF-8": (b'"\xff"', NO_JSON),
    "half a surrogate": (echo("1", '["\\ud800"]'), NO_JSON),
    "not a number": (echo("1", "[NaN]"), NO_JSON),
    "a number": ("1", invalid_request("an object for each request")),
    "null": ("null", invalid_request("an object for each request")),
    "an empty object": ("{}", invalid_request('`"jsonrpc": "2.0"`')),
    "version 1.0": (
        '{"jsonrpc":"1.0","method":"Host.ping2","id":1}',
        invalid_request('`"jsonrpc": "2.0"`'),
    ),
    "version as a number": (
        '{"jsonrpc":2.0,"method":"Host.ping2","id":1}',
        invalid_request('`"jsonrpc": "2.0"`'),
    ),
    "no method": ('{"jsonrpc":"2.0","id":1}', invalid_request("`method` as a string")),
    "method as a number": (
        '{"jsonrpc":"2.0","method":1,"id":1}',
        invalid_request("`method` as a string"),
    ),
    "params as text": (
        '{"jsonrpc":"2.0","method":"Host.echo","params":"hi","id":1}',
        invalid_request("`params` as an array or an object"),
    ),
    "params null": (
        '{"jsonrpc":"2.0","method":"Host.ping2","params":null,"id":1}',
        invalid_request("`params` as an array or an object"),
    ),
    "unknown method": (call("Host.nothing"), not_found(1, "Host.nothing")),
    "unknown namespace": (call("Hóst.echo"), not_found(1, "Hóst.echo")),
    "a method's case counts": (call("host.Echo"), not_found(1, "host.Echo")),
    "an endless method is cut": (call("x" * 500), not_found(1, "x" * 128)),
    "param missing": (echo("1", "{}"), invalid_params("message", "a string (it is missing)")),
    "param of another type": (echo("1", "[5]"), invalid_params("message", "a string")),
    "param unknown": (
        echo("1", '{"message":"hi","more":1}'),
        invalid_params("more", "no other field than message"),
    ),
    "too many by position": (echo("1", '["a","b"]'), invalid_params("params", "at most 1 values")),
    "params for a verb without": (
        call("Host.ping2", '{"a":1}'),
        invalid_params("a", "no parameters"),
    ),
    "an impossible value": (
        call("VM.thaw", '{"vmID":"web"}'),
        invalid_value("vmID", "a UUID"),
    ),
    "a value out of bounds": (
        call("VM.freeze", f'["{VM}",601]'),
        invalid_value("timeout", "a number of seconds, above 0, at most 600"),
    ),
    "an error of the caller's": (
        call("VM.getInfo", f'{{"vmID":"{VM.upper()}"}}'),
        failed(
            1, 1, f"Virtual machine does not exist: {{'vmId': '{VM}'}}",
            error="NoSuchVM", kind="caller", retry=False, requestID="1", vmId=VM,
        ),
    ),
    "an error of the state": (
        call("VM.thaw", f'["{VM}"]'),
        failed(
            1, 77, "Unable to thaw guest filesystems: "
            f"VM {VM} was frozen by unix:bob; say force=true to thaw it all the same",
            error="ThawNeedsForce", kind="state", retry=False, requestID="1",
            vmId=VM, owner="unix:bob",
        ),
    ),
    "an error worth another try": (
        call("VM.getFreezeStatus", f'["{VM}"]'),
        failed(
            1, 5100, "libvirt is unavailable: the socket is gone",
            error="LibvirtUnavailable", kind="unavailable", retry=True, requestID="1",
            reason="the socket is gone",
        ),
    ),
    "a bug": (
        call("Host.getCapabilities"),
        failed(
            1, -32603, "Internal error: see the daemon's log for request 1",
            error="InternalError", kind="internal", retry=False, requestID="1",
        ),
    ),
}  # fmt: skip


class Everyone:
    def of_peer(self, peer: Peer) -> Caller:
        return Caller(peer.name(), "admin")


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders may be longer than the 107 bytes of a socket's path.
    made = Path(tempfile.mkdtemp(prefix="vc-"))
    yield made
    shutil.rmtree(made)


async def answered(path: Path, bodies: list[bytes]) -> list[tuple[int, str, bytes]]:
    """Status, content type and body of each reply, of one daemon over one connection."""
    load_verbs(CONTRACT)  # for the classes of the parameters
    lanes = {name: Lane(name, 2, 2) for name in ("libvirt", "agent", "disk", "ceph", "rescue")}
    functions = {name: FUNCTIONS.get(name, raising(KeyError(name))) for name in CONTRACT.verbs}
    dispatcher = Dispatcher(CONTRACT, functions, lanes)
    server = HttpSite(dispatcher, Everyone(), max_body_bytes=4096, max_connections=10)
    await server.start([open_socket(path, "no-such-group")])
    replies = []
    connector = aiohttp.UnixConnector(path=str(path), limit=1)
    try:
        async with aiohttp.ClientSession(connector=connector) as session, asyncio.timeout(10):
            for body in bodies:
                async with session.post("http://localhost/jsonrpc", data=body) as reply:
                    replies.append((reply.status, reply.content_type, await reply.read()))
    finally:
        await server.close()
        for lane in lanes.values():
            lane.close()
    return replies


def ask(folder: Path, *bodies: str | bytes) -> list[tuple[int, str, bytes]]:
    raw = [body.encode() if isinstance(body, str) else body for body in bodies]
    return asyncio.run(answered(folder / "s", raw))


@pytest.mark.parametrize("case", TRANSCRIPTS)
def test_a_body_has_exactly_this_reply(case: str, folder: Path) -> None:
    body, expected = TRANSCRIPTS[case]
    ((status, content_type, reply),) = ask(folder, body)
    if expected is None:
        assert (status, reply) == (204, b"")
        return
    assert (status, content_type) == (200, "application/json")
    # As text: to Python 1 == 1.0 == True, and to a client they differ.
    assert canonical(json.loads(reply)) == canonical(expected)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1)


def test_unicode_travels_as_utf_8_and_not_escaped(folder: Path) -> None:
    ((_status, _type, reply),) = ask(folder, echo("1", '["\\u00fc"]'))
    assert "ü".encode() in reply


def test_request_ids_count_the_calls_of_known_verbs(folder: Path) -> None:
    wrong = echo("1", "[]")
    replies = ask(folder, wrong, echo("1"), call("Host.nothing"), wrong)
    errors_ = [json.loads(reply).get("error") for _status, _type, reply in replies]
    told = [error and error["data"]["requestID"] for error in errors_]
    assert told == ["1", None, "-", "3"]
