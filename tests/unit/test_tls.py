"""Certificates: what cannot be used is told by its option, and who a caller is."""

from __future__ import annotations

import datetime
import logging
import re
import shutil
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lab.pki import DAY, ORGANIZATION, Authority, Credentials
from virtceph.config import Access as Settings
from virtceph.config import ConfigError
from virtceph.rpc.access import Access
from virtceph.rpc.tls import ServerTls, TlsFiles, subject_of


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def host(authority: Authority, tmp_path: Path) -> Credentials:
    return authority.issue(tmp_path / "host", "host.lab")


def load(credentials: Credentials) -> ServerTls:
    return ServerTls(TlsFiles("stomp", **credentials.options()))


def encrypted_key(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def test_each_file_that_cannot_be_used_is_told_by_its_option(
    authority: Authority, host: Credentials, tmp_path: Path
) -> None:
    other = authority.issue(tmp_path / "other", "other.lab")
    damages = {
        "stomp.certificate: %s: No such file": (host.certificate, host.certificate.unlink),
        "stomp.certificate: %s: no certificate in PEM": (
            host.certificate,
            lambda: host.certificate.write_text("rubbish"),
        ),
        "stomp.key: %s: No such file": (host.key, host.key.unlink),
        "stomp.key: %s: no private key in PEM": (host.key, lambda: host.key.write_text("x")),
        "stomp.key: %s: no private key in PEM, or one with": (
            host.key,
            lambda: encrypted_key(host.key),
        ),
        "stomp.key: %s: is not the key of": (host.key, lambda: shutil.copy(other.key, host.key)),
        "stomp.ca: %s: No such file": (host.ca, host.ca.unlink),
        "stomp.ca: %s: no certificate in PEM": (host.ca, lambda: host.ca.write_text("x")),
    }
    for told, (path, damage) in damages.items():
        authority.issue(host.folder, "host.lab")
        damage()
        with pytest.raises(ConfigError, match=re.escape(told % path)):
            load(host)


@pytest.mark.parametrize(
    ("begins", "ends", "told"),
    [(-2 * DAY, -DAY, "has expired"), (DAY, 2 * DAY, "is not valid yet")],
)
def test_a_certificate_out_of_its_time_is_a_warning(
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    begins: datetime.timedelta,
    ends: datetime.timedelta,
    told: str,
) -> None:
    load(authority.issue(tmp_path / "late", "late.lab", begins=begins, ends=ends))
    (record,) = caplog.records
    assert (record.levelno, told in record.message) == (logging.WARNING, True)


def test_callers_must_have_a_certificate_and_a_new_version_of_tls(host: Credentials) -> None:
    context = load(host).context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.num_tickets == 0


def der(*parts: tuple[x509.ObjectIdentifier, str]) -> bytes:
    """A certificate whose subject has these parts, as they are written one after the other."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(*part) for part in parts])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now).not_valid_after(now + DAY)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def test_a_subject_has_short_names_in_the_order_of_rfc_4514() -> None:
    certificate = der(
        (NameOID.COUNTRY_NAME, "DE"),
        (NameOID.ORGANIZATION_NAME, "Example, Ltd"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "VMs"),
        (NameOID.COMMON_NAME, "engine.example.com"),
    )
    assert subject_of(certificate) == (
        ("CN", "engine.example.com"),
        ("OU", "VMs"),
        ("O", "Example, Ltd"),
        ("C", "DE"),
    )


def test_a_subject_of_nothing_is_nobody() -> None:
    assert subject_of(der()) == ()
    assert Access(Settings(admins=["cert:CN=x"])).of_subject((), "") is None


def test_nobody_can_be_called_like_another_one() -> None:
    access = Access(Settings(admins=["cert:*"]))
    two = access.of_subject((("CN", "a"), ("O", "b")), "")
    one = access.of_subject((("CN", "a,O=b"),), "")
    assert two is not None
    assert one is not None
    assert (two.name, one.name) == ("cert:CN=a,O=b", "cert:CN=a\\,O=b")


def test_a_rule_fits_its_own_certificate_only(authority: Authority, tmp_path: Path) -> None:
    issued = authority.issue(tmp_path / "x", "x.lab")
    subject = subject_of(ssl.PEM_cert_to_DER_cert(issued.certificate.read_text()))
    for rule, fits in {
        "cert:CN=x.lab": True,
        f"cert:O={ORGANIZATION}": True,
        f"cert:CN=x.lab,O={ORGANIZATION}": True,
        "cert:CN=x": False,
        "cert:CN=X.LAB": False,
        "cert:O=x.lab": False,
        "cert:CN=x.lab,O=other": False,
        "plain:*": False,
        "user:x.lab": False,
    }.items():
        found = Access(Settings(admins=[rule])).of_subject(subject, "")
        assert (found is not None) is fits, rule
