"""Files on this host that hold keys: libvirt's own, and the keyrings that a ceph.conf leads to."""

from __future__ import annotations

import base64
import binascii
import configparser
import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from virtceph.doctor.seen import KeyFiles
from virtceph.sensitive import Sensitive

_ADMIN = "admin"
# [v2:10.0.0.1:3300/0,v1:10.0.0.1:6789/0], or 10.0.0.1, or mon1.example:6789. The brackets of a vector match
# nothing; those of an IPv6 address belong to it.
_MONITOR = re.compile(r"(?:v[12]:)?(\[[0-9a-fA-F:]+\]|[^\s,;\[\]:/]+)(?::(\d+))?(?:/\d+)?")


def libvirt_key_files(folder: Path) -> KeyFiles:
    """The values that libvirt has on disk under its own `folder`, as /etc/libvirt. Blocks on the disk."""
    clear: dict[UUID, Path] = {}
    encrypted: dict[UUID, Path] = {}
    try:
        for path in sorted((folder / "secrets").iterdir()):
            kinds = {".base64": clear, ".aes256cbc": encrypted}
            if path.suffix in kinds:
                kinds[path.suffix][UUID(path.stem)] = path
    except FileNotFoundError:
        return KeyFiles(folder / "secrets", {})
    except (OSError, ValueError):
        return KeyFiles(folder / "secrets", None)
    return KeyFiles(folder / "secrets", {**clear, **encrypted}, frozenset(encrypted))


@dataclass(frozen=True)
class CephConf:
    """What a ceph.conf says of its cluster, and the administrator's key if this user can read it."""

    path: Path
    monitors: tuple[str, ...]
    keyring: Path | None
    key: Sensitive | None


def read_ceph_conf(path: Path) -> CephConf | None:
    """A ceph.conf; None where there is none that can be read. Blocks on the disk."""
    parser = configparser.ConfigParser(
        strict=False, interpolation=None, delimiters=("=",), inline_comment_prefixes=("#", ";")
    )
    # `mon host` and `mon_host` are one option.
    parser.optionxform = lambda name: "_".join(name.lower().split())  # type: ignore[assignment]
    try:
        parser.read_string(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return None
    monitors = monitors_in(_option(parser, "mon_host") or "")
    for keyring in _keyrings(parser, path):
        key = key_in(keyring, _ADMIN)
        if key is not None:
            return CephConf(path, monitors, keyring, key)
    return CephConf(path, monitors, None, None)


def monitors_in(mon_host: str) -> tuple[str, ...]:
    """The addresses in a `mon_host`, `host:port` each; those without a port have v1's."""
    found = [f"{m[1]}:{m[2] or '6789'}" for m in _MONITOR.finditer(mon_host)]
    return tuple(dict.fromkeys(found))


def key_in(keyring: Path, user: str) -> Sensitive | None:
    """The key of client.`user` in a keyring; None where it cannot be had. Blocks on the disk."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    try:
        parser.read_string("\n".join(map(str.strip, keyring.read_text("utf-8").splitlines())))
        return Sensitive(base64.b64decode(parser.get(f"client.{user}", "key"), validate=True))
    except (OSError, UnicodeDecodeError, configparser.Error, binascii.Error):
        return None


def _option(parser: configparser.ConfigParser, name: str) -> str | None:
    for section in (f"client.{_ADMIN}", "client", "global"):
        if parser.has_option(section, name):
            return parser.get(section, name)
    return None


def _keyrings(parser: configparser.ConfigParser, conf: Path) -> list[Path]:
    configured = _option(parser, "keyring")
    usual = conf.parent / f"{conf.stem}.client.{_ADMIN}.keyring"
    if configured is None:
        return [usual]
    names = {"$cluster": conf.stem, "$name": f"client.{_ADMIN}", "$type": "client", "$id": _ADMIN}
    for variable, value in names.items():
        configured = configured.replace(variable, value)
    return [Path(part.strip()) for part in configured.split(",")] + [usual]
