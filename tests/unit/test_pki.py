"""`virtceph pki`: certificates that OpenSSL verifies, keys nobody else reads, and nothing overwritten."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from virtceph import config
from virtceph.cli.main import main
from virtceph.pki import files
from virtceph.pki.authority import Authority
from virtceph.pki.files import Layout, PkiError, authority_layout, read_certificate, read_key, write
from virtceph.rpc.access import Access
from virtceph.rpc.tls import ServerTls, TlsFiles, subject_of

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    folder = tmp_path / "ca"
    assert pki("init", "--ca", str(folder)) == 0
    return folder


def pki(*words: str) -> int:
    return main(["pki", *words])


def host(ca: Path, *more: str) -> Layout:
    out = ca.parent / "host"
    assert pki("host", "web01.example.com", "--ca", str(ca), "--out", str(out), *more) == 0
    return Layout(out)


def client(ca: Path, *more: str) -> Layout:
    out = ca.parent / "client"
    words = ("client", "engine", "--level", "operator", "--ca", str(ca), "--out", str(out))
    assert pki(*words, *more) == 0
    return Layout(out)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def verified(layout: Layout, purpose: str, *more: str) -> bool:
    argv = ["openssl", "verify", "-x509_strict", "-purpose", purpose, "-CAfile", str(layout.ca)]
    done = subprocess.run(
        [*argv, *more, str(layout.certificate)], capture_output=True, text=True, check=False
    )
    return done.returncode == 0


@openssl
def test_openssl_verifies_a_host_as_a_server_and_by_its_names(ca: Path) -> None:
    layout = host(ca, "--dns", "web01.example.com", "--dns", "web01", "--ip", "10.0.0.1")
    assert verified(layout, "sslserver", "-verify_hostname", "web01.example.com")
    assert verified(layout, "sslserver", "-verify_hostname", "web01")
    assert verified(layout, "sslserver", "-verify_ip", "10.0.0.1")
    assert not verified(layout, "sslserver", "-verify_hostname", "web02.example.com")
    # A host's own tools call with its certificate.
    assert verified(layout, "sslclient")


@openssl
def test_openssl_verifies_a_caller_as_a_client_and_not_as_a_server(ca: Path) -> None:
    layout = client(ca)
    assert verified(layout, "sslclient")
    assert not verified(layout, "sslserver")


@openssl
def test_a_caller_cannot_give_out_certificates(ca: Path, tmp_path: Path) -> None:
    layout, forged = client(ca), tmp_path / "forged.pem"
    for argv in (
        ["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", "/dev/null", "-subj", "/CN=admin", "-out", f"{tmp_path}/r"],
        ["x509", "-req", "-in", f"{tmp_path}/r", "-CA", str(layout.certificate),
         "-CAkey", str(layout.key), "-CAcreateserial", "-out", str(forged)],
    ):  # fmt: skip
        subprocess.run(["openssl", *argv], check=True, capture_output=True)
    argv = ["openssl", "verify", "-CAfile", str(layout.ca), "-untrusted", str(layout.certificate)]
    done = subprocess.run([*argv, str(forged)], capture_output=True, check=False)
    assert done.returncode != 0


def test_an_authority_may_make_no_further_authorities(ca: Path) -> None:
    certificate = read_certificate(authority_layout(ca).certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)


def test_keys_are_p256_and_numbers_are_random(ca: Path) -> None:
    one, other = host(ca), client(ca)
    for layout in (one, other):
        assert isinstance(read_key(layout.key).curve, ec.SECP256R1)
    numbers = [read_certificate(layout.certificate).serial_number for layout in (one, other)]
    assert len(set(numbers)) == 2
    assert all(number.bit_length() > 100 for number in numbers)


def test_keys_are_for_their_owner_alone_and_certificates_for_all(ca: Path) -> None:
    old = os.umask(0)  # whatever the caller's is
    try:
        layout = host(ca)
    finally:
        os.umask(old)
    assert mode(layout.key) == 0o600
    assert mode(authority_layout(ca).key) == 0o600
    assert mode(layout.certificate) == mode(layout.ca) == 0o644
    assert {path.name for path in layout.folder.rglob("*") if path.is_file()} == {
        "vdsmkey.pem",
        "vdsmcert.pem",
        "cacert.pem",
    }


def test_nothing_is_overwritten_without_force(ca: Path, capsys: Any) -> None:
    layout = host(ca)
    before = {path: path.read_bytes() for path in ca.parent.rglob("*.pem")}
    assert pki("init", "--ca", str(ca)) == 1
    assert pki("host", "other", "--ca", str(ca), "--out", str(layout.folder)) == 1
    words = ("client", "other", "--level", "admin", "--ca", str(ca), "--out", str(layout.folder))
    assert pki(*words) == 1
    assert "is there already; --force replaces it" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in ca.parent.rglob("*.pem")} == before
    assert pki(*words, "--force") == 0
    assert layout.key.read_bytes() != before[layout.key]


def test_one_file_that_is_there_keeps_the_others_from_being_written(
    ca: Path, tmp_path: Path
) -> None:
    out = tmp_path / "some"
    (out / "certs").mkdir(parents=True)
    (out / "certs/vdsmcert.pem").write_text("precious")
    assert pki("host", "a", "--ca", str(ca), "--out", str(out)) == 1
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["vdsmcert.pem"]


def test_of_two_that_write_at_once_the_second_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys/k.pem"
    write(path, b"first", secret=True, force=False)
    with pytest.raises(PkiError, match="is there already"):
        write(path, b"second", secret=True, force=False)
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    target, path = tmp_path / "target", tmp_path / "k.pem"
    path.symlink_to(target)
    with pytest.raises(PkiError):
        write(path, b"key", secret=True, force=False)
    assert not target.exists()
    write(path, b"key", secret=True, force=True)
    assert not target.exists()
    assert not path.is_symlink()


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "k.pem"
    path.write_bytes(b"before")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(PkiError, match="No space left"):
        write(path, b"after", secret=True, force=True)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_renewed_certificate_is_of_the_same_names_and_the_same_key(ca: Path) -> None:
    layout = host(ca, "--dns", "a.example.com", "--ip", "10.0.0.1", "--days", "10")
    key, before = layout.key.read_bytes(), read_certificate(layout.certificate)
    assert pki("renew", str(layout.folder), "--ca", str(ca)) == 0
    after = read_certificate(layout.certificate)
    assert layout.key.read_bytes() == key
    assert (after.subject, after.issuer) == (before.subject, before.issuer)
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage):
        ours, theirs = (c.extensions.get_extension_for_class(kind).value for c in (before, after))
        assert ours == theirs
    assert after.serial_number != before.serial_number
    assert after.not_valid_after > before.not_valid_after
    # With a certificate and a key that belong together all the while, a daemon loads it at any moment.
    assert ServerTls(TlsFiles("http", str(layout.certificate), str(layout.key), str(layout.ca)))


def test_a_new_key_is_made_when_it_is_asked_for(ca: Path) -> None:
    layout = client(ca)
    before = layout.key.read_bytes()
    assert pki("renew", str(layout.folder), "--ca", str(ca), "--new-key") == 0
    assert layout.key.read_bytes() != before
    assert mode(layout.key) == 0o600
    ServerTls(TlsFiles("http", str(layout.certificate), str(layout.key), str(layout.ca)))


def test_what_another_authority_gave_out_is_not_renewed(
    ca: Path, tmp_path: Path, capsys: Any
) -> None:
    layout, other = client(ca), tmp_path / "other"
    assert pki("init", "--ca", str(other)) == 0  # of the same name
    before = layout.certificate.read_bytes()
    assert pki("renew", str(layout.folder), "--ca", str(other)) == 1
    assert "is not of this authority" in capsys.readouterr().err
    assert layout.certificate.read_bytes() == before


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    assert pki("init", "--ca", str(folder), "--days", "5") == 0
    layout = host(folder)
    ends = read_certificate(layout.certificate).not_valid_after
    assert ends == Authority(folder).certificate.not_valid_after


def test_a_hosts_name_that_is_none_is_told_as_it_was_given(ca: Path, capsys: Any) -> None:
    out = ("--out", str(ca.parent / "out"), "--ca", str(ca))
    for words in (("host", "a b", *out), ("host", "a", "--dns", "a b", *out)):
        assert pki(*words) == 1
        assert capsys.readouterr().err == "virtceph: 'a b': expected a host's name in DNS\n"


@pytest.mark.parametrize(
    "words",
    [
        ("init", "--days", "0"),
        ("init", "--days", "7301"),
        ("init", "--name", "a,b"),
        ("host", "a", "--days", "826"),
        ("host", "a", "--dns", "not a name"),
        ("host", "a", "--ip", "10.0.0.300"),
        ("host", "a=b"),
        ("client", "a,CN=admin", "--level", "admin"),
        ("client", "", "--level", "admin"),
        ("client", "a" * 65, "--level", "admin"),
        ("client", "a\nb", "--level", "admin"),
        ("host", "a", "--owner", "no-such-user"),
    ],
)
def test_bad_input_makes_nothing_and_is_told(ca: Path, words: tuple[str, ...], capsys: Any) -> None:
    folder = ca.parent / "new" if words[0] == "init" else ca
    out = [] if words[0] == "init" else ["--out", str(ca.parent / "out")]
    assert pki(*words, "--ca", str(folder), *out) == 1
    assert capsys.readouterr().err.startswith("virtceph: ")
    assert not (ca.parent / "new").exists()
    assert not (ca.parent / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("client", "a"),
        ("client", "a", "--level", "god"),
        ("host",),
        ("revoke", "a"),
        ("renew",),
        ("init", "--days", "x"),
    ],
)
def test_a_wrong_command_line_ends_with_2(words: tuple[str, ...], capsys: Any) -> None:
    assert pki(*words) == 2
    assert "usage: virtceph pki" in capsys.readouterr().err


def test_that_nothing_is_revoked_is_said_plainly(capsys: Any) -> None:
    assert pki("-h") == 0
    assert "no list of revoked certificates" in capsys.readouterr().out


def test_what_is_printed_for_the_configuration_lets_the_caller_in(ca: Path, capsys: Any) -> None:
    layout = client(ca)
    text = capsys.readouterr().out
    assert '[access]\noperators = ["cert:CN=engine"]' in text
    settings = config.parse({"access": {"operators": ["cert:CN=engine"]}})
    der = read_certificate(layout.certificate).public_bytes(files.serialization.Encoding.DER)
    caller = Access(settings.access).of_subject(subject_of(der), "10.0.0.1:5")
    assert caller is not None
    assert caller.level == "operator"


def test_the_default_layout_is_where_the_daemon_looks(ca: Path, capsys: Any) -> None:
    stomp, http = config.Config().stomp, config.Config().http
    for options in (stomp, http):
        layout = Layout(Path("/etc/pki/vdsm"))
        there = (str(layout.certificate), str(layout.key), str(layout.ca))
        assert (options.certificate, options.key, options.ca) == there
    host(ca)
    text = capsys.readouterr().out
    for name in ("certs/vdsmcert.pem", "keys/vdsmkey.pem", "certs/cacert.pem"):
        assert f'"{ca.parent}/host/{name}"' in text


def test_show_says_what_ends_when_and_fails_when_that_is_soon(ca: Path, capsys: Any) -> None:
    layout = host(ca, "--days", "40", "--dns", "a.example.com")
    capsys.readouterr()
    assert pki("show", str(layout.folder), str(ca), "--json") == 0
    found = {one["kind"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(found) == {"host", "authority"}
    assert found["host"]["name"] == "web01.example.com"
    assert found["host"]["names"] == ["a.example.com"]
    assert found["host"]["daysLeft"] in (39, 40)
    ends = datetime.datetime.fromisoformat(found["host"]["endsAt"])
    left = ends - datetime.datetime.now(datetime.UTC)
    assert 39 < left.total_seconds() / 86400 <= 40
    assert pki("show", str(layout.folder), "--within", "41") == 1
    assert "web01.example.com" in capsys.readouterr().out


def test_show_of_what_is_no_certificate_is_told(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    assert pki("show", str(tmp_path)) == 1
    assert "no certificate in PEM" in capsys.readouterr().err
    assert pki("show", str(tmp_path / "none.pem")) == 1


def test_the_command_needs_neither_a_daemon_nor_the_contract(ca: Path) -> None:
    code = (
        "import sys; from virtceph.cli.main import main; code = main(['pki', 'show', sys.argv[1]]); "
        "odd = {'virtceph.schema.spec', 'asyncio', 'libvirt', 'rados'} & set(sys.modules); "
        "sys.exit(code or ', '.join(odd) or 0)"
    )
    import sys

    done = subprocess.run(
        [sys.executable, "-c", code, str(ca)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
