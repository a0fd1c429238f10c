"""The frozen window as a `with` block."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from virtceph.client.errors import ClientError

if TYPE_CHECKING:
    from uuid import UUID


class Window(dict[str, Any]):
    """A FreezeResult (`windowID`, `filesystems`, `expiresIn`). After the block `thaw` is the
    ThawResult, whose `intact` says whether the freeze held throughout."""

    thaw: dict[str, Any] | None = None


class Frozen:
    """Freezes on entry, thaws on exit, however the block ends.

    A freeze that fails raises on entry. A guest that the exit could not thaw is thawed by the
    daemon when the lease ends; when the block failed as well, its own error is the one raised.
    """

    def __init__(self, call: Callable[..., Any], vm_id: UUID | str, timeout_s: float) -> None:
        self._call, self._vm_id, self._timeout_s = call, vm_id, timeout_s
        self._window = Window()

    def __enter__(self) -> Window:
        self._window = Window(self._call("VM.freeze", vmID=self._vm_id, timeout=self._timeout_s))
        return self._window

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self._window.thaw = self._call("VM.thaw", vmID=self._vm_id)
        except ClientError as failure:
            if error is None:
                raise
            error.add_note(f"and the guest was not thawed: {failure}")
