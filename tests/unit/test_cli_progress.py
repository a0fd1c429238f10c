"""The progress line: what a person sees of a job that is waited for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fake_daemon import FakeDaemon
from virtceph.cli import calling, progress
from virtceph.cli.main import main
from virtceph.cli.progress import ProgressLine

JOB = {
    "status": "running",
    "step": "copying",
    "progress": 58,
    "bytesDone": 58 << 20,
    "bytesTotal": 100 << 20,
    "rate": 310 << 20,
    "timeLeft": 3.1,
}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_the_line_tells_the_step_how_much_how_fast_and_how_long() -> None:
    line = ProgressLine(Terminal()).line(JOB)
    assert line.startswith("copying ")
    assert " 58 %" in line
    assert "58.0 MiB of 100.0 MiB" in line
    assert "310.0 MiB/s" in line
    assert line.endswith("3.1 s left")


def test_what_is_not_known_is_left_out() -> None:
    assert ProgressLine(Terminal()).line({"status": "pending"}).strip() == "pending"


@pytest.mark.parametrize(("share", "full"), [(0.0, 0), (0.5, 12), (1.0, 24)])
def test_the_bar_is_as_full_as_the_job_and_never_longer(share: float, full: int) -> None:
    bar = ProgressLine(Terminal()).bar(share)
    assert (bar.count("█"), len(bar)) == (full, 24)


def test_a_terminal_without_blocks_gets_letters() -> None:
    plain = Terminal()
    plain.encoding = "ascii"
    assert ProgressLine(plain).bar(0.5) == "[" + "#" * 12 + "." * 12 + "]"


def test_a_step_cannot_steer_the_terminal() -> None:
    line = ProgressLine(Terminal()).line({"status": "running", "step": "\x1b[2Jgone"})
    assert "\x1b" not in line


def test_the_line_is_cleared_before_anything_else_is_printed() -> None:
    out = Terminal()
    line = ProgressLine(out)
    line.clear()
    assert out.getvalue() == ""
    line.show(JOB)
    line.clear()
    assert out.getvalue().endswith("\r\x1b[K")


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    told = iter([JOB, JOB, {"status": "done", "result": {"size": 1 << 30}}])

    def jobs(params: dict[str, Any]) -> dict[str, Any]:
        return {params["job_ids"][0]: next(told)}

    answers = {"Volume.flatten": True, "Host.getJobs": jobs}
    with FakeDaemon(tmp_path / "sock", answers) as fake:
        monkeypatch.setenv("VIRTCEPH_SOCKET", fake.path)
        yield fake


COMMAND = ["--wait", "Volume", "flatten", f"storageDomainID={'0' * 32}", "volumeName=x"]


def test_a_job_that_is_waited_for_is_drawn_on_a_terminal_and_its_result_printed_alone(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress.sys, "stderr", terminal)
    assert main(COMMAND) == 0
    assert terminal.getvalue().count("copying") == 2
    assert capsys.readouterr().out == '{\n    "size": 1073741824\n}\n'


def test_nothing_is_drawn_where_no_terminal_is(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND) == 0
    assert capsys.readouterr().err == ""


def test_who_stops_waiting_is_told_how_to_stop_the_job(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("virtceph.client.client.Client.wait_for_job", interrupted)
    assert main(COMMAND) == 130
    assert "virtceph Job abort jobUUID=" in capsys.readouterr().err


def test_an_aborted_job_is_no_success(
    daemon: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answers["Host.getJobs"] = lambda params: {params["job_ids"][0]: {"status": "aborted"}}
    assert main(COMMAND) == 1
    assert f"code={calling._ABORTED}" in capsys.readouterr().err
