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

from virtceph import errors
from virtceph.events import SecretsLost, SecretsRegistered, SecretsRestored, SecretsUnregistered
from virtceph.host.events import Tell, untold
from virtceph.host.secretrequests import SecretInfo, check_conflicts, check_request
from virtceph.log import facts
from virtceph.schema import wire
from virtceph.sensitive import Sensitive
from virtceph.virt.secrets import Definition, SecretSession

__all__ = ["RegisteredSecret", "SecretInfo", "Secrets"]

log = logging.getLogger(__name__)


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
        tell: Tell = untold,
    ) -> None:
        self._open_session, self._prefix, self._on_removed = open_session, prefix, on_removed
        self._tell = tell
        # Never changed, always replaced: who only reads waits for no libvirt call under the lock.
        self._held: dict[UUID, _Held] = {}
        self._lock = threading.Lock()
        # Of the configuration: a caller who says that all others are to go does not mean them.
        self._configured: frozenset[UUID] = frozenset()
        # A key of this run: fingerprints tell values apart without being a digest of them.
        self._fingerprint_key = os.urandom(32)

    def register_configured(self, secrets: list[SecretInfo]) -> None:
        """Register those of the configuration: `clear` spares them from now on. Raises as `register`."""
        self.register(secrets, clear=False)
        self._configured = frozenset(secret.uuid for secret in secrets)

    def register(self, secrets: list[SecretInfo], clear: bool) -> None:
        """Register all of them or none; `clear` removes all others that callers registered.

        Raises:
            BadSecretRequest: malformed; nothing was touched.
            ForeignSecret, SecretUsageTaken: nothing was touched.
            SecretRegistrationFailed: libvirt refused; what was there before is there again.
        """
        check_request(secrets, self._prefix)
        # Taken before the lock: `restore` needs the lock before a new connection may be used.
        session = self._open_session()
        with self._lock:
            present = session.list_all()
            known = {s.uuid for s in present}
            # Which of them are ours costs libvirt another list, and matters to these only.
            asks = clear or any(s.uuid in known for s in secrets)
            ours = self._ours(session) if asks else {}
            leaving = set(ours) - {s.uuid for s in secrets} - self._configured if clear else set()
            check_conflicts(secrets, present, ours, leaving)
            self._replace(session, secrets, ours, leaving)
            now_s = time.time()
            new = {s.uuid: _Held(s.definition(), s.password, now_s) for s in secrets}
            kept = {u: h for u, h in self._held.items() if u not in leaving}
            self._held = {**kept, **new}
        if secrets:
            _log_all("registered secrets", list(new))
            self._tell(SecretsRegistered(list(new)))
        self._removed(leaving, leaving)

    def unregister(self, uuids: list[UUID]) -> None:
        """Remove secrets; unknown ones are skipped.

        Raises:
            ForeignSecretKept: one is not ours; nothing was removed.
            SecretUnregistrationFailed: libvirt refused; those before it are removed.
        """
        session = self._open_session()
        removed: list[UUID] = []
        were: set[UUID] = set()
        try:
            with self._lock:
                known = ours = set(self._ours(session))
                if not known.issuperset(uuids):
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
                    were = gone & set(self._held)
                    self._held = {u: h for u, h in self._held.items() if u not in gone}
        finally:
            _log_all("unregistered secrets", removed)
            self._removed(set(removed), were)

    def clear(self) -> None:
        """Remove every secret of ours from libvirt and from memory; one that fails is logged and
        skipped. Raises LibvirtUnavailable, LibvirtFailed when they cannot even be listed."""
        with self._lock:
            # First, and even if libvirt is away: what is not held is not put back when it returns.
            held, self._held = self._held, {}
        if held:
            self._tell(SecretsUnregistered(sorted(held)))
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
            ours = self._ours(session)
            for found in ours.values():
                if not self._holds(found):
                    _attempt(lambda uuid=found.uuid: session.remove(uuid))  # type: ignore[misc]
            lost = [uuid for uuid in self._held if uuid not in ours]
            if lost:
                self._tell(SecretsLost(lost))
            failed = [uuid for uuid, held in self._held.items() if not _is_put(session, held)]
            if self._held:
                log.info("restored secrets %s", facts(count=len(self._held) - len(failed)))
            if lost or failed:
                there = [uuid for uuid in self._held if uuid not in failed]
                self._tell(SecretsRestored(there, failed))

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

    def _removed(self, uuids: set[UUID], were_there: set[UUID]) -> None:
        if were_there:
            self._tell(SecretsUnregistered(sorted(were_there)))
        if uuids:
            self._on_removed(uuids)


def _is_put(session: SecretSession, held: _Held) -> bool:
    try:
        session.put(held.definition, held.value)
    except errors.LibvirtFailed as error:
        told = facts(uuid=held.definition.uuid, reason=error.reason)
        log.error("secret not restored %s", told)
        return False
    return True


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
