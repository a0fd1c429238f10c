"""The domains of a libvirt, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from uuid import UUID

from virtceph import errors
from virtceph.virt.domains import DomainState
from virtceph.virt.xml import Disk, Domain, RbdSource

VM = UUID("5c6a1f6c-2f55-4f0b-9d7f-3a1f1c2b7e01")


def rbd_disk(target: str, image: str, pool: str = "vms", namespace: str = "") -> Disk:
    """An RBD disk of the cluster whose monitor is 10.0.1.1:6789."""
    source = RbdSource(pool, namespace, image, ("10.0.1.1:6789",))
    return Disk(target, "rbd", rbd=source)


class FakeDomains:
    """As `virt.domains.Domains`, with one VM."""

    def __init__(self, disks: list[Disk] | None = None, state: str = "Up") -> None:
        has = tuple(disks or [rbd_disk("vda", "web-root")])
        images = tuple((disk.target, disk.rbd) for disk in has if disk.rbd is not None)
        self.domain = Domain("web", has, "connected", images)
        self.state = state
        self.migrating = False
        self.snapshots: list[tuple[list[str], dict[str, str], bool, str | None]] = []
        self.snapshot_error: errors.VirtcephError | None = None
        # By path: whose memory a file holds, and the disks it goes with.
        self.memories: dict[str, tuple[UUID, Domain]] = {}
        self.restored: list[str] = []
        self.in_restore: Callable[[], None] = lambda: None
        # How many times `resume` fails before it succeeds.
        self.resume_failures = 0

    def states(self) -> list[DomainState]:
        return [DomainState(VM, self.domain.name, self.status(VM))]

    def describe(self, vm_id: UUID) -> tuple[str, Domain]:
        return self.status(vm_id), self.domain

    def status(self, vm_id: UUID) -> str:
        if vm_id != VM or self.state == "gone":
            raise errors.NoSuchVM(vm_id)
        return self.state

    def require_running(self, vm_id: UUID) -> str:
        status = self.status(vm_id)
        if status == "Down":
            raise errors.VMDown(vm_id)
        return status

    def is_migrating(self, vm_id: UUID) -> bool:
        return self.migrating

    def suspend(self, vm_id: UUID) -> None:
        self.state = "Paused"

    def resume(self, vm_id: UUID) -> None:
        if self.resume_failures:
            self.resume_failures -= 1
            raise errors.LibvirtUnavailable("libvirtd went away")
        self.state = "Up"

    def abort_job(self, vm_id: UUID) -> None:
        """Nothing runs here."""

    def snapshot(
        self,
        vm_id: UUID,
        targets: list[str],
        overlays: Mapping[str, str],
        *,
        reuse: bool,
        memory_path: str | None,
    ) -> None:
        if self.snapshot_error is not None:
            raise self.snapshot_error
        self.snapshots.append((targets, dict(overlays), reuse, memory_path))
        if memory_path is not None:
            Path(memory_path).touch(mode=0o600)
            self.memories[memory_path] = (VM, self.domain)

    def saved_domain(self, memory_path: str) -> tuple[UUID, Domain]:
        if memory_path not in self.memories:
            raise errors.LibvirtFailed("read the saved memory", 55, "image magic is incorrect")
        return self.memories[memory_path]

    def restore(self, memory_path: str) -> None:
        self.in_restore()
        self.restored.append(memory_path)
        self.state = "Up"
