"""How good a snapshot is. It is called `filesystem` only when everything speaks for it."""

from __future__ import annotations

from dataclasses import dataclass

from virtceph.host.leases import ThawResult, Window
from virtceph.virt.agent import FileSystem


@dataclass(frozen=True)
class Verdict:
    """`consistency` in the contract's words, and why."""

    consistency: str
    reason: str


def judge(
    thaw: ThawResult, frozen: int, mounted: list[FileSystem] | None, targets: set[str]
) -> Verdict:
    """The verdict on a snapshot of `targets` made between a freeze of `frozen` file systems and `thaw`.

    `mounted` is what the guest told before the freeze; None when it could not tell.
    """
    if not thaw.intact:
        return Verdict("crash", thaw.reason)
    if mounted is None:
        return Verdict("crash", "the guest did not tell which file systems it has")
    on_disks = {fs.mountpoint for fs in mounted if targets.intersection(fs.targets)}
    if frozen < len(mounted):
        # The agent tells a number, not which: fewer than all may leave out the ones that count.
        return Verdict("crash", f"the guest froze {frozen} of {len(mounted)} file systems")
    if not on_disks:
        return Verdict("crash", "no file system of the guest lies on these disks")
    systems, were = ("system", "was") if len(on_disks) == 1 else ("systems", "were")
    reason = f"{len(on_disks)} file {systems} on these disks {were} frozen throughout"
    return Verdict("filesystem", reason)


def not_frozen_by_us(before: str, after: str, why: str | None, window: Window | None) -> Verdict:
    """The verdict on a snapshot of a guest that its caller called frozen."""
    if "unknown" in (before, after):
        return Verdict("crash", f"the guest could not be asked: {why or 'no answer'}")
    if (before, after) == ("frozen", "frozen"):
        return Verdict("crash", "the guest was frozen, but not by this daemon")
    if before == "thawed" and after == "thawed" and window is None:
        return Verdict("crash", "the guest was not frozen")
    return Verdict("crash", "the freeze did not hold while the snapshot was made")
