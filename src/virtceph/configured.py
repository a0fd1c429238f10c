"""The keys and storage domains of the configuration, as callers would have said them."""

from __future__ import annotations

import configparser
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from virtceph.config import Config
from virtceph.errors import BadSecretRequest
from virtceph.host.secretrequests import SecretInfo, check_request
from virtceph.host.storageinfo import Settings
from virtceph.optionfile import ConfigError
from virtceph.schema import Codec, Contract
from virtceph.schema.decode import Mismatch
from virtceph.siteoptions import Secret, StorageDomain

# A key has 40 characters in base64; a keyring may hold many users.
_MAX_BYTES = 1 << 20


def configured_secrets(settings: Config, contract: Contract) -> list[SecretInfo]:
    """The `[[secret]]` tables with their keys. Blocks on files.

    Raises:
        ConfigError: a value that no caller could give either, one that is there twice, or a key that cannot
            be read.
    """
    decode = Codec(contract).decoder("SecretInfo")
    found: list[SecretInfo] = [
        _decoded(decode, _secret(one, f"secret[{index}]"), f"secret[{index}]")
        for index, one in enumerate(settings.secret)
    ]
    try:
        check_request(found, settings.secrets.usage_prefix)
    except BadSecretRequest as error:
        where, _, name = error.field.removeprefix("secrets").partition(".")
        field = f"secret{where}.{_OPTIONS.get(name, name)}"
        raise ConfigError(f"{field}: expected {error.expected}") from None
    return found


def configured_domains(settings: Config, contract: Contract) -> list[Settings]:
    """The `[[storage_domain]]` tables.

    Raises:
        ConfigError: a value that no caller could give either, or a secret that is not configured.
    """
    decode = Codec(contract).params_decoder(contract.verbs["StorageDomain.connect"].params)
    found = []
    for index, one in enumerate(settings.storage_domain):
        where = f"storage_domain[{index}]"
        if one.secret not in [secret.uuid for secret in settings.secret]:
            raise ConfigError(f"{where}.secret: expected the uuid of a [[secret]]")
        values = _decoded(lambda raw, _where: decode(raw), _domain(one), where)
        found.append(Settings(**{**values, "monitors": tuple(values["monitors"])}))
    ids = [domain.storage_domain_id for domain in found]
    for index, ident in enumerate(ids):
        if ident in ids[:index]:
            raise ConfigError(f"storage_domain[{index}].uuid: expected each once")
    return found


# What the contract calls what an option says.
_OPTIONS = {
    "storageDomainID": "uuid",
    "secretUUID": "secret",
    "usageID": "usage_id",
    "password": "key_file",
}


def _decoded(decode: Any, raw: Mapping[str, Any], where: str) -> Any:
    try:
        return decode(raw, "")
    except Mismatch as error:
        name, *rest = error.field.lstrip(".").partition("[")
        field = _OPTIONS.get(name, name) + "".join(rest)
        raise ConfigError(f"{where}.{field}: expected {error.expected}") from None


def _domain(one: StorageDomain) -> dict[str, Any]:
    return {
        "storageDomainID": one.uuid,
        "name": one.name,
        "monitors": one.monitors,
        "user": one.user,
        "secretUUID": one.secret,
        "pool": one.pool,
        "namespace": one.namespace,
    }


def _secret(one: Secret, where: str) -> dict[str, Any]:
    if bool(one.key_file) is bool(one.keyring):
        raise ConfigError(f"{where}: expected either key_file or keyring")
    if bool(one.keyring) is not bool(one.user):
        raise ConfigError(f"{where}.user: expected with keyring, and only there")
    if one.key_file:
        key = _read(_place(one.key_file, f"{where}.key_file"), f"{where}.key_file").strip()
    else:
        key = _of_keyring(one, f"{where}.keyring")
    return {
        "uuid": one.uuid,
        "usageType": "ceph",
        "usageID": one.usage_id,
        "password": key,
        "description": one.description,
    }


def _place(name: str, where: str) -> Path:
    if "/" in name:
        return Path(name)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if folder is None:
        raise ConfigError(
            f"{where}: expected a path, or a credential that systemd passes; it passes none"
        )
    return Path(folder) / name


def _read(path: Path, where: str) -> str:
    try:
        with path.open() as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IROTH:
                raise ConfigError(f"{where}: {path}: everybody may read it; chmod o-r")
            return file.read(_MAX_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: {path}: {getattr(error, 'strerror', 'no text')}") from None


def _of_keyring(one: Secret, where: str) -> str:
    """Source: Ceph's keyring format, sections `[client.NAME]` with `key = `."""
    # Whoever reads an error of the parser would see lines of the file.
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",))
    try:
        parser.read_string(_read(Path(one.keyring), where))
    except configparser.Error:
        raise ConfigError(f"{where}: {one.keyring}: is no keyring") from None
    key = parser.get(f"client.{one.user}", "key", fallback=None)
    if key is None:
        raise ConfigError(f"{where}: {one.keyring}: has no key of client.{one.user}")
    return key.strip()
