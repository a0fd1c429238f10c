"""Keys: kept in this process's memory, and in libvirt as ephemeral, private secrets.

"Ours" are the secrets that are ephemeral and private and whose usage id begins with the configured
prefix. Nothing else is ever changed or removed.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

import virtceph.errors as errors
from virtceph.log import facts
from virtceph.schema import wire
from virtceph.sensitive import Sensitive
from virtceph.virt.secrets import Definition, SecretSession

log = logging.getLogger(__name__)


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


@wire("RegisteredSecret")
@dataclass(frozen=True)
class RegisteredSecret:
    """A secret as it is listed: everything but its value."""

    uuid: UUID
    usage_type: str
    usage_id: str
    description: str
    fingerprint: str
    registered_at_s: float


@dataclass(frozen=True)
class _Held:
    definition: Definition
    value: Sensitive
    registered_at_s: float


class Secrets:
    """The registered secrets. Every method blocks on libvirt, but for `registered` and `key`."""

    def __init__(
        self,
        open_session: Callable[[], SecretSession],
        prefix: str,
        on_removed: Callable[[set[UUID]], None] = lambda _uuids: None,
    ) -> None:
        self._open_session, self._prefix, self._on_removed = open_session, prefix, on_removed
        # Never changed, always replaced: who only reads waits for no libvirt call under the lock.
        self._held: dict[UUID, _Held] = {}
        self._lock = threading.Lock()
        # A key of this run: fingerprints tell values apart without being a digest of them.
        self._fingerprint_key = os.urandom(32)

    def register(self, secrets: list[SecretInfo], clear: bool) -> None:
        """Register all of them or none.

        Raises:
            BadSecretRequest: malformed; nothing was touched.
            ForeignSecret, SecretUsageTaken: nothing was touched.
            SecretRegistrationFailed: libvirt refused; what was there before is there again.
        """
        self._check_request(secrets)
        # Taken before the lock: `restore` needs the lock before a new connection may be used.
        session = self._open_session()
        with self._lock:
            ours = self._ours(session)
            leaving = set(ours) - {s.uuid for s in secrets} if clear else set()
            self._check_conflicts(secrets, session.list_all(), ours, leaving)
            self._replace(session, secrets, ours, leaving)
            now_s = time.time()
            new = {s.uuid: _Held(s.definition(), s.password, now_s) for s in secrets}
            kept = {u: h for u, h in self._held.items() if u not in leaving}
            self._held = {**kept, **new}
        _log_all("registered secrets", [secret.uuid for secret in secrets])
        self._tell_removed(leaving)

    def unregister(self, uuids: list[UUID]) -> None:
        """Remove secrets; unknown ones are skipped.

        Raises:
            ForeignSecretKept: one is not ours; nothing was removed.
            SecretUnregistrationFailed: libvirt refused; those before it are removed.
        """
        session = self._open_session()
        removed: list[UUID] = []
        try:
            with self._lock:
                ours = self._ours(session)
                known = {s.uuid for s in session.list_all()}
                for uuid in uuids:
                    if uuid in known and uuid not in ours:
                        raise errors.ForeignSecretKept(uuid)
                try:
                    for uuid in uuids:
                        if uuid in known:
                            _remove(session, uuid)
                        removed.append(uuid)
                finally:
                    gone = set(removed)
                    self._held = {u: h for u, h in self._held.items() if u not in gone}
        finally:
            _log_all("unregistered secrets", removed)
            self._tell_removed(set(removed))

    def clear(self) -> None:
        """Remove every secret of ours from libvirt and from memory; one that fails is logged and
        skipped. Raises LibvirtUnavailable, LibvirtFailed when they cannot even be listed."""
        with self._lock:
            # First, and even if libvirt is away: what is not held is not put back when it returns.
            self._held = {}
        session = self._open_session()
        with self._lock:
            for uuid in self._ours(session):
                try:
                    session.remove(uuid)
                except errors.LibvirtFailed as error:
                    log.warning("secret not cleared %s", facts(uuid=uuid, reason=error.reason))

    def restore(self, session: SecretSession) -> None:
        """Make the secrets of a libvirt that was away those that are held, before anybody uses it.

        A request that libvirt's loss cut short may have left some that are not held, or under
        another usage id. One that libvirt refuses is logged and skipped. Raises LibvirtUnavailable.
        """
        with self._lock:
            for found in self._ours(session).values():
                if not self._holds(found):
                    _attempt(lambda uuid=found.uuid: session.remove(uuid))  # type: ignore[misc]
            for held in self._held.values():
                try:
                    session.put(held.definition, held.value)
                except errors.LibvirtFailed as error:
                    log.error(
                        "secret not restored %s",
                        facts(uuid=held.definition.uuid, reason=error.reason),
                    )
            if self._held:
                log.info("restored secrets %s", facts(count=len(self._held)))

    def registered(self) -> list[RegisteredSecret]:
        """The registered secrets, without their values."""
        held = list(self._held.values())
        return [
            RegisteredSecret(
                h.definition.uuid,
                h.definition.usage_type,
                h.definition.usage_id,
                h.definition.description,
                h.value.fingerprint(self._fingerprint_key),
                h.registered_at_s,
            )
            for h in held
        ]

    def key(self, uuid: UUID) -> Sensitive:
        """The value of a registered secret. Raises NoSuchSecret."""
        held = self._held.get(uuid)
        if held is None:
            raise errors.NoSuchSecret(uuid)
        return held.value

    def _check_request(self, secrets: list[SecretInfo]) -> None:
        uuids: set[UUID] = set()
        usages: set[tuple[str, str]] = set()
        for index, secret in enumerate(secrets):
            where = f"secrets[{index}]"
            if not secret.usage_id.startswith(self._prefix):
                raise errors.BadSecretRequest(
                    f"{where}.usageID", f"a usage id that begins with {self._prefix}"
                )
            if secret.uuid in uuids:
                raise errors.BadSecretRequest(f"{where}.uuid", "each uuid once")
            usage = (secret.usage_type, secret.usage_id)
            if usage in usages:
                raise errors.BadSecretRequest(f"{where}.usageID", "each usage id once")
            uuids.add(secret.uuid)
            usages.add(usage)

    def _holds(self, found: Definition) -> bool:
        held = self._held.get(found.uuid)
        return held is not None and (held.definition.usage_type, held.definition.usage_id) == (
            found.usage_type,
            found.usage_id,
        )

    def _ours(self, session: SecretSession) -> dict[UUID, Definition]:
        return {
            s.uuid: s
            for s in session.list_private_ephemeral()
            if s.usage_id.startswith(self._prefix)
        }

    @staticmethod
    def _check_conflicts(
        secrets: list[SecretInfo],
        present: list[Definition],
        ours: dict[UUID, Definition],
        leaving: set[UUID],
    ) -> None:
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

    def _replace(
        self,
        session: SecretSession,
        secrets: list[SecretInfo],
        ours: dict[UUID, Definition],
        leaving: set[UUID],
    ) -> None:
        """Remove what must give way, put the new ones, and undo it all when libvirt refuses one."""
        # libvirt cannot change a usage id, and keeps each usage id once: those go first.
        moved = {
            s.uuid
            for s in secrets
            if s.uuid in ours
            and (ours[s.uuid].usage_type, ours[s.uuid].usage_id) != (s.usage_type, s.usage_id)
        }
        at = next(iter(secrets), None)
        put: list[UUID] = []
        try:
            for uuid in moved | leaving:
                session.remove(uuid)
            for at in secrets:
                put.append(at.uuid)
                session.put(at.definition(), at.password)
        except errors.LibvirtFailed as error:
            self._undo(session, put, ours, moved | leaving)
            culprit = at.uuid if at is not None else next(iter(leaving))
            raise errors.SecretRegistrationFailed(culprit, error.reason) from error

    def _undo(
        self,
        session: SecretSession,
        put: list[UUID],
        ours: dict[UUID, Definition],
        removed: set[UUID],
    ) -> None:
        for uuid in put:
            if uuid not in ours or uuid in removed:
                _attempt(lambda uuid=uuid: session.remove(uuid))  # type: ignore[misc]
        for uuid in {*put, *removed} & set(ours):
            held = self._held.get(uuid)
            if held is not None:
                _attempt(lambda held=held: session.put(held.definition, held.value))  # type: ignore[misc]

    def _tell_removed(self, uuids: set[UUID]) -> None:
        if uuids:
            self._on_removed(uuids)


def _attempt(undo: Callable[[], None]) -> None:
    try:
        undo()
    except errors.LibvirtFailed as error:
        log.error("could not undo %s", facts(reason=error.reason))


def _remove(session: SecretSession, uuid: UUID) -> None:
    try:
        session.remove(uuid)
    except errors.LibvirtFailed as error:
        raise errors.SecretUnregistrationFailed(uuid, error.reason) from error


def _log_all(what: str, uuids: Sequence[UUID]) -> None:
    # One line for all: a line for each took as long as libvirt did.
    if uuids:
        log.info("%s %s", what, facts(count=len(uuids), uuids=",".join(map(str, uuids))))
