"""The daemon and its worker processes: what they say, and that the key is told to nobody else."""

from __future__ import annotations

import os
import textwrap
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.waiting import until as until_at_most
from virtceph import errors
from virtceph.ceph import wire, workers
from virtceph.ceph.spec import ClusterSpec, PoolSpec
from virtceph.ceph.workers import Call, NoReply, WorkerPool, WorkerProcess
from virtceph.sensitive import Sensitive

until = partial(until_at_most, timeout_s=5.0)

KEY = b"never-to-be-seen"
SPEC = ClusterSpec(("10.0.1.1:6789", "[fd00::1]:3300"), "virtceph", Sensitive(KEY), 5.0)


def test_a_spec_comes_over_whole() -> None:
    line = wire.dump_spec(SPEC)
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    assert wire.load_spec(line) == SPEC


@pytest.mark.parametrize(
    "error",
    [
        errors.NoSuchVolume("x\ny"),
        errors.SnapshotExists("x", "s"),
        errors.VolumeInUse("x", ["10.0.1.1:0/1"]),
        errors.VolumeHasSnapshots("x", ["a", "b"]),
        errors.SnapshotProtected("x", "s"),
        errors.CephFailed("open", 5, "I/O error"),
        errors.CephUnavailable("no answer in time"),
        errors.CephPermissionDenied("cinder", "open", "osd"),
        errors.KeyRejected("cinder"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_comes_over_with_its_facts(error: errors.VirtcephError) -> None:
    message = wire.load(wire.dump({"id": 1, "error": wire.dump_error(error)}))
    back = wire.load_error(message["error"])
    assert type(back) is type(error)
    assert errors.facts_of(back) == errors.facts_of(error)


def test_an_error_that_is_unknown_here_is_an_error_all_the_same() -> None:
    back = wire.load_error({"class": "Newer", "facts": {}})
    assert isinstance(back, errors.CephFailed)


def test_monitors_are_named_with_their_protocol() -> None:
    monitors = ("a:6789", "b:3300", "v1:c:3300", "v2:d:1")
    spec = ClusterSpec(monitors, "x", Sensitive(b"k"), 1.0)
    assert spec.mon_host() == "[v1:a:6789],[v2:b:3300],[v1:c:3300],[v2:d:1]"


# A worker that needs no Ceph: it does what the image's name says.
STUB = """
import json, os, socket, sys, threading, time
channel = socket.socket(fileno=int(sys.argv[-1]))
lines = channel.makefile("rb")
spec = json.loads(lines.readline())
def say(**message):
    channel.sendall(json.dumps(message).encode() + b"\\n")
if spec["user"] == "rejected":
    say(id=0, error={"class": "KeyRejected", "facts": {"user": "rejected"}})
    os._exit(0)
if spec["user"] == "mute":
    time.sleep(60)
say(id=0, result=os.getpid())
together = threading.Barrier(8)
def work(request):
    name = request["arguments"]["name"]
    if name == "silent":
        time.sleep(60)
    elif name == "die":
        os._exit(1)
    elif name == "garbage":
        channel.sendall(b"{no json\\n")
    elif name == "error":
        say(id=request["id"], error={"class": "NoSuchVolume", "facts": {"volume_name": name}})
    elif name == "look":
        with open("/proc/self/cmdline") as a, open("/proc/self/environ") as b:
            say(id=request["id"], result=[a.read(), b.read()])
    else:
        if name.startswith("together"):
            together.wait()
        time.sleep(0.05)
        say(id=request["id"], result=name)
for line in lines:
    threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()
os._exit(0)
"""


@pytest.fixture(autouse=True)
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker module of the children is the stub; it is found first on their path."""
    folder = tmp_path / "virtceph" / "ceph"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").touch()
    (folder / "worker.py").write_text(textwrap.dedent(STUB))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CEPH_ARGS", "--log-file=/x")


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    made = WorkerProcess(SPEC)
    yield made
    made.kill()


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    made = WorkerPool(SPEC, 1)
    yield made
    made.close()
    until(lambda: not any(map(exists, made.pids())))


def call(name: str) -> Call:
    return Call("create_snapshot", PoolSpec("vms"), {"name": name})


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_work_without_a_bound_is_waited_for(worker: WorkerProcess) -> None:
    assert worker.run([call("a")], float("inf")) == ["a"]


def test_the_key_stands_in_no_argument_and_no_environment(worker: WorkerProcess) -> None:
    (seen,) = worker.run([call("look")], soon())
    assert isinstance(seen, list)
    arguments, environment = seen
    for secret in (KEY.decode(), SPEC.key.reveal_base64()):
        assert secret not in arguments
        assert secret not in environment
    assert "CEPH_ARGS" not in environment


def test_calls_run_side_by_side_and_each_has_its_own_outcome(worker: WorkerProcess) -> None:
    # None of them ends before all have begun.
    names = [f"together-{number}" for number in range(8)]
    outcomes = worker.run([call(name) for name in [*names, "error"]], soon())
    assert isinstance(outcomes.pop(), errors.NoSuchVolume)
    assert outcomes == names
    assert worker.alive()


def test_a_worker_that_is_late_is_killed_and_the_others_answers_count(
    worker: WorkerProcess,
) -> None:
    outcomes = worker.run([call("silent"), call("a")], soon(0.3))
    assert isinstance(outcomes[0], NoReply)
    assert outcomes[1] == "a"
    assert not worker.alive()


@pytest.mark.parametrize("name", ["die", "garbage"])
def test_a_worker_that_dies_or_babbles_gives_no_reply(worker: WorkerProcess, name: str) -> None:
    (outcome,) = worker.run([call(name)], soon())
    assert isinstance(outcome, NoReply)
    assert not worker.alive()


def test_a_worker_that_is_dead_already_gives_no_reply(worker: WorkerProcess) -> None:
    os.kill(worker.pid, 9)
    until(lambda: not worker.alive())
    assert isinstance(worker.run([call("a")], soon())[0], NoReply)


def test_a_worker_killed_from_another_thread_gives_no_reply(worker: WorkerProcess) -> None:
    for name in ("silent", "a"):
        killer = threading.Timer(0.05, worker.kill)
        killer.start()
        assert isinstance(worker.run([call(name)], soon())[0], NoReply)
        killer.join()


def test_a_rejected_key_is_told_when_a_worker_starts() -> None:
    spec = ClusterSpec(SPEC.monitors, "rejected", SPEC.key, 1.0)
    with pytest.raises(errors.KeyRejected):
        WorkerProcess(spec)
    # Later it means that the key was changed: verbs name CephPermissionDenied, not KeyRejected.
    pool = WorkerPool(spec, 0)
    with pytest.raises(errors.CephPermissionDenied), pool.worker():
        pass


def test_a_worker_that_never_connects_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START_S", 0.2)
    pool = WorkerPool(ClusterSpec(SPEC.monitors, "mute", SPEC.key, 0.1), 0)
    with pytest.raises(errors.CephUnavailable), pool.worker():
        pass


def test_a_worker_is_ready_before_it_is_asked_for_and_kept_after(pool: WorkerPool) -> None:
    until(pool.pids)
    (ready,) = pool.pids()
    with pool.worker() as lent:
        assert lent.pid == ready
    assert ready in pool.pids()


def test_a_worker_that_died_while_idle_is_replaced(pool: WorkerPool) -> None:
    until(pool.pids)
    (ready,) = pool.pids()
    os.kill(ready, 9)
    time.sleep(0.05)
    assert pool.run([call("a")], 5) == ["a"]
    assert ready not in pool.pids()


def test_a_worker_that_was_killed_is_not_kept(pool: WorkerPool) -> None:
    pool.run([call("silent")], 0.1)
    assert pool.run([call("a")], 5) == ["a"]


def test_close_kills_idle_and_busy_workers_and_lends_no_more(pool: WorkerPool) -> None:
    outcomes: list[Any] = []
    busy = threading.Thread(target=lambda: outcomes.extend(pool.run([call("silent")], 30)))
    busy.start()
    until(lambda: len(pool.pids()) == 2)
    pids = pool.pids()
    pool.close()
    busy.join(5)
    assert isinstance(outcomes[0], NoReply)
    until(lambda: not any(map(exists, pids)))
    with pytest.raises(errors.CephUnavailable), pool.worker():
        pass


def test_a_pool_closed_while_a_worker_starts_keeps_none() -> None:
    started: list[WorkerProcess] = []

    class Slow(WorkerPool):
        def _start(self) -> WorkerProcess:
            made = super()._start()
            started.append(made)
            self.close()
            return made

    pool = Slow(SPEC, 0)
    with pytest.raises(errors.CephUnavailable), pool.worker():
        pass
    assert not started[0].alive()
    pool = Slow(SPEC, 1)
    until(lambda: len(started) == 2 and not started[1].alive())
    assert pool.pids() == []


def test_no_descriptor_is_left_of_a_worker() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        WorkerProcess(SPEC).kill()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_worker_ends_when_its_daemon_does() -> None:
    made = WorkerProcess(SPEC)
    made._lines.close()
    made._channel.close()
    assert made._process.wait(5) == 0
