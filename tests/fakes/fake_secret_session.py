"""The secrets of a libvirt, in memory, with libvirt's own rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from virtceph.errors import LibvirtFailed, LibvirtUnavailable
from virtceph.sensitive import Sensitive
from virtceph.virt.secrets import Definition

_DEFINED = "already defined for use with"


@dataclass
class Stored:
    """`value` is None for a secret that was defined and never given one."""

    definition: Definition
    value: bytes | None
    private_ephemeral: bool = True


class FakeLibvirtSecrets:
    """One libvirt. `session()` is what `Secrets` opens. `calls` lists what was done, as in `put 1`.

    `refuse_value` and `refuse_removal` hold the UUIDs for which libvirt fails; `before_call` is
    asked before every call, and may take libvirt away (`lost`).
    """

    def __init__(self) -> None:
        self.stored: dict[UUID, Stored] = {}
        self.lost = False
        self.refuse_value: set[UUID] = set()
        self.refuse_removal: set[UUID] = set()
        self.calls: list[str] = []
        self.before_call: Callable[[str], None] = lambda _call: None

    def session(self) -> FakeSecretSession:
        self.check("open")
        return FakeSecretSession(self)

    def restart(self) -> None:
        """As libvirtd's: ephemeral secrets are gone."""
        self.lost = False
        self.stored = {u: s for u, s in self.stored.items() if not s.private_ephemeral}

    def check(self, call: str) -> None:
        self.before_call(call)
        if self.lost:
            raise LibvirtUnavailable("libvirtd went away")
        self.calls.append(call)

    def contents(self) -> dict[UUID, tuple[Definition, bytes | None]]:
        """Everything that is there, to compare."""
        return {u: (s.definition, s.value) for u, s in self.stored.items()}


class FakeSecretSession:
    """As `virt.secrets.SecretSession`."""

    def __init__(self, libvirt: FakeLibvirtSecrets) -> None:
        self._libvirt = libvirt

    def list_private_ephemeral(self) -> list[Definition]:
        self._libvirt.check("list")
        return [s.definition for s in self._libvirt.stored.values() if s.private_ephemeral]

    def list_all(self) -> list[Definition]:
        self._libvirt.check("list")
        return [s.definition for s in self._libvirt.stored.values()]

    def put(self, secret: Definition, value: Sensitive) -> None:
        self._libvirt.check(f"put {secret.uuid}")
        known = self._define(secret)
        if secret.uuid in self._libvirt.refuse_value:
            raise LibvirtFailed("register the secret", 1, "cannot set the value")
        known.value = value.reveal()

    def _define(self, secret: Definition) -> Stored:
        usage = (secret.usage_type, secret.usage_id)
        for stored in self._libvirt.stored.values():
            theirs = (stored.definition.usage_type, stored.definition.usage_id)
            same_uuid = stored.definition.uuid == secret.uuid
            if same_uuid != (theirs == usage):
                raise LibvirtFailed("register the secret", 1, f"{_DEFINED} {theirs[1]}")
            if same_uuid and not stored.private_ephemeral:
                raise LibvirtFailed("register the secret", 1, "cannot change private flag")
        known = self._libvirt.stored.setdefault(secret.uuid, Stored(secret, None))
        known.definition = secret  # a redefinition keeps the value
        return known

    def remove(self, uuid: UUID) -> None:
        self._libvirt.check(f"remove {uuid}")
        if uuid in self._libvirt.refuse_removal:
            raise LibvirtFailed("remove the secret", 1, "cannot remove")
        self._libvirt.stored.pop(uuid, None)
