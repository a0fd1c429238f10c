"""VMs that libvirt could not start at boot for lack of a key, started when the key is there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from virtceph import errors
from virtceph.log import facts
from virtceph.virt.autostart import Autostarts, FailedStart

log = logging.getLogger(__name__)

FOLDER = "autostarted"
"""In the runtime directory, which a reboot empties: a file for each VM that was started."""

# libvirt may be restarted just then.
_WAITS_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)


class Autostart:
    """Starts each of them once per boot; what became of it afterwards is its owner's business. `keys` are the
    secrets that this host's configuration brings, by UUID and by usage id."""

    def __init__(
        self,
        starts: Autostarts,
        folder: Path,
        keys: Collection[str],
        waits_s: Sequence[float] = _WAITS_S,
    ) -> None:
        self._starts, self._folder, self._keys = starts, folder, frozenset(keys)
        self._waits_s = waits_s

    def begin(self) -> None:
        """Start them behind what goes on. Does not wait."""
        if self._keys:
            threading.Thread(target=self.run, name="autostart", daemon=True).start()

    def run(self) -> None:
        """Start them, one after the other. Blocks while QEMU starts, and some minutes while libvirt cannot be
        asked. What fails is logged."""
        for vm in self._failed():
            if vm.secrets & self._keys and self._is_first(vm):
                self._start(vm)

    def _failed(self) -> list[FailedStart]:
        for wait_s in (*self._waits_s, None):
            try:
                return self._starts.failed()
            except errors.VirtcephError as error:
                log.error("VMs not started %s", facts(reason=error, again_in_s=wait_s))
            if wait_s is not None:
                time.sleep(wait_s)
        return []

    def _start(self, vm: FailedStart) -> None:
        try:
            self._starts.start(vm.vm_id)
        except errors.VirtcephError as error:
            log.error("VM not started %s", facts(vm=vm.name, id=vm.vm_id, reason=error))
        else:
            log.info(
                "started a VM whose key was missing at boot %s", facts(vm=vm.name, id=vm.vm_id)
            )

    def _is_first(self, vm: FailedStart) -> bool:
        """Whether it was not tried in this boot. Noted before it is started: a VM that ends this host's
        daemon or itself is not started again and again."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / str(vm.vm_id)).touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
        except OSError as error:
            log.error("VM not started %s", facts(vm=vm.name, id=vm.vm_id, reason=error.strerror))
            return False
        return True
