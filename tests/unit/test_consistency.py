"""A snapshot is called `filesystem` only when everything speaks for it."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from virtceph.host.consistency import judge, not_frozen_by_us
from virtceph.host.leases import ThawResult, Window
from virtceph.virt.agent import FileSystem

WINDOW = UUID(int=1)
INTACT = ThawResult(WINDOW, 2, 1.0, True, "held throughout")
BROKEN = replace(INTACT, intact=False, reason="the lease ran out")
ROOT, DATA = FileSystem("/", ("vda",)), FileSystem("/data", ("vdb", "vdc"))
NOWHERE = FileSystem("/run", ())


@pytest.mark.parametrize(
    ("thaw", "frozen", "mounted", "targets", "consistency", "reason"),
    [
        (INTACT, 2, [ROOT, DATA], {"vda", "vdb"}, "filesystem", "2 file systems"),
        (INTACT, 2, [ROOT, DATA], {"vdc"}, "filesystem", "1 file system on these disks was"),
        (INTACT, 3, [ROOT, DATA], {"vda"}, "filesystem", "frozen throughout"),
        (BROKEN, 2, [ROOT, DATA], {"vda"}, "crash", "the lease ran out"),
        (INTACT, 2, None, {"vda"}, "crash", "did not tell"),
        (INTACT, 1, [ROOT, DATA], {"vda"}, "crash", "froze 1 of 2"),
        (INTACT, 0, [], {"vda"}, "crash", "no file system"),
        (INTACT, 2, [ROOT, DATA], {"vdx"}, "crash", "no file system"),
        (INTACT, 2, [ROOT, DATA], set(), "crash", "no file system"),
        (INTACT, 1, [NOWHERE], {"vda"}, "crash", "no file system"),
    ],
)
def test_the_verdict_on_a_freeze_of_ours(
    thaw: ThawResult,
    frozen: int,
    mounted: list[FileSystem] | None,
    targets: set[str],
    consistency: str,
    reason: str,
) -> None:
    verdict = judge(thaw, frozen, mounted, targets)
    assert verdict.consistency == consistency
    assert reason in verdict.reason


@pytest.mark.parametrize("window", [None, Window(UUID(int=2), "alice", 0.0)])
@pytest.mark.parametrize("before", ["frozen", "thawed", "unknown"])
@pytest.mark.parametrize("after", ["frozen", "thawed", "unknown"])
def test_without_a_window_of_ours_it_is_never_more_than_crash(
    before: str, after: str, window: Window | None
) -> None:
    verdict = not_frozen_by_us(before, after, "no answer within 5 s", window)
    assert verdict.consistency == "crash"
    assert verdict.reason


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("frozen", "frozen", "not by this daemon"),
        ("thawed", "thawed", "was not frozen"),
        ("frozen", "thawed", "did not hold"),
        ("thawed", "frozen", "did not hold"),
        ("unknown", "frozen", "could not be asked: silent"),
        ("frozen", "unknown", "could not be asked: silent"),
    ],
)
def test_the_reason_says_what_the_guest_told(before: str, after: str, reason: str) -> None:
    assert reason in not_frozen_by_us(before, after, "silent", None).reason
