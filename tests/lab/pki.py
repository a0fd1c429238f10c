"""A small certificate authority, and what it gives out, laid out as an engine lays it out on a host."""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.lab import user

ORGANIZATION = "virtceph lab"
HOST = "host.lab"
# Who else has a certificate of the lab's authority, and at which level: `unknown.lab` at none.
CALLERS = {"engine.lab": "admins", "operator.lab": "operators", "monitor.lab": "monitors"}
UNKNOWN = "unknown.lab"
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Credentials:
    """A folder with `certs/vdsmcert.pem`, `keys/vdsmkey.pem` and `certs/cacert.pem`."""

    folder: Path

    @property
    def certificate(self) -> Path:
        """The certificate."""
        return self.folder / "certs/vdsmcert.pem"

    @property
    def key(self) -> Path:
        """Its private key."""
        return self.folder / "keys/vdsmkey.pem"

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "certs/cacert.pem"

    def options(self) -> dict[str, str]:
        """As the daemon's configuration has them."""
        return {"certificate": str(self.certificate), "key": str(self.key), "ca": str(self.ca)}


_SIGNS = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


class Authority:
    """An authority, which lives as long as this object."""

    def __init__(self, name: str = "lab authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        builder = _builder(self._name, self._name, self._key, -DAY, 30 * DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        # What Python from 3.13 on insists on (VERIFY_X509_STRICT).
        subject = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = builder.add_extension(subject, False).add_extension(_SIGNS, True)
        self._identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject)
        self._certificate = builder.sign(self._key, hashes.SHA256())

    def issue(
        self,
        folder: Path,
        name: str,
        *,
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 30 * DAY,
        trusted: "Authority | None" = None,
        owner: tuple[int, int] | None = None,
    ) -> Credentials:
        """Give out a certificate for both ends of a connection, with its key. Blocks.

        `begins` and `ends` count from now. Whoever has it trusts `trusted`, or this authority. `owner` is
        the user and group that may read the key.
        """
        made = Credentials(folder)
        key = ec.generate_private_key(ec.SECP256R1())
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        certificate = (
            _builder(_subject(name), self._name, key, begins, ends)
            .add_extension(x509.ExtendedKeyUsage(uses), False)
            .add_extension(x509.SubjectAlternativeName(addresses), False)
            .add_extension(self._identifier, False)
            .sign(self._key, hashes.SHA256())
        )
        for path in (made.certificate, made.key):
            path.parent.mkdir(parents=True, exist_ok=True)
        _write(made.key, _key_pem(key), owner)
        _write(made.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        ours = (trusted or self)._certificate
        _write(made.ca, ours.public_bytes(serialization.Encoding.PEM))
        return made


@dataclass(frozen=True)
class LabPki:
    """The certificates of a lab: the host's own in `folder`, those of its callers below it by their names.

    The host's may call the daemon, too, as an admin: an engine's tools on a host have no other.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> "LabPki":
        """Make all of them. The daemon's user may read the host's key. Blocks."""
        made, authority = cls(folder), Authority()
        authority.issue(folder, HOST, owner=(0, user.ensure().gid))
        for name in (*CALLERS, UNKNOWN):
            authority.issue(folder / name, name)
        return made

    @property
    def host(self) -> Credentials:
        """The host's."""
        return Credentials(self.folder)

    def of(self, caller: str) -> Credentials:
        """A caller's, by his name."""
        return Credentials(self.folder / caller)

    def settings(
        self, port: int, address: str = "127.0.0.1", https_port: int | None = None
    ) -> dict[str, dict[str, Any]]:
        """What a daemon's configuration says to be called by engines there, and over HTTP at another port.
        Does not block."""
        access: dict[str, list[str]] = {
            "admins": ["user:root", "group:virtceph", f"cert:CN={HOST}"]
        }
        for name, level in CALLERS.items():
            access.setdefault(level, []).append(f"cert:CN={name}")
        listens = {"enabled": True, "address": address, **self.host.options()}
        told: dict[str, dict[str, Any]] = {"access": access, "stomp": {**listens, "port": port}}
        return told if https_port is None else {**told, "http": {**listens, "port": https_port}}


def _subject(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, owner: tuple[int, int] | None = None) -> None:
    # Written aside and renamed, as whoever renews certificates should do it.
    new = path.with_suffix(".new")
    new.write_bytes(content)
    if path.parent.name == "keys":
        new.chmod(0o640)
    if owner is not None:
        os.chown(new, *owner)
    new.rename(path)
