"""The targets of the fuzzer, without it: fed with what clients send, with what was found once, and with what
they must find out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import targets
from tests.fuzz.targets import TARGETS, Bodies, Bounded, check_reply, check_sent, examples
from virtceph.rpc.callers import OVER_HTTP

FOUND = Path(__file__).parent / "found"
EXAMPLES = examples()


@pytest.mark.parametrize("name", TARGETS)
def test_what_clients_send_and_what_was_found_once_passes(name: str) -> None:
    target = TARGETS[name]()
    found = [path.read_bytes() for path in (FOUND / name).glob("*")]
    assert len(EXAMPLES[name]) > 30
    for data in [*EXAMPLES[name], *found, b"", b"\0", b"\xff" * 50]:
        target(data)


PING = b'{"jsonrpc":"2.0","method":"Host.ping2","id":1}'
NOTIFICATION = b'{"jsonrpc":"2.0","method":"Host.ping2"}'
GOOD = {"jsonrpc": "2.0", "id": 1, "result": True}


def test_a_reply_that_fits_is_taken() -> None:
    check_reply(PING, GOOD, any_id=False)
    check_reply(NOTIFICATION, None, any_id=False)


@pytest.mark.parametrize(
    ("body", "reply"),
    [
        (NOTIFICATION, {**GOOD, "id": None}),
        (PING, None),
        (PING, [GOOD, GOOD]),
        (PING, {**GOOD, "id": 1.0}),
        (PING, {"jsonrpc": "2.0", "id": 1, "error": {"code": -32603}}),
    ],
)
def test_a_reply_that_does_not_fit_is_found_out(body: bytes, reply: Any) -> None:
    with pytest.raises(AssertionError):
        check_reply(body, reply, any_id=False)


def test_a_frame_that_nobody_asked_for_is_found_out() -> None:
    with pytest.raises(AssertionError):
        check_sent(b"MESSAGE\ncontent-length:0\n\n\0", [])


def many(target: Callable[[bytes], None]) -> None:
    for _ in range(100):
        target(b"{}")


def test_memory_that_grows_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_TURN", 10)
    kept: list[Any] = []
    many(Bounded(Bodies(OVER_HTTP)))
    with pytest.raises(AssertionError):
        many(Bounded(lambda _data: kept.extend([object()] for _ in range(3000))))
