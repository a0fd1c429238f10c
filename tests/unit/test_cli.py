"""The CLI against a daemon: what it sends, prints and exits with."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import virtceph
from tests.fakes.fake_daemon import Failure, FakeDaemon
from virtceph.cli.main import main

VM = "5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01"
OTHER = "6d7b2f7d-3066-4a1c-8e80-4b202d3c8f12"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDaemon]:
    vms = [{"vmId": VM, "name": "web", "status": "Up", "statusTime": "1"}]
    with FakeDaemon(tmp_path / "sock", {"Host.getVMList": vms}) as fake:
        monkeypatch.setenv("VIRTCEPH_SOCKET", fake.path)
        monkeypatch.setenv("PYTHONPATH", str(Path(virtceph.__file__).parents[1]))
        yield fake


def sent(daemon: FakeDaemon, line: str) -> Any:
    """The parameters that a command line sent; its verb answers true."""
    words = line.split()
    daemon.answers.setdefault(f"{words[0]}.{words[1]}", True)
    assert main(words) == 0
    return daemon.calls[-1][1]


def feed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_the_result_is_json_with_sorted_keys(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["VM.getFreezeStatus"] = {"guest": "thawed", "a": [1]}
    assert main(["VM", "getFreezeStatus", f"vmID={VM}"]) == 0
    out, err = capsys.readouterr()
    assert out == '{\n    "a": [\n        1\n    ],\n    "guest": "thawed"\n}\n'
    assert err == ""


def test_what_is_to_be_done_first_is_told_line_by_line(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["it has the snapshot s: virtceph Volume …", "odd \x1b[2J"]
    failure = Failure(5025, "Volume has snapshots: a: ['s']", {"steps": steps})
    daemon.answers["Volume.delete"] = failure
    assert main(["Volume", "delete", f"storageDomainID={VM}", "volumeName=a"]) == 1
    assert capsys.readouterr().err.splitlines()[1:] == [
        "(code=5025, message=Volume has snapshots: a: ['s'])",
        "first, in this order:",
        "  it has the snapshot s: virtceph Volume …",
        "  odd ?[2J",
    ]


def test_a_failed_verb_is_told_as_vdsm_client_tells_it(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["VM.thaw"] = Failure(77, "Unable to thaw")
    assert main(["VM", "thaw", f"vmID={VM}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"virtceph: Command VM.thaw with args {{'vmID': '{VM}'}} failed:\n"
        "(code=77, message=Unable to thaw)\n"
    )


def test_no_daemon_is_a_failed_connection(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--socket", str(tmp_path / "none"), "Host", "ping2"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"virtceph: Connection to {tmp_path}/none failed: there is no socket")


def test_a_timeout_is_told_with_its_seconds(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["Host.ping2"] = lambda _params: threading.Event().wait(1)
    assert main(["--timeout", "0.2", "Host", "ping2"]) == 1
    expected = "virtceph: Request Host.ping2 with args {} timed out after 0.2 seconds\n"
    assert capsys.readouterr().err == expected


def test_a_freeze_always_has_a_lease(daemon: FakeDaemon) -> None:
    assert sent(daemon, f"VM freeze vmID={VM}") == {"vmID": VM, "timeout": 30.0}
    assert sent(daemon, f"VM freeze vmID={VM} timeout=5") == {"vmID": VM, "timeout": 5}


def test_a_vm_may_be_named(daemon: FakeDaemon) -> None:
    assert sent(daemon, "VM getInfo vmID=web") == {"vmID": VM}


def test_an_unknown_name_is_no_such_vm(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["VM", "getInfo", "vmID=nobody"]) == 1
    expected = "(code=1, message=Virtual machine does not exist: {'name': 'nobody'})\n"
    assert capsys.readouterr().err.endswith(expected)


def test_a_name_of_two_vms_is_refused(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["Host.getVMList"] = [{"vmId": v, "name": "web"} for v in (VM, OTHER)]
    assert main(["VM", "getInfo", "vmID=web"]) == 1
    assert "(code=1, message=Several virtual machines" in capsys.readouterr().err
    assert [method for method, _ in daemon.calls] == ["Host.getVMList"]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_parameters_come_from_a_file_wherever_it_is_named(
    daemon: FakeDaemon, tmp_path: Path, place: int
) -> None:
    (tmp_path / "params.json").write_text('{"message": "hi"}')
    daemon.answers["Host.echo"] = True
    words = ["Host", "echo"]
    words[place:place] = ["-f", str(tmp_path / "params.json")]
    assert main(words) == 0
    assert daemon.calls[-1] == ("Host.echo", {"message": "hi"})


def test_parameters_come_from_stdin(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, '{"vmID": "web"}')
    assert sent(daemon, "VM freeze -f -") == {"vmID": VM, "timeout": 30.0}


def test_a_secret_in_a_file_is_sent_and_never_shown(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["Host.registerSecrets"] = Failure(72, "Bad secret request")
    # One where it belongs, one under a misspelt name.
    params = {"secrets": [{"password": "c2VjcmV0"}], "pasword": "c2VjcmV0", "clear": True}
    feed(monkeypatch, json.dumps(params))
    assert main(["Host", "registerSecrets", "-f", "-"]) == 1
    assert daemon.calls[-1][1] == params
    out, err = capsys.readouterr()
    assert "c2VjcmV0" not in out + err
    assert "'secrets': '********'" in err
    assert "'clear': True" in err


def test_ctrl_c_ends_quietly(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt(_params: Any) -> bool:
        os.kill(child.pid, signal.SIGINT)
        time.sleep(2)
        return True

    daemon.answers["Host.ping2"] = interrupt
    child = run("Host", "ping2")
    assert child.wait(10) == 130
    assert capfd.readouterr().err == ""


def test_a_closed_pipe_ends_quietly(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    daemon.answers["Host.echo"] = "x" * 1_000_000
    child = run("Host", "echo", "message=x", stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read(1)
    child.stdout.close()
    assert child.wait(10) == 141
    assert capfd.readouterr().err == ""


def test_a_full_disk_is_told(daemon: FakeDaemon, capfd: pytest.CaptureFixture[str]) -> None:
    daemon.answers["Host.ping2"] = True
    with open("/dev/full", "w") as full:
        assert run("Host", "ping2", stdout=full).wait(10) == 1
    expected = "virtceph: writing the answer failed: No space left on device\n"
    assert capfd.readouterr().err == expected


def test_the_fast_path_imports_nothing_slow(daemon: FakeDaemon) -> None:
    daemon.answers["Host.ping2"] = True
    code = (
        "import sys; from virtceph.cli.main import main; code = main(['Host', 'ping2']); "
        "slow = {'yaml', 'aiohttp', 'asyncio', 'jsonrpcserver', 'libvirt', 'rados', 'rbd', "
        "'dataclasses', 'inspect', 'virtceph.schema.codec'}; "
        "sys.exit(code or ', '.join(slow & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "true\n")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"virtceph {virtceph.__version__}\n"


@pytest.mark.parametrize(("closed", "told"), [(">&-", 1), (">&- 2>&-", 0)])
def test_without_a_standard_output_nothing_is_asked(
    daemon: FakeDaemon, closed: str, told: int
) -> None:
    command = f"exec {sys.executable} -m virtceph.cli Host ping2 {closed}"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, text=True, timeout=20)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, told)
    assert daemon.calls == []


def test_an_error_without_a_standard_error_does_not_go_to_stdout(daemon: FakeDaemon) -> None:
    command = f"exec {sys.executable} -m virtceph.cli Host nothing 2>&-"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, timeout=20)
    assert (done.returncode, done.stdout) == (2, b"")


def run(*words: str, stdout: Any = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "virtceph.cli", *words], stdout=stdout)


def job_of(daemon: FakeDaemon, **facts: Any) -> None:
    """Every snapshot job is one that first runs and then ends so."""
    looks: list[str] = []

    def look(params: Any) -> dict[str, Any]:
        (ident,) = params["job_ids"]
        looks.append(ident)
        running = {"id": ident, "status": "running"}
        return {ident: running if len(looks) == 1 else {"id": ident, **facts}}

    daemon.answers.update({"VM.snapshot": True, "Host.getJobs": look})


def test_wait_prints_what_came_of_the_job(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    job_of(daemon, status="done", result={"consistency": "filesystem"})
    assert main(["--wait", "VM", "snapshot", "vmID=web"]) == 0
    assert json.loads(capsys.readouterr().out) == {"consistency": "filesystem"}
    asked = dict(call for call in daemon.calls if call[0] != "Host.getVMList")
    assert asked["VM.snapshot"]["vmID"] == VM
    assert asked["Host.getJobs"]["job_ids"] == [asked["VM.snapshot"]["jobUUID"]]


def test_wait_fails_as_the_job_does(daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    job_of(daemon, status="failed", error={"code": 48, "message": "Snapshot failed"})
    assert main(["--wait", "VM", "snapshot", f"vmID={VM}"]) == 1
    assert "(code=48, message=Snapshot failed)" in capsys.readouterr().err


def test_wait_tells_of_a_job_that_the_daemon_lost(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers.update({"VM.snapshot": True, "Host.getJobs": {}})
    assert main(["--wait", "VM", "snapshot", f"vmID={VM}"]) == 1
    assert "lost" in capsys.readouterr().err


def test_wait_is_refused_where_there_is_no_job(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--wait", "Host", "ping2"]) == 2
    assert "Host.ping2 does not" in capsys.readouterr().err
    assert daemon.calls == []
