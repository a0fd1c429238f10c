"""What callers say of secrets, and what of it is refused before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from virtceph import errors
from virtceph.schema import wire
from virtceph.sensitive import Sensitive
from virtceph.virt.secrets import Definition


@wire("SecretInfo")
@dataclass(frozen=True)
class SecretInfo:
    """A secret as a caller registers it."""

    uuid: UUID
    usage_type: str
    usage_id: str
    password: Sensitive
    description: str

    def definition(self) -> Definition:
        return Definition(self.uuid, self.usage_type, self.usage_id, self.description)


def check_request(secrets: list[SecretInfo], prefix: str) -> None:
    """Refuse what is malformed in itself. Raises BadSecretRequest."""
    uuids: set[UUID] = set()
    usages: set[tuple[str, str]] = set()
    for index, secret in enumerate(secrets):
        where = f"secrets[{index}]"
        if not secret.usage_id.startswith(prefix):
            raise errors.BadSecretRequest(
                f"{where}.usageID", f"a usage id that begins with {prefix}"
            )
        if secret.uuid in uuids:
            raise errors.BadSecretRequest(f"{where}.uuid", "each uuid once")
        usage = (secret.usage_type, secret.usage_id)
        if usage in usages:
            raise errors.BadSecretRequest(f"{where}.usageID", "each usage id once")
        uuids.add(secret.uuid)
        usages.add(usage)


def check_conflicts(
    secrets: list[SecretInfo],
    present: list[Definition],
    ours: dict[UUID, Definition],
    leaving: set[UUID],
) -> None:
    """Refuse secrets that libvirt has for somebody else, or whose usage ids it has; `leaving` are on their
    way out. Raises ForeignSecret, SecretUsageTaken."""
    known = {s.uuid for s in present}
    holders = {(s.usage_type, s.usage_id): s.uuid for s in present if s.uuid not in leaving}
    renamed = {s.uuid: (s.usage_type, s.usage_id) for s in secrets}
    for secret in secrets:
        if secret.uuid in known and secret.uuid not in ours:
            raise errors.ForeignSecret(secret.uuid)
        usage = (secret.usage_type, secret.usage_id)
        holder = holders.get(usage, secret.uuid)
        # A holder that this very request gives another usage id stands in nobody's way.
        if holder != secret.uuid and renamed.get(holder, usage) == usage:
            raise errors.SecretUsageTaken(secret.uuid, secret.usage_id, holder)
