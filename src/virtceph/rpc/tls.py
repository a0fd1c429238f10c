"""TLS on the daemon's side: its certificate, whose callers it takes, and who a caller is.

Files that change count from the next connection on. What cannot be used is told in the log, and what was
loaded before goes on.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import ssl
from dataclasses import dataclass

from cryptography import x509

from virtceph.config import ConfigError
from virtceph.log import facts
from virtceph.rpc.access import Subject

log = logging.getLogger(__name__)

# What OpenSSL calls it when the key is another one's.
_OTHER_KEY = "KEY_VALUES_MISMATCH"


@dataclass(frozen=True)
class TlsFiles:
    """Where they lie, and the section of the configuration that says so."""

    section: str
    certificate: str
    key: str
    ca: str

    def state(self) -> tuple[tuple[int, ...], ...]:
        """Something that changes whenever one of the files does."""
        return tuple(_state(path) for path in (self.certificate, self.key, self.ca))


def _state(path: str) -> tuple[int, ...]:
    with contextlib.suppress(OSError):
        found = os.stat(path)
        return found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size
    return ()


class ServerTls:
    """The daemon's side of TLS, from files. Blocks on the disk, for moments, where they are looked at.

    Raises:
        ConfigError: a file cannot be used; names its option.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._state = files.state()
        self._current = _load(files)

    def context(self) -> ssl.SSLContext:
        """What one handshake begins with. It goes on with the files as they are then. Must be kept up to
        its end."""
        # One for each: OpenSSL would keep sessions in it, of TLS 1.2, and resume them without a look at
        # the caller's certificate.
        made = _bare()
        made.sni_callback = self._choose
        return made

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        # OpenSSL asks this for every handshake, also where the client names no server.
        self.look()
        connection.context = self._current

    def look(self) -> None:
        """Load the files again if one of them changed."""
        state = self._files.state()
        if state != self._state:
            self._state = state
            self.reload()

    def reload(self) -> bool:
        """Load the files again; False where they cannot be used, and those from before go on."""
        try:
            self._current = _load(self._files)
        except ConfigError as error:
            log.error("certificate not renewed, the old one goes on %s", facts(reason=error))
            return False
        log.info("certificate loaded %s", facts(file=self._files.certificate))
        return True


def _load(files: TlsFiles) -> ssl.SSLContext:
    """A context that requires a certificate of each caller. Raises ConfigError."""
    context = _bare()
    _warn_of_its_time(files)
    _readable(files, "key")
    try:
        # Else OpenSSL would ask for a passphrase on the terminal.
        context.load_cert_chain(files.certificate, files.key, password=lambda: b"")
    except OSError as error:  # an SSLError is one
        if getattr(error, "reason", None) == _OTHER_KEY:
            wrong = f"{files.key}: is not the key of {files.certificate}"
        else:
            wrong = f"{files.key}: no private key in PEM, or one with a passphrase"
        raise ConfigError(f"{files.section}.key: {wrong}") from None
    _readable(files, "ca")
    try:
        context.load_verify_locations(files.ca)
    except OSError:
        raise ConfigError(f"{files.section}.ca: {files.ca}: no certificate in PEM") from None
    return context


def _bare() -> ssl.SSLContext:
    """A context that requires a certificate of each caller, and has none itself."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    return context


def _readable(files: TlsFiles, option: str) -> bytes:
    path = getattr(files, option)
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(f"{files.section}.{option}: {path}: {error.strerror}") from None


def _warn_of_its_time(files: TlsFiles) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(_readable(files, "certificate"))
    except ValueError:
        wrong = f"{files.certificate}: no certificate in PEM"
        raise ConfigError(f"{files.section}.certificate: {wrong}") from None
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    told = facts(
        file=files.certificate,
        since=certificate.not_valid_before,
        until=certificate.not_valid_after,
    )
    if now > certificate.not_valid_after:
        log.warning("the certificate has expired: callers will refuse it %s", told)
    elif now < certificate.not_valid_before:
        log.warning("the certificate is not valid yet: callers will refuse it %s", told)


def subject_of(certificate: bytes) -> Subject:
    """Who a certificate (DER) was given to, its parts in the order of RFC 4514: `CN=host,O=Example`."""
    names = x509.load_der_x509_certificate(certificate).subject
    return tuple(
        (attribute.rfc4514_attribute_name, str(attribute.value))
        for part in reversed(names.rdns)
        for attribute in part
    )
