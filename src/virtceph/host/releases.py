"""Disks that guests are asked to let go of, and what libvirt tells of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from virtceph.virt.events import DomainEvent, Happened

_TOLD = (Happened.DEVICE_REMOVED, Happened.DEVICE_KEPT)
_Device = tuple[UUID, str]


class Releases:
    """Where threads wait for events of devices. What nobody waits for is not remembered."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._awaited: dict[_Device, Happened | None] = {}

    def happened(self, event: DomainEvent) -> None:
        """Take notice of what libvirt tells. Does not block."""
        with self._changed:
            device = event.vm_id, event.device
            if event.what in _TOLD and device in self._awaited:
                self._awaited[device] = event.what
                self._changed.notify_all()

    @contextmanager
    def awaiting(self, vm_id: UUID, alias: str) -> Iterator[Awaited]:
        """Hear of this device inside the block: to be entered before the guest is asked."""
        device = vm_id, alias
        with self._changed:
            self._awaited[device] = None
        try:
            yield Awaited(self, device)
        finally:
            with self._changed:
                self._awaited.pop(device, None)

    def wait(self, device: _Device, timeout_s: float) -> Happened | None:
        """What was told of a device, within `timeout_s`; a refusal is told once. Blocks."""
        end_s = time.monotonic() + timeout_s
        with self._changed:
            while (told := self._awaited.get(device)) is None:
                left_s = end_s - time.monotonic()
                if left_s <= 0 or not self._changed.wait(left_s):
                    break
            told = self._awaited.get(device)
            if told is Happened.DEVICE_KEPT:
                self._awaited[device] = None
            return told


class Awaited:
    """One device that somebody waits for."""

    def __init__(self, releases: Releases, device: _Device) -> None:
        self._releases, self._device = releases, device

    def wait(self, timeout_s: float) -> Happened | None:
        """DEVICE_REMOVED, DEVICE_KEPT, or None when nothing was told in time. Blocks."""
        return self._releases.wait(self._device, timeout_s)
