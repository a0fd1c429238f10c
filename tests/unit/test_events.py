"""What the daemon tells: kept in a ring, numbered, handed on, whatever teller and listener do."""

from __future__ import annotations

import threading
from typing import Any
from uuid import UUID

import orjson
import pytest

from virtceph.events import (
    DaemonStarted,
    DaemonStopping,
    Event,
    SecretsRegistered,
    StorageDomainReachable,
    VMStatus,
)
from virtceph.host.events import BEGINNING, BadCursor, Events, Loss, as_json
from virtceph.schema import load_contract

CONTRACT = load_contract()
VM = UUID(int=1)


@pytest.fixture
def events() -> Events:
    return Events(CONTRACT, kept=8, clock=lambda: 1000.0)


def numbers(events: Events, behind: int = 0) -> list[int]:
    return [kept.number for kept in events.after(behind, 1000)[0]]


def test_events_are_numbered_from_one_on_without_a_gap(events: Events) -> None:
    for _ in range(5):
        events.tell(DaemonStopping())
    assert numbers(events) == [1, 2, 3, 4, 5]
    assert numbers(events, 3) == [4, 5]
    assert events.after(0, 2)[0][-1].number == 2


def test_an_event_is_kept_as_its_readers_get_it(events: Events) -> None:
    events.tell(VMStatus(VM, "Down", 0, None))
    (kept,), lost = events.after(0, 10)
    assert lost == 0
    assert orjson.loads(as_json(events.run, kept)) == {
        "event": "vm_status",
        "cursor": "1000000-1",
        "time": 1000.0,
        "params": {"vmId": str(VM), "status": "Down", "exitCode": 0},
    }


def test_a_cursor_says_where_to_go_on(events: Events) -> None:
    for _ in range(3):
        events.tell(DaemonStopping())
    assert events.place(events.cursor(2)) == (2, None)
    assert events.place(events.cursor(3)) == (3, None)
    assert events.place(BEGINNING) == (0, None)


def test_a_cursor_of_another_run_is_told_a_loss_and_all_that_is_kept(events: Events) -> None:
    events.tell(DaemonStopping())
    for cursor in ("999-1", "1000001-7", events.cursor(2)):
        assert events.place(cursor) == (0, Loss("restart", None)), cursor


def test_a_cursor_that_is_older_than_what_is_kept_is_told_how_much_is_lost(events: Events) -> None:
    for _ in range(20):
        events.tell(DaemonStopping())
    assert numbers(events) == list(range(13, 21))
    assert events.place(events.cursor(4)) == (12, Loss("forgotten", 8))
    assert events.place(events.cursor(12)) == (12, None)
    assert events.after(4, 100)[1] == 8


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "1-2-3", "1" * 30 + "-1", "1-" + "1" * 30])
def test_what_is_no_cursor_is_refused(events: Events, text: str) -> None:
    with pytest.raises(BadCursor):
        events.place(text)


def test_the_event_of_a_loss_stands_before_what_follows(events: Events) -> None:
    for _ in range(20):
        events.tell(DaemonStopping())
    behind, loss = events.place(events.cursor(4))
    assert loss is not None
    kept = events.lost(loss, behind)
    assert (kept.number, kept.name) == (12, "events_lost")
    # Who reads no further than that goes on without another loss.
    assert events.place(events.cursor(kept.number)) == (12, None)
    assert events.losses == {"forgotten": 1}


def test_what_is_kept_is_bounded_by_its_size_too() -> None:
    events = Events(CONTRACT, kept=1000, kept_bytes=100_000)
    large = SecretsRegistered([UUID(int=n) for n in range(1000)])  # some 39 kB
    for _ in range(50):
        events.tell(large)
    there, _ = events.after(0, 1000)
    assert 1 <= len(there) <= 2
    assert there[-1].number == 50
    events.tell(DaemonStopping())
    assert events.newest == 51


def test_one_event_larger_than_all_that_may_be_kept_is_kept_alone() -> None:
    events = Events(CONTRACT, kept=10, kept_bytes=1000)
    events.tell(SecretsRegistered([UUID(int=n) for n in range(1000)]))
    assert numbers(events) == [1]


def test_telling_never_raises_whatever_is_told(events: Events, caplog: Any) -> None:
    class Foreign:  # no Event, or it would be one for all tests
        name = "no_such_event"

    events.tell(Foreign())  # type: ignore[arg-type]
    events.tell(VMStatus(VM, "Unheard of"))
    events.tell(VMStatus("no UUID", "Up"))  # type: ignore[arg-type]
    assert events.broken == 3
    assert numbers(events) == []
    assert caplog.text.count("event not told") == 3


def test_a_listener_that_breaks_keeps_nobody_from_hearing(events: Events) -> None:
    heard: list[Event] = []

    def breaks(_event: Event) -> None:
        raise RuntimeError

    events.listen(breaks)
    events.listen(heard.append)
    events.tell(DaemonStarted("1"))
    assert heard == [DaemonStarted("1")]
    assert numbers(events) == [1]


def test_who_waits_is_woken_after_the_event_is_there(events: Events) -> None:
    seen: list[int] = []
    events.wake(lambda: seen.append(events.newest))
    events.tell(DaemonStopping())
    events.tell(DaemonStopping())
    assert seen == [1, 2]


def test_threads_that_tell_at_once_lose_and_mix_nothing() -> None:
    events = Events(CONTRACT, kept=10_000)
    begin = threading.Barrier(4)

    def tell() -> None:
        begin.wait()
        for n in range(500):
            events.tell(StorageDomainReachable(VM, float(n)))

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    there, lost = events.after(0, 10_000)
    assert ([kept.number for kept in there], lost) == (list(range(1, 2001)), 0)
    assert events.counts == {"storage_domain_reachable": 2000}
