"""The disks of one VM and the calls on them, in memory."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from uuid import UUID

from tests.fakes.fake_domains import VM
from virtceph import errors
from virtceph.virt.disks import PluggedDisk, PluggedDisks
from virtceph.virt.events import DomainEvent, Happened
from virtceph.virt.xml import RbdSource, rbd_source


def plugged(target: str, image: str | None, alias: str = "") -> PluggedDisk:
    """A disk of the pool `vms`; one that is not in RBD with `image` None."""
    source = None if image is None else RbdSource("vms", "", image, ("10.0.1.1:6789",))
    return PluggedDisk(target, alias or f"virtio-{target}", source, f"<disk>{target}</disk>")


class FakeDiskCalls:
    """As `virt.disks.DiskCalls`, for the VM of `fake_domains`. `told` is called with what libvirt would tell
    of a device; `guest` says what becomes of a request to let go: `releases`, `keeps`, `refuses`."""

    def __init__(self, *live: PluggedDisk, lasting: tuple[PluggedDisk, ...] | None = None) -> None:
        self.live, self.lasting = list(live), None if lasting is None else list(lasting)
        self.sizes: dict[str, int] = {}
        self.calls: list[tuple[str, str]] = []
        self.xml: list[str] = []
        self.guest, self.tells, self.namespaces = "releases", True, True
        self.told: Callable[[DomainEvent], None] = lambda _event: None
        # Called before anything is done.
        self.in_call: Callable[[], None] = lambda: None

    def plugged(self, vm_id: UUID) -> PluggedDisks:
        if vm_id != VM:
            raise errors.NoSuchVM(vm_id)
        return PluggedDisks(tuple(self.live), None if self.lasting is None else tuple(self.lasting))

    def knows_namespaces(self) -> bool:
        return self.namespaces

    def plug(self, vm_id: UUID, target: str, xml: str, *, live: bool, lasting: bool) -> None:
        self.in_call()
        self.calls.append(("plug", f"{target} live={live} lasting={lasting}"))
        self.xml.append(xml)
        source = ET.fromstring(xml).find("source")
        assert source is not None
        disk = PluggedDisk(target, f"virtio-{target}", rbd_source(source), xml)
        if live:
            self.live.append(disk)
        if lasting and self.lasting is not None:
            self.lasting.append(disk)

    def ask_to_release(self, vm_id: UUID, disk: PluggedDisk) -> None:
        self.in_call()
        self.calls.append(("ask", disk.target))
        if self.guest == "releases":
            self.live.remove(disk)
        if self.guest != "keeps" and self.tells:
            removed = self.guest == "releases"
            what = Happened.DEVICE_REMOVED if removed else Happened.DEVICE_KEPT
            self.told(DomainEvent(vm_id, what, disk.alias))

    def forget(self, vm_id: UUID, disk: PluggedDisk) -> None:
        self.in_call()
        self.calls.append(("forget", disk.target))
        assert self.lasting is not None
        self.lasting.remove(disk)

    def size_bytes(self, vm_id: UUID, target: str) -> int:
        self.in_call()
        return self.sizes[target]

    def resize(self, vm_id: UUID, target: str, size_bytes: int) -> None:
        self.calls.append(("resize", f"{target} {size_bytes}"))
        self.sizes[target] = size_bytes
