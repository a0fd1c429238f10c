"""What the daemon tells systemd and gets from it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from virtceph import systemd


def receiver(address: str | bytes) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(address)
    made.settimeout(2)
    return made


def test_notices_go_to_a_socket_in_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", "n")
    with receiver("n") as manager:
        systemd.notify("READY=1", "STATUS=serving")
        assert manager.recv(100) == b"READY=1\nSTATUS=serving"


def test_notices_go_to_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"virtceph-test-{os.getpid()}"
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    with receiver(b"\0" + name.encode()) as manager:
        systemd.notify("WATCHDOG=1")
        assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "/" + "x" * 200])
def test_a_notice_that_cannot_be_sent_stops_nobody(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    systemd.notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [
        (None, None, None),
        ("3000000", None, 1.5),
        ("3000000", str(os.getpid()), 1.5),
        ("3000000", "1", None),
        ("0", None, None),
        ("soon", None, None),
        ("²", None, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_systemd_asks(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, interval_s: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert systemd.watchdog_interval_s() == interval_s


_CHILD = """
import os
from virtceph import systemd
os.environ["LISTEN_PID"] = str(os.getpid() + {offset})
for listener in systemd.listen_sockets():
    print(listener.getsockname(), os.get_inheritable(listener.fileno()))
"""


def inherited(count: int, offset: int = 0) -> list[str]:
    """What a child process finds that is given `count` sockets as systemd gives them."""
    listeners = [socket.socket(socket.AF_UNIX) for _ in range(count)]
    for number, listener in enumerate(listeners):
        listener.bind(f"\0virtceph-test-{os.getpid()}-{number}")
        listener.listen()

    def as_systemd() -> None:
        for number, listener in enumerate(listeners):
            os.dup2(listener.fileno(), 50 + number)
        for number in range(count):
            os.dup2(50 + number, 3 + number)

    environment = {**os.environ, "LISTEN_FDS": str(count), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(offset=offset)],
        preexec_fn=as_systemd,
        close_fds=False,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    for listener in listeners:
        listener.close()
    return done.stdout.splitlines()


def test_sockets_of_systemd_are_taken_in_order_and_not_handed_to_children() -> None:
    first, second = inherited(2)
    assert (first[-8:], second[-8:]) == ("0' False", "1' False")


def test_sockets_for_another_process_are_left_alone() -> None:
    assert inherited(1, offset=1) == []


def test_outside_systemd_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LISTEN_PID", raising=False)
    assert systemd.listen_sockets() == []
