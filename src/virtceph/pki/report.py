"""Which certificates there are, and when each ends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from virtceph.pki.files import PkiError, read_certificate
from virtceph.pki.profiles import ends, now

_DAY_S = 86400


@dataclass(frozen=True)
class Found:
    """One certificate. `kind` is `authority`, `host` or `client`; `days_left` is negative once it ended."""

    path: Path
    name: str
    kind: str
    names: list[str]
    ends_at: str
    days_left: int

    def as_json(self) -> dict[str, Any]:
        """For who reads it by a program."""
        return {
            "path": str(self.path),
            "name": self.name,
            "kind": self.kind,
            "names": self.names,
            "endsAt": self.ends_at,
            "daysLeft": self.days_left,
        }


def certificates_in(paths: Iterable[Path]) -> list[Found]:
    """Those in files, and in folders and the `certs/` below them; each once. Blocks. Raises PkiError."""
    files: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found = [*path.glob("*.pem"), *path.glob("certs/*.pem")]
            files |= dict.fromkeys(sorted(found))
        else:
            files[path] = None
    return [_found(path) for path in files]


def _found(path: Path) -> Found:
    certificate = read_certificate(path)
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if not common:
        raise PkiError(f"{path}: its subject has no CN")
    until = ends(certificate)
    left_s = (until - now()).total_seconds()
    return Found(
        path,
        str(common[0].value),
        _kind(certificate),
        _names(certificate),
        f"{until.isoformat()}Z",
        math.floor(left_s / _DAY_S),
    )


def _kind(certificate: x509.Certificate) -> str:
    extensions = certificate.extensions
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "authority"
    except x509.ExtensionNotFound:
        pass
    try:
        uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "host"
    return "host" if ExtendedKeyUsageOID.SERVER_AUTH in uses else "client"


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found.value]
