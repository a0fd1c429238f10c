"""Clients of engines, with their habits and defects: none of them ever waits for the next heart-beat."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.pki import Authority, Credentials
from tests.wire.clients import JavaLike, PythonLike
from tests.wire.serving import ADDRESS, Served, client_tls, serving

CONCURRENT = 16
BURSTS = 15
# Far below the 30 s of the heart-beats, and far above what a busy machine takes.
BOUND_S = 2.0
STALL_S = 1.0
SLOW_VERB_S = 0.02


@pytest.fixture(params=["plain", "tls"])
def credentials(request: pytest.FixtureRequest, tmp_path: Path) -> Credentials | None:
    return Authority().issue(tmp_path, "host.lab") if request.param == "tls" else None


@pytest.fixture
def served(credentials: Credentials | None) -> Iterator[Served]:
    functions = {"Host.getCapabilities": lambda: time.sleep(SLOW_VERB_S)}
    with serving(tls=credentials, functions=functions) as served:
        yield served


@pytest.fixture
def java(served: Served, credentials: Credentials | None) -> Iterator[JavaLike]:
    client = JavaLike((ADDRESS, served.port), credentials and client_tls(credentials))
    yield client
    client.close()


@pytest.mark.parametrize("method", ["Host.ping2", "Host.getVMList"])
def test_sixteen_concurrent_requests_of_a_java_client_never_wait_for_a_heartbeat(
    java: JavaLike, method: str
) -> None:
    took_s = [java.until_answered(java.ask(method, CONCURRENT), 2 * BOUND_S) for _ in range(BURSTS)]
    assert max(took_s) < BOUND_S, took_s


def test_events_do_not_make_a_java_client_wait(served: Served, java: JavaLike) -> None:
    def tell() -> None:
        for number in range(3):
            served.server.publish_event(f"|virt|VM_status|{number}", {"x": {"status": "Up"}})

    for _ in range(BURSTS):
        idents = java.ask("Host.ping2", CONCURRENT)
        served.call(tell)
        assert java.until_answered(idents, 2 * BOUND_S) < BOUND_S


def test_an_event_reaches_a_java_client_at_once(served: Served, java: JavaLike) -> None:
    served.call(lambda: served.server.publish_event("|net|host_conn|no_id", {}))
    began_s = time.monotonic()
    while not java.frames:
        java.turn(BOUND_S)
        assert time.monotonic() - began_s < BOUND_S
    assert java.frames[0].command == "MESSAGE"


def test_without_its_pace_a_java_client_waits(
    served: Served, credentials: Credentials | None
) -> None:
    """That the client of these tests has the defect at all: one that names no host is not paced. It stalls
    when replies come in together, which on a busy machine they may fail to do."""
    tls = credentials and client_tls(credentials)
    for _ in range(BURSTS):
        client = JavaLike((ADDRESS, served.port), tls, host=None)
        try:
            if client.until_answered(client.ask("Host.ping2", CONCURRENT), STALL_S) > STALL_S:
                return
        finally:
            client.close()
    pytest.fail("it never stalled")


@pytest.mark.parametrize("credentials", ["tls"], indirect=True)
def test_heartbeats_reach_a_java_client_in_time(
    served: Served, credentials: Credentials | None
) -> None:
    """It ends the connection after one and a half times what it asked for. It asks for so much that a busy
    machine makes no half of it."""
    client = JavaLike(
        (ADDRESS, served.port), credentials and client_tls(credentials), wants_ms=3000
    )
    try:
        end_s = time.monotonic() + 6.9
        while time.monotonic() < end_s:
            client.turn(0.5)
        assert client.longest_silence_s < 4.5
    finally:
        client.close()


def test_a_python_client_is_answered(served: Served, credentials: Credentials | None) -> None:
    client = PythonLike((ADDRESS, served.port), credentials and client_tls(credentials))
    try:
        assert client.call("Host.ping2") is True
        assert client.call("Host.echo", message="hi") == "hi"
        assert client.call("Host.nosuch")["code"] == -32601
        assert client.connections == 1
    finally:
        client.close()


def test_a_python_client_that_was_cut_off_connects_again_and_is_answered(
    served: Served, credentials: Credentials | None
) -> None:
    client = PythonLike((ADDRESS, served.port), credentials and client_tls(credentials))
    try:
        assert client.call("Host.ping2") is True
        served.call(lambda: [one.end("a test") for one in list(served.server.connections)])
        assert client.call("Host.ping2") is True
        assert client.connections == 2
    finally:
        client.close()
