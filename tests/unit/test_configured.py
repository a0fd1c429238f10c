"""Keys and storage domains of the configuration: taken as callers say them, or refused by their option."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest

from virtceph.config import ConfigError, parse
from virtceph.configured import configured_domains, configured_secrets
from virtceph.schema import load_contract
from virtceph.sensitive import Sensitive

KEY = "AQBh3lZlAAAAABAAq6Yl0oX0y9n4bXkzqk0m0w=="
ID, DOMAIN = str(uuid.UUID(int=7)), str(uuid.UUID(int=8))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "web.key"
    path.write_text(f"{KEY}\n")
    path.chmod(0o640)
    return path


def secrets_of(**options: Any) -> list[Any]:
    table = {"uuid": ID, "usage_id": "ovirt/web", **options}
    return configured_secrets(parse({"secret": [table]}), load_contract())


def domains_of(*tables: dict[str, Any]) -> list[Any]:
    known = {"uuid": ID, "usage_id": "ovirt/web", "key_file": "/x"}
    base = {
        "uuid": DOMAIN,
        "monitors": ["10.0.0.1:6789"],
        "pool": "rbd",
        "user": "web",
        "secret": ID,
    }
    raw = {"secret": [known], "storage_domain": [{**base, **table} for table in tables]}
    return configured_domains(parse(raw), load_contract())


def test_a_key_is_read_from_its_file(key_file: Path) -> None:
    (found,) = secrets_of(key_file=str(key_file), description="the web's")
    assert (found.uuid, found.usage_type, found.usage_id) == (uuid.UUID(ID), "ceph", "ovirt/web")
    assert (found.password.reveal_base64(), found.description) == (KEY, "the web's")
    assert isinstance(found.password, Sensitive)


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"uuid": ID}, r"secret\[1\]\.uuid: expected each uuid once"),
        ({"usage_id": "ovirt/web"}, r"secret\[1\]\.usage_id: expected each usage id once"),
        (
            {"usage_id": "web"},
            r"secret\[1\]\.usage_id: expected a usage id that begins with ovirt/",
        ),
    ],
)
def test_what_libvirt_would_have_to_refuse_is_refused_before_it_is_asked(
    key_file: Path, second: dict[str, str], told: str
) -> None:
    first = {"uuid": ID, "usage_id": "ovirt/web", "key_file": str(key_file)}
    other = {**first, "uuid": DOMAIN, "usage_id": "ovirt/db", **second}
    with pytest.raises(ConfigError, match=f"^{told}"):
        configured_secrets(parse({"secret": [first, other]}), load_contract())


def test_a_name_without_a_slash_is_a_credential_of_systemds(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match=r"^secret\[0\]\.key_file: .* it passes none"):
        secrets_of(key_file="web.key")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(key_file.parent))
    (found,) = secrets_of(key_file="web.key")
    assert found.password.reveal_base64() == KEY


def test_a_key_is_read_from_a_keyring(tmp_path: Path) -> None:
    path = tmp_path / "ceph.client.web.keyring"
    path.touch(mode=0o600)
    path.write_text(
        f'[client.other]\n\tkey = AAAA\n[client.web]\n\tkey = {KEY}\n\tcaps mon = "profile rbd"\n'
    )
    (found,) = secrets_of(keyring=str(path), user="web")
    assert found.password.reveal_base64() == KEY
    with pytest.raises(ConfigError, match=r"secret\[0\]\.keyring: .* has no key of client\.db"):
        secrets_of(keyring=str(path), user="db")
    path.write_text(f"key = {KEY}\n")
    with pytest.raises(ConfigError, match="is no keyring") as caught:
        secrets_of(keyring=str(path), user="web")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "secret[0]: expected either key_file or keyring"),
        ({"key_file": "/a", "keyring": "/b"}, "secret[0]: expected either key_file or keyring"),
        ({"keyring": "/b"}, "secret[0].user: expected with keyring"),
        ({"key_file": "/a", "user": "web"}, "secret[0].user: expected with keyring"),
        ({"key_file": "/no/such"}, "secret[0].key_file: /no/such: No such file"),
    ],
)
def test_what_says_no_key_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        secrets_of(**options)
    assert str(caught.value).startswith(told)


def test_a_key_that_everybody_may_read_is_refused(key_file: Path) -> None:
    key_file.chmod(0o644)
    with pytest.raises(ConfigError, match="everybody may read it"):
        secrets_of(key_file=str(key_file))


@pytest.mark.parametrize("text", ["", "no key!", KEY[:-3]])
def test_what_is_no_key_is_refused_and_not_shown(key_file: Path, text: str) -> None:
    key_file.write_text(text)
    with pytest.raises(ConfigError, match=r"^secret\[0\]\.key_file: expected") as caught:
        secrets_of(key_file=str(key_file))
    assert not text or text not in str(caught.value)


@pytest.mark.parametrize(("option", "value"), [("uuid", "x"), ("usage_id", "a\nb")])
def test_an_option_of_a_secret_is_refused_by_its_name(
    key_file: Path, option: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^secret\[0\]\.{option}: expected"):
        secrets_of(key_file=str(key_file), **{option: value})


def test_a_storage_domain_is_taken() -> None:
    (found,) = domains_of({"namespace": "tenant"})
    assert (str(found.storage_domain_id), str(found.secret_uuid)) == (DOMAIN, ID)
    assert (found.monitors, found.pool, found.namespace) == (("10.0.0.1:6789",), "rbd", "tenant")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"uuid": "x"}, "storage_domain[1].uuid: expected a UUID"),
        ({"monitors": ["10.0.0.1"]}, "storage_domain[1].monitors[0]: expected host:port"),
        ({"monitors": []}, "storage_domain[1].monitors: expected"),
        ({"pool": "-x"}, "storage_domain[1].pool: expected a pool's name"),
        ({"secret": DOMAIN}, "storage_domain[1].secret: expected the uuid of a [[secret]]"),
        ({"uuid": DOMAIN}, "storage_domain[1].uuid: expected each once"),
    ],
)
def test_an_option_of_a_storage_domain_is_refused_by_its_name(
    options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        domains_of({}, {"uuid": str(uuid.UUID(int=9)), **options})
    assert str(caught.value).startswith(told)


def test_what_must_be_there_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"secret\[0\]\.uuid: is missing"):
        parse({"secret": [{"usage_id": "ovirt/x"}]})
    with pytest.raises(ConfigError, match=r"secret: expected \[\[secret\]\]"):
        parse({"secret": {"uuid": ID}})
