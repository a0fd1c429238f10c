"""Nobody else gets in: who has no certificate of the authority, or one that [access] does not name."""

from __future__ import annotations

import contextlib
import datetime
import logging
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.pki import DAY, ORGANIZATION, Authority, Credentials
from tests.wire.clients import PythonLike
from tests.wire.frames import frame
from tests.wire.serving import ADDRESS, Served, client_tls, serving

VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"
LATE_S = 10.0
SECONDS = datetime.timedelta(seconds=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki")


@pytest.fixture(scope="module")
def host(authority: Authority, folder: Path) -> Credentials:
    return authority.issue(folder / "host", "host.lab")


@pytest.fixture(scope="module")
def served(host: Credentials) -> Iterator[Served]:
    levels = {level: (f"cert:CN={level}.lab",) for level in ("admins", "operators", "monitors")}
    with serving(tls=host, handshake_timeout_s=10.0, **levels) as served:  # type: ignore[arg-type]
        yield served


def gets_in(served: Served, tls: ssl.SSLContext | None) -> bool:
    """Whether a ping is answered. Without it nothing at all must come."""
    try:
        client = PythonLike((ADDRESS, served.port), tls, LATE_S)
    except (ConnectionError, ssl.SSLError):
        return False
    answer = client.call("Host.ping2")
    client.close()
    return answer is True


def what_comes(served: Served, tls: ssl.SSLContext | None, data: bytes) -> bytes:
    """All that the server sends up to the end of the connection."""
    came = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        plain = socket.create_connection((ADDRESS, served.port), LATE_S)
        with plain if tls is None else tls.wrap_socket(plain) as connection:
            connection.sendall(data)
            while data := connection.recv(4096):
                came += data
    return came


CONNECT = frame("CONNECT", "accept-version:1.2")


def test_a_certificate_that_access_names_gets_in(
    served: Served, authority: Authority, folder: Path
) -> None:
    admin = authority.issue(folder / "admin", "admins.lab")
    assert gets_in(served, client_tls(admin))
    # As the audit trail and leases call it.
    assert served.told[-1].caller.name == f"cert:CN=admins.lab,O={ORGANIZATION}"
    assert served.told[-1].caller.source.startswith("127.0.0.1:")


def test_nobody_else_gets_a_byte(served: Served, authority: Authority, folder: Path) -> None:
    stranger = Authority("another authority")
    no_certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    no_certificate.check_hostname = False
    no_certificate.load_verify_locations(authority.issue(folder / "trusting", "x.lab").ca)
    contexts = {
        "no certificate": no_certificate,
        "another authority": client_tls(
            stranger.issue(folder / "other", "admins.lab", trusted=authority)
        ),
        "expired": client_tls(
            authority.issue(folder / "old", "admins.lab", begins=-2 * DAY, ends=-DAY)
        ),
        "not valid yet": client_tls(
            authority.issue(folder / "new", "admins.lab", begins=DAY, ends=2 * DAY)
        ),
        "unknown to [access]": client_tls(authority.issue(folder / "who", "who.lab")),
    }
    for why, context in contexts.items():
        assert what_comes(served, context, CONNECT) == b"", why
    (who,) = [who for who in served.turned_away if who.source.startswith("127.0.0.1:")]
    assert who.name == f"cert:CN=who.lab,O={ORGANIZATION}"
    assert gets_in(served, client_tls(authority.issue(folder / "admin", "admins.lab")))


def test_plain_text_to_the_tls_port_gets_no_frame(served: Served) -> None:
    assert b"CONNECTED" not in what_comes(served, None, CONNECT)


def test_an_old_version_of_tls_is_refused(
    served: Served, authority: Authority, folder: Path
) -> None:
    context = client_tls(authority.issue(folder / "admin", "admins.lab"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    assert not gets_in(served, context)


def test_tls_to_the_plain_port_is_closed_at_once(host: Credentials) -> None:
    with serving() as plain:
        began_s = time.monotonic()
        assert not gets_in(plain, client_tls(host))
        assert time.monotonic() - began_s < LATE_S / 2


def test_without_tls_nobody_gets_in_whom_access_does_not_name(host: Credentials) -> None:
    with serving(admins=("cert:*",)) as plain:
        assert what_comes(plain, None, CONNECT) == b""
    with serving(admins=(), monitors=("plain:*",)) as plain:
        client = PythonLike((ADDRESS, plain.port), None)
        assert client.call("Host.ping2") is True
        assert client.call("VM.freeze", vmID=VM)["code"] == 5000
        client.close()


@pytest.mark.parametrize(
    ("level", "freeze", "register"),
    [("monitors", 5000, 5000), ("operators", None, 5000), ("admins", None, None)],
)
def test_each_level_may_what_it_may(
    served: Served,
    authority: Authority,
    folder: Path,
    level: str,
    freeze: int | None,
    register: int | None,
) -> None:
    tls = client_tls(authority.issue(folder / level, f"{level}.lab"))
    client = PythonLike((ADDRESS, served.port), tls)
    assert client.call("Host.ping2") is True

    def code(answer: Any) -> int | None:
        return answer.get("code") if isinstance(answer, dict) else None

    assert code(client.call("VM.freeze", vmID=VM)) == freeze
    assert code(client.call("Host.registerSecrets", secrets=[])) == register
    denied = [told.verb for told in served.told if told.outcome == "AccessDenied"][-2:]
    expected = {"VM.freeze": freeze, "Host.registerSecrets": register}
    assert set(denied) >= {verb for verb, code in expected.items() if code} or level == "admins"
    client.close()


def test_who_may_only_look_cannot_send_to_others(
    served: Served, authority: Authority, folder: Path
) -> None:
    for level, told in (("monitors", "Sending to other clients"), ("operators", "Subscription")):
        tls = client_tls(authority.issue(folder / level, f"{level}.lab"))
        client = PythonLike((ADDRESS, served.port), tls)
        client._socket.sendall(frame("SEND", "destination:jms.queue.events", body="forged"))
        with pytest.raises(ConnectionError, match=told):
            client.frame()
        client.close()


# --- handshakes ---


def test_who_does_not_shake_hands_is_dropped_in_time(host: Credentials) -> None:
    with (
        serving(tls=host, handshake_timeout_s=0.5) as served,
        socket.create_connection((ADDRESS, served.port), LATE_S) as silent,
    ):
        began_s = time.monotonic()
        assert silent.recv(100) == b""
        assert time.monotonic() - began_s < LATE_S / 2


def test_who_does_not_shake_hands_keeps_nobody_out(host: Credentials) -> None:
    with serving(tls=host, max_connections=20) as served, contextlib.ExitStack() as closing:
        for _ in range(200):
            closing.enter_context(socket.create_connection((ADDRESS, served.port), LATE_S))
        assert gets_in(served, client_tls(host))


def test_handshakes_that_fail_leave_no_descriptor(served: Served) -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    what_comes(served, None, CONNECT)
    before = descriptors()
    for _ in range(50):
        what_comes(served, None, CONNECT)
    deadline_s = time.monotonic() + LATE_S
    while descriptors() > before:
        assert time.monotonic() < deadline_s, (before, descriptors())
        time.sleep(0.05)


# --- certificates that change ---


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_no_session_is_resumed_so_each_certificate_is_looked_at(
    served: Served, authority: Authority, folder: Path, version: str
) -> None:
    context = client_tls(authority.issue(folder / "admin", "admins.lab"))
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)

    def connect(session: ssl.SSLSession | None) -> ssl.SSLSocket:
        plain = socket.create_connection((ADDRESS, served.port), LATE_S)
        connection = context.wrap_socket(plain, session=session)
        connection.sendall(CONNECT)
        assert connection.recv(100).startswith(b"CONNECTED")
        return connection

    with connect(None) as first, connect(first.session) as second:
        assert second.session_reused is False


def name_of_server(served: Served, tls: ssl.SSLContext) -> Any:
    """Who the server says that it is."""
    plain = socket.create_connection((ADDRESS, served.port), LATE_S)
    with tls.wrap_socket(plain) as connection:
        certificate = connection.getpeercert()
        assert certificate is not None
        return dict(pair for (pair,) in certificate["subject"])["commonName"]  # type: ignore


@pytest.fixture
def renewable(authority: Authority, tmp_path: Path) -> Credentials:
    return authority.issue(tmp_path / "renewable", "first.lab")


def test_a_new_certificate_counts_from_the_next_connection_on(
    authority: Authority, renewable: Credentials, host: Credentials
) -> None:
    with serving(tls=renewable) as served:
        tls = client_tls(host)
        old = PythonLike((ADDRESS, served.port), tls)
        assert name_of_server(served, tls) == "first.lab"
        authority.issue(renewable.folder, "second.lab")
        assert name_of_server(served, tls) == "second.lab"
        assert old.call("Host.ping2") is True
        assert old.connections == 1
        old.close()


def test_a_new_authority_counts_from_the_next_connection_on(
    authority: Authority, renewable: Credentials, host: Credentials, tmp_path: Path
) -> None:
    other = Authority("another authority")
    with serving(tls=renewable) as served:
        assert gets_in(served, client_tls(host))
        other.issue(renewable.folder, "second.lab")
        assert not gets_in(served, client_tls(host))
        assert gets_in(served, client_tls(other.issue(tmp_path / "theirs", "theirs.lab")))


@pytest.mark.parametrize("broken", ["another key", "cut short", "gone"])
def test_a_broken_new_certificate_keeps_the_old_one_and_is_told(
    authority: Authority,
    renewable: Credentials,
    host: Credentials,
    broken: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(tls=renewable) as served, caplog.at_level(logging.INFO):
        tls = client_tls(host)
        if broken == "another key":
            shutil.copy(host.key, renewable.key)
        elif broken == "cut short":
            renewable.certificate.write_bytes(renewable.certificate.read_bytes()[:100])
        else:
            renewable.certificate.unlink()
        assert name_of_server(served, tls) == "first.lab"
        assert "not renewed" in caplog.text
        assert "stomp." in caplog.text
        caplog.clear()
        assert name_of_server(served, tls) == "first.lab"
        assert caplog.text == ""  # told once
        authority.issue(renewable.folder, "second.lab")
        assert name_of_server(served, tls) == "second.lab"


def test_a_reload_says_whether_it_could(
    renewable: Credentials, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(tls=renewable) as served, caplog.at_level(logging.INFO):
        served.call(served.server.reload)
        assert "certificate loaded" in caplog.text
        renewable.ca.write_text("rubbish")
        served.call(served.server.reload)
        assert "stomp.ca" in caplog.text
