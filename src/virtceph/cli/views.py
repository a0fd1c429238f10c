"""`--human`: results that are no plain table: a tree of snapshots, a plan of steps, a list and its sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virtceph.cli.table import Style, moment, safe, size, table

_COLUMNS = ("snapshot", "created", "size", "consistency", "")


def snapshot_tree(snapshots: list[dict[str, Any]], style: Style) -> list[str]:
    """Snapshots, oldest first, with the clones that hang on each."""
    if not snapshots:
        return ["none"]
    rows = []
    for snapshot in snapshots:
        last = snapshot is snapshots[-1]
        rows.append(_snapshot_row(snapshot, "└─ " if last else "├─ "))
        names = [_clone_name(clone) for clone in snapshot.get("clones", ())]
        for name in names:
            stem = "   " if last else "│  "
            rows.append([f"{stem}{'└─' if name is names[-1] else '├─'} {name}", "", "", "", ""])
    return table(_COLUMNS, rows, [False, False, True, False, False], style)


def _snapshot_row(snapshot: dict[str, Any], branch: str) -> list[str]:
    return [
        branch + safe(snapshot["snapshotName"]),
        moment(snapshot["created"]),
        size(snapshot["size"]),
        snapshot.get("consistency") or "-",
        "protected" if snapshot.get("protected") else "",
    ]


def _clone_name(clone: dict[str, Any]) -> str:
    name = clone.get("volumeName") or f"(image id {clone['id']})"
    parts = (clone["pool"], clone.get("namespace"), name)
    path = safe("/".join(part for part in parts if part))
    return f"{path} (in the trash)" if clone.get("inTrash") else path


def deletion_plan(plan: dict[str, Any], style: Style) -> list[str]:
    """What to do before a volume can be deleted, each step with its command below."""
    name = safe(plan["volumeName"])
    if plan["deletable"]:
        return [f"{name} can be deleted"]
    force = "; force=true does it" if plan["forceable"] else ""
    lines = [f"{name} cannot be deleted. First, in this order{force}:"]
    for number, step in enumerate(plan["steps"], 1):
        lines += [f"{number:3}. {safe(step['what'])}", f"     {style(safe(step['command']))}"]
    untold = plan["stepCount"] - len(plan["steps"])
    return [*lines, f"     … and {untold} steps more"] if untold else lines


def volume_list(volumes: list[dict[str, Any]], style: Style) -> list[str]:
    """Volumes and their sizes, with the sum of both."""
    if not volumes:
        return ["none"]
    rows = [[safe(v["volumeName"]), size(v["size"])] for v in volumes]
    count = f"{len(volumes)} volumes" if len(volumes) > 1 else "1 volume"
    rows.append([count, size(sum(v["size"] for v in volumes))])
    *lines, total = table(["volumeName", "size"], rows, [False, True], style)
    return [*lines, "", total]


# By the type of a result.
VIEWS: dict[str, Callable[[Any, Style], list[str]]] = {
    "[SnapshotInfo]": snapshot_tree,
    "DeletionPlan": deletion_plan,
    "[VolumeSummary]": volume_list,
}
