"""A qemu-img that works is waited for, however little its percents say; one that does nothing is given up."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from virtceph.ceph.qemuimg import Image as Source
from virtceph.ceph.qemuimg import export_qcow2
from virtceph.ceph.sources import Place
from virtceph.ceph.spec import ClusterSpec
from virtceph.errors import CephUnavailable
from virtceph.sensitive import Sensitive

STALL_S = 0.6


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is run as qemu-img."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    path = tmp_path / "qemu-img"
    path.touch(mode=0o755)
    return path


def convert() -> list[float]:
    """An export to nowhere; the percents it told."""
    spec = ClusterSpec(("127.0.0.1:1",), "nobody", Sensitive(b"k" * 16), op_timeout_s=STALL_S)
    told: list[float] = []
    place = Place(0, "rbd", "", "web")
    export_qcow2(Source(spec, place), 2, "/nowhere/web.qcow2", told.append, threading.Event())
    return told


def test_one_that_reads_without_a_percent_is_waited_for(program: Path) -> None:
    # Itself: what a child of it reads is not its own.
    reads = "open('/dev/zero', 'rb', 0).read(1 << 20); time.sleep(0.3)"
    program.write_text(f"#!{sys.executable} -IS\nimport time\nfor _ in range(5): {reads}\n")
    assert convert() == []


def test_one_that_tells_a_percent_is_waited_for(program: Path) -> None:
    program.write_text(
        "#!/bin/sh\nfor i in 1 2 3 4; do printf '(%s.00/100%%)' $i; sleep 0.3; done\n"
    )
    assert convert() == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("says", ["", "printf '(7.00/100%%)';"])
def test_one_that_does_nothing_is_given_up_in_time(program: Path, says: str) -> None:
    program.write_text(f"#!/bin/sh\nwhile :; do {says} sleep 0.2; done\n")
    with pytest.raises(CephUnavailable, match="nothing was done"):
        convert()
