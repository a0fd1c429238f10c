"""The client library: what a call sends, and what it raises."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pytest_mock import MockerFixture

from tests.fakes.fake_daemon import Failure, FakeDaemon
from virtceph.client import Client, ConnectionFailed, ServerError, TimedOut, connect
from virtceph.sensitive import Sensitive

VM = UUID("5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "sock", {"Host.ping2": True, "Host.echo": lambda p: p}) as fake:
        yield fake


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with connect(daemon.path, timeout_s=5) as client:
        yield client


def test_call_returns_the_result_by_name_and_by_attribute(client: Client) -> None:
    assert client.call("Host.ping2") is True
    assert client.Host.ping2() is True
    assert client.Host.echo(message="grüße") == {"message": "grüße"}


def test_uuids_and_secrets_are_turned_into_text(client: Client) -> None:
    sent = client.call("Host.echo", vmID=VM, secrets=[{"password": Sensitive(b"key")}])
    assert sent == {"vmID": str(VM), "secrets": [{"password": "a2V5"}]}


def test_what_json_cannot_say_is_refused_before_anything_is_sent(
    client: Client, daemon: FakeDaemon
) -> None:
    with pytest.raises(TypeError, match="a bytes cannot be sent"):
        client.call("Host.echo", message=b"raw")
    assert daemon.bodies == []


def test_a_failed_verb_raises_its_code_message_name_and_facts(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.answers["VM.getInfo"] = Failure(1, "no VM", {"error": "NoSuchVM", "vmId": str(VM)})
    with pytest.raises(ServerError) as caught:
        client.VM.getInfo(vmID=VM)
    assert (caught.value.code, caught.value.message) == (1, "no VM")
    assert (caught.value.name, caught.value.data["vmId"]) == ("NoSuchVM", str(VM))
    assert str(caught.value) == "(code=1, message=no VM)"


def test_a_failure_without_data_has_no_name(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["VM.getInfo"] = Failure(1, "no VM")
    with pytest.raises(ServerError) as caught:
        client.VM.getInfo(vmID=VM)
    assert (caught.value.name, caught.value.data) == (None, {})


def test_lower_case_attributes_are_no_namespaces(client: Client) -> None:
    with pytest.raises(AttributeError):
        client.pink  # noqa: B018


def test_one_connection_serves_many_calls(client: Client, daemon: FakeDaemon) -> None:
    for _ in range(5):
        client.Host.ping2()
    client.notify("Host.ping2")
    client.Host.ping2()
    assert daemon.connections == 1


def test_a_kept_connection_that_the_daemon_closed_is_replaced_unnoticed(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.manner = "answer, close"
    for _ in range(4):
        assert client.Host.ping2() is True
    assert len(daemon.bodies) == 4
    assert daemon.connections == 4


def test_a_request_the_daemon_read_and_never_answered_is_not_sent_again(
    client: Client, daemon: FakeDaemon
) -> None:
    client.Host.ping2()
    daemon.manner = "close"
    with pytest.raises(ConnectionFailed, match="may have been done"):
        client.Host.ping2()
    assert len(daemon.bodies) == 2


def test_a_first_request_that_is_never_answered_is_not_sent_again(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.manner = "close"
    with pytest.raises(ConnectionFailed):
        client.Host.ping2()
    assert len(daemon.bodies) == 1


def test_a_call_after_a_broken_one_connects_anew(client: Client, daemon: FakeDaemon) -> None:
    daemon.manner = "close"
    with pytest.raises(ConnectionFailed):
        client.Host.ping2()
    daemon.manner = "answer"
    assert client.Host.ping2() is True


def test_a_late_answer_times_out_once_and_is_never_taken_for_the_next(
    client: Client, daemon: FakeDaemon
) -> None:
    release = threading.Event()
    daemon.answers["Host.slow"] = lambda _params: release.wait(5)
    with pytest.raises(TimedOut, match=r"Request Host\.slow timed out after 0\.1 seconds"):
        client.call("Host.slow", _timeout_s=0.1)
    release.set()
    assert client.Host.echo(message="next") == {"message": "next"}
    assert [method for method, _ in daemon.calls] == ["Host.slow", "Host.echo"]


def test_the_timeout_bounds_the_whole_answer_and_not_each_byte(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.manner = "drip"
    begin = time.monotonic()
    with pytest.raises(TimedOut):
        client.call("Host.echo", message="x" * 200, _timeout_s=0.3)
    assert time.monotonic() - begin < 1.5


def test_half_an_answer_is_a_broken_connection(client: Client, daemon: FakeDaemon) -> None:
    daemon.manner = "short"
    with pytest.raises(ConnectionFailed, match="broke"):
        client.Host.ping2()


def test_an_answer_that_is_not_json_rpc_is_told(client: Client, daemon: FakeDaemon) -> None:
    daemon.manner = "garbage"
    with pytest.raises(ConnectionFailed, match="not JSON"):
        client.Host.ping2()


def test_a_notification_is_delivered_and_answers_nothing(
    client: Client, daemon: FakeDaemon
) -> None:
    assert client.notify("Host.echo", message="hi") is None  # type: ignore[func-returns-value]
    assert "id" not in daemon.bodies[0]


def test_a_batch_answers_in_the_order_of_its_calls(client: Client) -> None:
    first, second, third = client.batch(
        [("Host.echo", {"message": "a"}), ("No.verb", {}), ("Host.ping2", {})]
    )
    assert (first, third) == ({"message": "a"}, True)
    assert isinstance(second, ServerError)
    assert second.name == "MethodNotFound"


def test_an_empty_batch_sends_nothing(client: Client, daemon: FakeDaemon) -> None:
    assert client.batch([]) == []
    assert daemon.bodies == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "not in the group"),
        (413, "too large"),
        (503, "cannot serve this now.*not in the group"),
    ],
)
def test_a_refused_request_tells_why(
    client: Client, daemon: FakeDaemon, status: int, words: str
) -> None:
    daemon.status = status
    with pytest.raises(ConnectionFailed, match=words) as caught:
        client.Host.ping2()
    assert caught.value.status == status


def test_a_body_refused_before_it_was_read_tells_why_too(
    client: Client, daemon: FakeDaemon
) -> None:
    daemon.status = 413
    with pytest.raises(ConnectionFailed) as caught:
        client.Host.echo(message="x" * 8_000_000)
    assert caught.value.status == 413


def test_a_missing_socket_says_to_look_at_the_daemon(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match=r"no socket .* is virtcephd running"):
        connect(str(tmp_path / "none"))


def test_a_socket_nobody_listens_on_says_to_start_the_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "sock"))
    with pytest.raises(ConnectionFailed, match="systemctl start virtcephd"):
        connect(str(tmp_path / "sock"))


def test_a_forbidden_socket_names_the_group(daemon: FakeDaemon, mocker: MockerFixture) -> None:
    # Root may open any socket, so the kernel's refusal is imitated.
    class Forbidden(socket.socket):
        def connect(self, _address: Any) -> None:
            raise PermissionError(13, "Permission denied")

    mocker.patch("virtceph.client.transport.socket.socket", Forbidden)
    with pytest.raises(ConnectionFailed, match="member of the group virtceph"):
        connect(daemon.path)


def test_the_socket_is_taken_from_the_environment(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTCEPH_SOCKET", daemon.path)
    with connect() as client:
        assert client.Host.ping2() is True
