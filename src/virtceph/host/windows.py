"""Freeze windows: the time between a freeze and its thaw, and how they are told to callers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from virtceph import errors
from virtceph.host.records import LeaseRecord, LeaseRecords, boottime_s
from virtceph.schema import wire
from virtceph.virt.agent import FileSystem

# Guests that did not thaw at the first try may not take all the threads from those that would.
_RETRIES_AT_ONCE = 4
# How the callers begin whose freezes are those of jobs of the daemon itself.
JOB_OWNER = "job:"
UNCONFIRMED = "the freeze was not confirmed"


@wire("FreezeResult")
@dataclass(frozen=True)
class FreezeResult:
    window_id: UUID
    filesystems: int
    expires_in_s: float


@wire("LeaseExtended")
@dataclass(frozen=True)
class LeaseExtended:
    window_id: UUID
    expires_in_s: float


@wire("ThawResult")
@dataclass(frozen=True)
class ThawResult:
    window_id: UUID | None
    filesystems: int
    frozen_for_s: float
    intact: bool
    reason: str


@wire("Lease")
@dataclass(frozen=True)
class Lease:
    window_id: UUID
    owner: str
    since_s: float
    expires_in_s: float
    state: str


@wire("FreezeStatus")
@dataclass(frozen=True)
class FreezeStatus:
    guest: str
    reason: str | None
    lease: Lease | None


@dataclass(eq=False)
class Window:
    """A freeze under way; changed under the lock of `leasebook.Windows`, but for what its own thread notes
    before the guest is asked (`mounted`, `since_s`, `began_s`).

    `broken` says why it did not hold, once that is known; `began_s` is when the guest was asked to freeze
    (before that, when the window was opened); `unwanted`, that nobody waits for its freeze
    any more; `rescued`, that a thaw of the daemon's own is under way; `cause` and `thawed_by` say why, and by
    which caller, it is thawed; `result` is set when it has ended.
    """

    vm_id: UUID
    owner: str
    deadline_s: float
    id: UUID = field(default_factory=uuid4)
    state: str = "freezing"
    since_s: float = field(default_factory=time.time)
    began_s: float = field(default_factory=time.monotonic)
    filesystems: int = 0
    mounted: list[FileSystem] | None = None
    broken: str | None = None
    unwanted: bool = False
    rescued: bool = False
    cause: str = "verb"
    thawed_by: str | None = None
    next_try_s: float = 0.0
    tries: int = 0
    at_end: list[Callable[[ThawResult], None]] = field(default_factory=list)
    result: ThawResult | None = None

    def left_s(self) -> float:
        """Seconds until the daemon thaws the guest, never negative."""
        return max(0.0, self.deadline_s - time.monotonic())

    def due_s(self) -> float:
        """When the daemon shall thaw the guest (monotonic). A freeze under way ends by itself."""
        if self.state == "freezing" or self.rescued:
            return float("inf")
        return max(self.deadline_s, self.next_try_s)

    def record(self) -> LeaseRecord:
        """The window as it is kept on disk."""
        told = self.mounted
        mounted = None if told is None else [(fs.mountpoint, list(fs.targets)) for fs in told]
        return LeaseRecord(
            self.vm_id,
            self.id,
            self.owner,
            self.since_s,
            boottime_s() + self.deadline_s - time.monotonic(),
            self.filesystems,
            mounted,
        )

    @classmethod
    def of_record(cls, record: LeaseRecord) -> Window:
        """The window that a daemon before this one left. One that was never confirmed is to be undone, and
        so is one of a job: it ended with its daemon, and nobody else will thaw."""
        now_s = time.monotonic()
        known = record.filesystems > 0 and not record.owner.startswith(JOB_OWNER)
        mounted = None
        if record.mounted is not None:
            mounted = [FileSystem(point, tuple(targets)) for point, targets in record.mounted]
        return cls(
            record.vm_id,
            record.owner,
            now_s + record.left_s() if known else now_s,
            id=record.window_id,
            state="frozen" if known else "uncertain",
            since_s=record.since_s,
            began_s=now_s - max(0.0, time.time() - record.since_s),
            filesystems=record.filesystems,
            mounted=mounted,
            # Nobody watched the guest while no daemon ran.
            broken="the daemon was restarted" if record.filesystems else UNCONFIRMED,
            cause="start",
        )

    def lease(self) -> Lease:
        """The window as callers are told of it."""
        return Lease(self.id, self.owner, self.since_s, self.left_s(), self.state)


def due_of(windows: Iterable[Window], now_s: float) -> list[Window]:
    """Those whose guests the daemon shall thaw now: all that are new, and of those that did not thaw at
    the first try as many as may be tried again at once."""
    known = list(windows)
    due = [w for w in known if w.due_s() <= now_s]
    retrying = sum(w.rescued and w.tries > 1 for w in known)
    again = sorted((w for w in due if w.tries), key=lambda w: w.next_try_s)
    return [w for w in due if not w.tries] + again[: max(0, _RETRIES_AT_ONCE - retrying)]


def outcome_of(window: Window, count: int, reason: str | None) -> ThawResult:
    """How a window went whose guest thawed `count` file systems; `reason` is what speaks against it."""
    broken = window.broken or reason
    if broken is None and count != window.filesystems:
        broken = f"{window.filesystems} file systems were frozen and {count} thawed"
    elapsed_s = time.monotonic() - window.began_s
    return ThawResult(window.id, count, elapsed_s, broken is None, broken or "held throughout")


def put_on_record(records: LeaseRecords, window: Window) -> None:
    """Have a window on the disk, as it is now. Blocks. Raises FreezeFailed."""
    try:
        records.put(window.record())
    except OSError as error:
        reason = f"its lease cannot be recorded: {error.strerror}"
        raise errors.FreezeFailed(window.vm_id, reason) from error
