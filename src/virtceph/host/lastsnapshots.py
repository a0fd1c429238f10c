"""When each VM was last snapshotted, by how consistently. In memory only."""

from __future__ import annotations

import threading
from uuid import UUID

# A host has hundreds of VMs; whatever is wrong, no more than this are remembered.
_MOST_VMS = 5000


class LastSnapshots:
    """Remembers them. Nothing here blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_s: dict[UUID, dict[str, float]] = {}

    def made(self, vm_id: UUID, consistency: str, at_s: float) -> None:
        """A snapshot is there that was made then."""
        with self._lock:
            if vm_id not in self._at_s and len(self._at_s) >= _MOST_VMS:
                return
            known = self._at_s.setdefault(vm_id, {})
            known[consistency] = max(at_s, known.get(consistency, 0.0))

    def knows(self, vm_id: UUID) -> bool:
        """Whether anything is known of a VM."""
        return vm_id in self._at_s

    def forget(self, vm_id: UUID) -> None:
        """The VM is gone."""
        with self._lock:
            self._at_s.pop(vm_id, None)

    def rows(self) -> list[tuple[tuple[str, str], float]]:
        """Each VM, how consistently, and when (seconds since 1970)."""
        with self._lock:
            return [
                ((str(vm_id), consistency), at_s)
                for vm_id, known in self._at_s.items()
                for consistency, at_s in known.items()
            ]
