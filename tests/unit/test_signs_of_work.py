"""A mover says that it is at work, so that only a cluster that stalls is taken for one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from virtceph.ceph.diffwriter import digest_of
from virtceph.ceph.moving import Moving, Stopped
from virtceph.ceph.pipeline import DEPTH, WriteBehind, read_ahead
from virtceph.units import MiB


class Answer:
    def get_return_value(self) -> int:
        return 0


class SlowImage:
    """Answers as a librbd with a limit may: its first read when it is let to, all others at once."""

    def __init__(self) -> None:
        self.first = threading.Event()
        self.asked: list[int] = []

    def aio_read(self, offset: int, length: int, told: Callable[..., None]) -> Answer:
        self.asked.append(offset)

        def answer() -> None:
            if offset == 0:
                self.first.wait()
            told(Answer(), bytes([offset % 251]) * length)

        threading.Thread(target=answer, daemon=True).start()
        return Answer()


def moving(told: list[dict[str, Any]], stopped: threading.Event) -> Moving:
    return Moving([], [], told.append, stopped.is_set)


def test_reads_that_are_answered_out_of_order_are_signs_of_work_and_come_in_order() -> None:
    image, told, stopped = SlowImage(), list[dict[str, Any]](), threading.Event()
    work = moving(told, stopped)
    read = read_ahead(image, [(i, 1) for i in range(DEPTH + 5)], work.going, work.working)
    threading.Timer(1, image.first.set).start()
    assert [(offset, data[0]) for offset, data in read] == [(i, i) for i in range(DEPTH + 5)]
    assert told[-1]["signs"] > 0
    assert told[-1]["done"] == 0


def test_reads_that_are_not_answered_are_no_sign_of_work_and_can_be_stopped() -> None:
    image, told, stopped = SlowImage(), list[dict[str, Any]](), threading.Event()
    work = moving(told, stopped)
    threading.Timer(1, stopped.set).start()
    with pytest.raises(Stopped):
        list(read_ahead(image, [(0, 1)], work.going, work.working))
    assert told == []
    image.first.set()


def test_no_more_reads_are_under_way_than_is_said() -> None:
    image, work = SlowImage(), moving([], threading.Event())
    image.first.set()
    wanted = ((i, 1) for i in range(3 * DEPTH))
    read = read_ahead(image, wanted, work.going, work.working)
    next(read)
    assert len(image.asked) == DEPTH


class StalledImage:
    def aio_write(self, data: bytes, offset: int, told: Callable[..., None]) -> Answer:
        return Answer()


def test_a_write_that_is_not_answered_is_no_sign_of_work() -> None:
    told, stopped = list[dict[str, Any]](), threading.Event()
    writing = WriteBehind(StalledImage(), moving(told, stopped).advance)
    writing.write(0, b"x")
    threading.Timer(1, stopped.set).start()
    with pytest.raises(Stopped):
        writing.finish()
    assert told == []


def test_reading_a_file_for_its_digest_is_a_sign_of_work_and_can_be_stopped() -> None:
    told, stopped = list[dict[str, Any]](), threading.Event()
    work = moving(told, stopped)
    assert digest_of(BytesIO(bytes(3 * MiB)), work.working)[0] == 3 * MiB
    assert told[-1]["signs"] > 0
    stopped.set()
    with pytest.raises(Stopped):
        digest_of(BytesIO(bytes(3 * MiB)), work.working)


def test_what_is_told_last_is_all_that_was_done() -> None:
    told = list[dict[str, Any]]()
    work = moving(told, threading.Event())
    work.expect(10)
    began_s = time.monotonic()
    for _ in range(10):
        work.advance(1)
    work.finish()
    assert told[-1]["done"] == told[-1]["total"] == 10
    assert len(told) <= 2 + (time.monotonic() - began_s) * 10
