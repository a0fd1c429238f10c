"""The UNIX socket: who may open it, and of two daemons which one has it."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from virtceph.rpc.unixsocket import SocketInUse, open_socket


@pytest.fixture
def folder() -> Iterator[Path]:
    # pytest's own folders may be longer than the 107 bytes of a socket's path.
    made = Path(tempfile.mkdtemp(prefix="vc-"))
    yield made
    shutil.rmtree(made)


def test_the_socket_is_for_owner_and_group_alone(folder: Path) -> None:
    with open_socket(folder / "s", "no-such-group"):
        assert stat.S_IMODE((folder / "s").stat().st_mode) == 0o660


def test_a_stale_socket_is_replaced(folder: Path) -> None:
    open_socket(folder / "s", "no-such-group").close()
    with open_socket(folder / "s", "no-such-group") as listener, connected(folder / "s"):
        assert listener.accept()


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def test_a_daemon_that_listens_keeps_its_socket(folder: Path) -> None:
    with open_socket(folder / "s", "no-such-group"):
        with pytest.raises(SocketInUse):
            open_socket(folder / "s", "no-such-group")
        connected(folder / "s").close()


def test_a_daemon_whose_backlog_is_full_keeps_its_socket(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(folder / "s"))
        hung.listen(0)
        waiting = connected(folder / "s")
        with pytest.raises(SocketInUse):
            open_socket(folder / "s", "no-such-group")
        waiting.close()


def test_a_file_that_is_no_socket_is_left_alone(folder: Path) -> None:
    (folder / "s").write_text("precious")
    with pytest.raises(FileExistsError):
        open_socket(folder / "s", "no-such-group")
    assert (folder / "s").read_text() == "precious"


def test_of_daemons_that_start_at_once_exactly_one_listens(folder: Path) -> None:
    for round_ in range(20):
        path = folder / f"s{round_}"
        with socket.socket(socket.AF_UNIX) as crashed:
            crashed.bind(str(path))
        outcomes = race(lambda path=path: open_socket(path, "no-such-group"))  # type: ignore[misc]
        listening = [one for one in outcomes if isinstance(one, socket.socket)]
        assert len(listening) == 1
        connected(path).close()
        listening[0].close()


def race(work: Callable[[], Any]) -> list[Any]:
    start = threading.Barrier(4)
    outcomes: list[Any] = []

    def run() -> None:
        start.wait()
        try:
            outcomes.append(work())
        except (SocketInUse, OSError) as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_no_descriptor_is_left_when_a_socket_cannot_be_made(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="AF_UNIX path too long"):
        open_socket(folder / ("x" * 120), "no-such-group")
    assert len(os.listdir("/proc/self/fd")) == before
