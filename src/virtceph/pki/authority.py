"""The authority: made, giving out certificates, and renewing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from virtceph.pki import profiles
from virtceph.pki.files import (
    Layout,
    PkiError,
    authority_layout,
    certificate_pem,
    key_pem,
    read_certificate,
    read_key,
    require_free,
    write,
)

# A user and a group, as numbers.
Owner = tuple[int, int]


@dataclass(frozen=True)
class Wanted:
    """What is to be made. `names` are those by which a host is reached; `serves` is for hosts."""

    subject: x509.Name
    names: Sequence[x509.GeneralName]
    days: int
    serves: bool


class Authority:
    """One authority, in its folder."""

    def __init__(self, folder: Path) -> None:
        """Read it. Blocks. Raises PkiError."""
        layout = authority_layout(folder)
        self.certificate = read_certificate(layout.certificate)
        self._key = read_key(layout.key)
        if _public(self._key.public_key()) != _public(self.certificate.public_key()):
            raise PkiError(f"{layout.key}: is not the key of {layout.certificate}")

    @classmethod
    def make(cls, folder: Path, name: str, days: int, *, force: bool) -> Authority:
        """A new one. Blocks. Raises PkiError: there is one already, and no `force`."""
        layout = authority_layout(folder)
        if not force:
            require_free(layout.key, layout.certificate)
        key = profiles.new_key()
        certificate = profiles.authority_certificate(key, name, days)
        # The key first: of two that make one the second stops here, and nothing is a mixture of both.
        write(layout.key, key_pem(key), secret=True, force=force)
        write(layout.certificate, certificate_pem(certificate), secret=False, force=force)
        return cls(folder)

    def issue(
        self, layout: Layout, wanted: Wanted, *, force: bool = False, owner: Owner | None = None
    ) -> x509.Certificate:
        """Give out a certificate with a new key, and what it is verified by. Blocks. Raises PkiError:
        something is there already, and no `force`; nothing was written."""
        if not force:
            require_free(layout.key, layout.certificate, layout.ca)
        key = profiles.new_key()
        certificate = self._sign(key.public_key(), wanted)
        write(layout.key, key_pem(key), secret=True, force=force, owner=owner)
        self._write_certificates(layout, certificate, force=force)
        return certificate

    def renew(
        self, layout: Layout, days: int, *, new_key: bool, owner: Owner | None = None
    ) -> x509.Certificate:
        """Give out a certificate anew: the same names and uses, for the same key unless it is to be a
        `new_key`. With the same key whoever reads the files meets either the old or the new one. Blocks.

        Raises:
            PkiError: it is none of this authority's.
        """
        old = read_certificate(layout.certificate)
        self._require_ours(old, layout.certificate)
        wanted = Wanted(old.subject, _names(old), days, _serves(old))
        if new_key:
            return self.issue(layout, wanted, force=True, owner=owner)
        key = read_key(layout.key)
        if _public(key.public_key()) != _public(old.public_key()):
            raise PkiError(f"{layout.key}: is not the key of {layout.certificate}; see --new-key")
        certificate = self._sign(key.public_key(), wanted)
        self._write_certificates(layout, certificate, force=True)
        return certificate

    def _sign(self, public_key: ec.EllipticCurvePublicKey, wanted: Wanted) -> x509.Certificate:
        return profiles.leaf_certificate(
            self.certificate,
            self._key,
            public_key,
            wanted.subject,
            wanted.names,
            wanted.days,
            serves=wanted.serves,
        )

    def _write_certificates(
        self, layout: Layout, certificate: x509.Certificate, *, force: bool
    ) -> None:
        write(layout.ca, certificate_pem(self.certificate), secret=False, force=force)
        write(layout.certificate, certificate_pem(certificate), secret=False, force=force)

    def _require_ours(self, certificate: x509.Certificate, path: Path) -> None:
        key, algorithm = self.certificate.public_key(), certificate.signature_hash_algorithm
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            if certificate.issuer != self.certificate.subject or algorithm is None:
                raise InvalidSignature
            signed = certificate.tbs_certificate_bytes
            key.verify(certificate.signature, signed, ec.ECDSA(algorithm))
        except InvalidSignature:
            raise PkiError(f"{path}: is not of this authority") from None


def _public(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)


def _serves(certificate: x509.Certificate) -> bool:
    found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    return ExtendedKeyUsageOID.SERVER_AUTH in found.value
