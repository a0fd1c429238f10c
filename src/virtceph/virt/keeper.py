"""Where libvirt keeps secrets: with all else, or in a process of its own that may end by itself."""

from __future__ import annotations

from collections.abc import Callable

import libvirt

from virtceph.virt.connection import Connection
from virtceph.virt.secrets import SecretSession, secret_uri


class SecretKeeper:
    """Sessions with whatever keeps the secrets of the libvirt behind `main`. `stated` is a URI of its own, or
    empty: then it is looked for. `restore` is called with a new one before anybody may use it."""

    def __init__(
        self, main: Connection, stated: str, restore: Callable[[SecretSession], None]
    ) -> None:
        self._main, self._restore = main, restore
        uri = secret_uri(main.uri, stated)
        self._own = None if uri is None else Connection(uri, on_back=self._back)

    def open(self, timeout_s: float) -> None:
        """Connect, trying for `timeout_s`. Blocks. Raises LibvirtUnavailable."""
        if self._own is not None:
            self._own.open(timeout_s)

    def session(self) -> SecretSession:
        """A session over the live connection; waits while it restarts. Raises LibvirtUnavailable."""
        return SecretSession((self._own or self._main).get())

    def main_is_back(self, connection: libvirt.virConnect) -> None:
        """The libvirt of `main` is there, or there again. Blocks."""
        if self._own is None:
            self._back(connection)

    def close(self) -> None:
        """Close what it opened. Blocks for moments."""
        if self._own is not None:
            self._own.close()

    def _back(self, connection: libvirt.virConnect) -> None:
        self._restore(SecretSession(connection))
