"""The client's longer flows: a frozen window, and waiting for a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_daemon import Failure, FakeDaemon
from virtceph.client import Client, NoSuchJob, ServerError, TimedOut, connect

VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"
JOB = "0a9b8c7d-6e5f-4a3b-9c2d-1e0f2a3b4c5d"
FROZEN = {"windowID": "w", "filesystems": 2, "expiresIn": 30.0}
THAWED = {"windowID": "w", "filesystems": 2, "frozenFor": 0.4, "intact": True, "reason": ""}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(tmp_path / "sock", {"VM.freeze": FROZEN, "VM.thaw": THAWED}) as fake:
        yield fake


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[Client]:
    with connect(daemon.path, timeout_s=5) as client:
        yield client


def test_the_frozen_window_freezes_with_a_lease_and_thaws(
    client: Client, daemon: FakeDaemon
) -> None:
    with client.frozen(VM, timeout_s=7) as window:
        assert window == FROZEN
        assert daemon.calls == [("VM.freeze", {"vmID": VM, "timeout": 7})]
    assert daemon.calls[1:] == [("VM.thaw", {"vmID": VM})]
    assert window.thaw == THAWED


def test_a_freeze_by_attribute_has_a_short_lease_unless_told(
    client: Client, daemon: FakeDaemon
) -> None:
    client.VM.freeze(vmID=VM)
    client.VM.freeze(vmID=VM, timeout=5)
    assert [params["timeout"] for _, params in daemon.calls] == [30.0, 5]


def test_a_failing_block_thaws_and_keeps_its_own_error(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["VM.thaw"] = Failure(77, "cannot thaw")
    with pytest.raises(RuntimeError, match="disk full") as caught, client.frozen(VM):
        raise RuntimeError("disk full")
    assert [method for method, _ in daemon.calls] == ["VM.freeze", "VM.thaw"]
    assert "cannot thaw" in caught.value.__notes__[0]


def test_a_thaw_that_fails_is_raised(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["VM.thaw"] = Failure(77, "cannot thaw")
    with pytest.raises(ServerError, match="cannot thaw"), client.frozen(VM):
        pass


def test_a_freeze_that_fails_thaws_nothing(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["VM.freeze"] = Failure(76, "no agent")
    with pytest.raises(ServerError, match="no agent"), client.frozen(VM):
        pytest.fail("the block must not run")
    assert len(daemon.calls) == 1


@pytest.mark.parametrize("end", ["done", "failed", "aborted"])
def test_waiting_for_a_job_returns_how_it_ended(
    client: Client, daemon: FakeDaemon, end: str
) -> None:
    states = iter(["pending", "running", end])
    daemon.answers["Host.getJobs"] = lambda _params: {JOB: {"id": JOB, "status": next(states)}}
    assert client.wait_for_job(JOB, timeout_s=5)["status"] == end
    assert daemon.calls[0] == ("Host.getJobs", {"job_ids": [JOB]})


def test_waiting_for_an_unknown_job_says_so(client: Client, daemon: FakeDaemon) -> None:
    daemon.answers["Host.getJobs"] = {}
    with pytest.raises(NoSuchJob, match=JOB):
        client.wait_for_job(JOB, timeout_s=5)


def test_waiting_for_a_job_ends_in_time(client: Client, daemon: FakeDaemon) -> None:
    running: dict[str, Any] = {JOB: {"id": JOB, "status": "running"}}
    daemon.answers["Host.getJobs"] = running
    with pytest.raises(TimedOut, match=JOB):
        client.wait_for_job(JOB, timeout_s=0.2)
