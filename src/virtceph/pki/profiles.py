"""What the certificates say: who they are for, what for, and for how long."""

from __future__ import annotations

import datetime
import ipaddress
import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from virtceph.pki.files import PkiError

ORGANIZATION = "virtceph"
CA_DAYS, MOST_CA_DAYS = 3650, 7300
# A little over a year; nobody should have to trust a host's key for longer than two.
LEAF_DAYS, MOST_LEAF_DAYS = 397, 825
# Clocks of hosts differ.
_EARLIER = datetime.timedelta(hours=1)
# What can stand in `cert:CN=…` of the configuration without a doubt.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
_DNS = re.compile(r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9-]{1,63}")


def new_key() -> ec.EllipticCurvePrivateKey:
    """P-256: what every engine's Java of the last ten years can use, unlike Ed25519, and small."""
    return ec.generate_private_key(ec.SECP256R1())


def now() -> datetime.datetime:
    """The moment, in UTC and without a zone, as certificates have it."""
    return datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)


def ends(certificate: x509.Certificate) -> datetime.datetime:
    """Until when a certificate is valid; UTC, without a zone."""
    later: datetime.datetime | None = getattr(certificate, "not_valid_after_utc", None)
    return certificate.not_valid_after if later is None else later.replace(tzinfo=None)


def subject_of(name: str) -> x509.Name:
    """The subject of a host, caller or authority. Raises PkiError."""
    if not _NAME.fullmatch(name):
        expected = (
            "letters, digits, blanks and . _ @ -, at most 64, beginning with a letter or digit"
        )
        raise PkiError(f"{name!r} is no name: expected {expected}")
    parts = (NameOID.ORGANIZATION_NAME, ORGANIZATION), (NameOID.COMMON_NAME, name)
    return x509.Name([x509.NameAttribute(*part) for part in parts])


def alternatives(dns: Sequence[str], ips: Sequence[str]) -> list[x509.GeneralName]:
    """The names and addresses by which a host is reached. Raises PkiError."""
    found: list[x509.GeneralName] = []
    for name in dns:
        if len(name) > 253 or not _DNS.fullmatch(name):
            raise PkiError(f"{name!r}: expected a host's name in DNS")
        found.append(x509.DNSName(name))
    for address in ips:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            raise PkiError(f"--ip {address}: expected an IP address") from None
    return found


def authority_certificate(
    key: ec.EllipticCurvePrivateKey, name: str, days: int
) -> x509.Certificate:
    """That of an authority, by itself. It may make no further authorities. Raises PkiError."""
    subject = subject_of(name)
    builder = _builder(subject, subject, key.public_key(), _until(days, MOST_CA_DAYS))
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(_identifier(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def leaf_certificate(
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    public_key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    days: int,
    *,
    serves: bool,
) -> x509.Certificate:
    """That of a host (`serves`, and calls, as its own tools do) or a caller; no longer valid than the
    authority. Raises PkiError."""
    until = min(_until(days, MOST_LEAF_DAYS), ends(ca))
    if until <= now():
        raise PkiError("the authority has expired: make another one")
    uses = [ExtendedKeyUsageOID.SERVER_AUTH] if serves else []
    builder = (
        _builder(subject, ca.subject, public_key, until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([*uses, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(_identifier(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _until(days: int, most: int) -> datetime.datetime:
    if not 1 <= days <= most:
        raise PkiError(f"--days {days}: expected 1 to {most}")
    return now() + datetime.timedelta(days=days)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    until: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - _EARLIER)
        .not_valid_after(until)
    )


def _identifier(public_key: ec.EllipticCurvePublicKey) -> x509.SubjectKeyIdentifier:
    return x509.SubjectKeyIdentifier.from_public_key(public_key)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )
